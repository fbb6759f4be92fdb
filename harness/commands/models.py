"""`harness models` and `harness convert`: what can be measured, and the files made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.console import FormatOption, Output, say_step
from harness.errors import CellsFailed


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

    found = [find_model(name)] if name else list(list_models())
    if output_format is Output.JSON:
        typer.echo(to_json([{"origin": model.origin, "spec": model.spec} for model in found]))
    elif name:
        typer.echo(to_json(found[0].spec))
    else:
        typer.echo(models_table(found))


def convert(
    model: Annotated[str, typer.Argument(help="A name from `harness models`, a file, or module:factory.")],
    artifact: Annotated[
        list[str] | None, typer.Option("--artifact", "-a", help="format/precision, e.g. tflite/int8. Repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Copy the files to this folder.")] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Convert one model, and compare every file with the original on the same inputs.

    Example:
        harness convert mobilenet_v2 -a onnx/int8 -a tflite/fp16 -o build/
    """
    from harness import pipeline  # noqa: PLC0415
    from harness.records import Artifact  # noqa: PLC0415
    from harness.tables import conversions_table, to_json  # noqa: PLC0415

    converted = pipeline.convert_model(model, artifact or ["onnx/fp32", "tflite/fp32"], into=output, watch=say_step)
    typer.echo(to_json(converted) if output_format is Output.JSON else conversions_table(converted))
    failed = sum(not isinstance(made, Artifact) for made in converted.values())
    if failed:
        raise CellsFailed(failed, len(converted))
