"""`harness convert`: files made of a model, and packages checked against one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness.commands.console import FormatOption, Output, note, say_step
from harness.errors import CellsFailed, NotProved

DEFAULT = "model"
_MISMATCH = (
    "Every figure of the comparison is printed above. Was the package made of these very weights, with the same "
    "preprocessing?"
)


class _DefaultGroup(TyperGroup):
    """`harness convert NAME` is `harness convert model NAME`: converting is what one mostly wants."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Put the name of the usual command in front where none is given. `ctx` is of the click that typer brings."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_DefaultGroup, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def convert() -> None:
    """Convert one model, and compare every file with the original on the same inputs.

    `harness convert NAME` is short for `harness convert model NAME`.

    Examples:
        harness convert mobilenet_v2 -a onnx/int8 -a tflite/fp16 -o build/

        harness convert check eyes.mlpackage --against light_cnn9
    """


@app.command(DEFAULT)
def convert_model(
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


@app.command()
def check(
    package: Annotated[Path, typer.Argument(help="An .mlpackage, of whatever origin.")],
    against: Annotated[
        str | None, typer.Option(help="The model that it should compute: a name, a file, or module:factory.")
    ] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Read a Core ML package back on any system, and compare what it computes with a model.

    Its program is computed operation by operation with torch. That proves graph, weights, parameters, names and types;
    it is not Core ML, and says nothing of where or how fast a device runs the package. Exit code 0 means that what was
    asked is proved: `graph-checked`, where a model is named.

    Example:
        harness convert check eyes.mlpackage --against light_cnn9
    """
    from harness import pipeline  # noqa: PLC0415
    from harness.parity import require  # noqa: PLC0415
    from harness.tables import checked_text, to_json  # noqa: PLC0415

    note(f"reading {package}" + (f", and computing it beside {against} ..." if against else " ..."))
    checked = pipeline.check_package(package, against)
    typer.echo(to_json(checked) if output_format is Output.JSON else checked_text(checked))
    if checked.parity is not None:
        require(checked.parity, package.name, advice=_MISMATCH)
    if against is not None and checked.evidence != "graph-checked":
        raise NotProved(package.name, against)
