"""`harness models`: what can be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.console import FormatOption, Output, note

if TYPE_CHECKING:
    from harness.errors import BadSetting


def models(
    name: Annotated[str | None, typer.Argument(help="Show this one whole.")] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """List the models that can be measured by name.

    Examples:
        harness models

        harness models mobilenet_v2 --format json
    """
    from harness.catalog.models import find_model, list_models  # noqa: PLC0415
    from harness.tables import models_table, to_json  # noqa: PLC0415
    from harness.text import clean  # noqa: PLC0415

    def tell(error: BadSetting) -> None:
        note(f"left out: {clean(str(error))}")

    found = [find_model(name)] if name else list(list_models(tell))
    if output_format is Output.JSON:
        typer.echo(to_json([{"origin": model.origin, "spec": model.spec} for model in found]))
    elif name:
        typer.echo(to_json(found[0].spec))
    else:
        typer.echo(models_table(found))
