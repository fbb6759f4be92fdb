"""`harness doctor`: what is installed, and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.console import FormatOption, Output


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also start every runtime once.")] = False,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Say what is installed, what is missing, and the command that adds it.

    Example:
        harness doctor --deep
    """
    from harness.doctor import examine  # noqa: PLC0415
    from harness.tables import findings_table, to_json  # noqa: PLC0415

    findings = examine(deep=deep)
    typer.echo(to_json(findings) if output_format is Output.JSON else findings_table(findings))
