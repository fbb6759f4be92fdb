"""`harness tool`: a runtime's own benchmark tool, run on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.console import FormatOption, Output, note


def tool(
    name: Annotated[
        str, typer.Argument(help="benchmark_model, litert-benchmark, onnxruntime_perf_test or executor_runner.")
    ],
    model: Annotated[Path, typer.Argument(help="The .tflite, .onnx or .pte file.")],
    program: Annotated[Path, typer.Option("--program", "-p", help="The tool, built for the device.")],
    device: Annotated[str, typer.Option("--device", "-d", help="From `harness devices`.")] = "host",
    threads: Annotated[int, typer.Option("--threads", "-t", min=1)] = 1,
    iterations: Annotated[int, typer.Option("--iterations", "-n", min=1, help="At least so many.")] = 50,
    more: Annotated[
        list[str] | None, typer.Option("--flag", help="A flag of the tool itself, as it is. Repeatable.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="Seconds, for the whole.")] = 600.0,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Run a runtime's own benchmark tool on a device, and read what it says.

    Its figures are a summary that the tool made. They are kept apart from those of `harness run`, which hold every
    sample; a line that is not known is an error and no figure.

    Example:
        harness tool benchmark_model net.tflite -p ./benchmark_model -d R5CT1234ABC --flag=--use_gpu=true
    """
    from harness import pipeline  # noqa: PLC0415
    from harness.tables import to_json, tool_text  # noqa: PLC0415

    note(f"running {name} on {device} ...")
    found = pipeline.run_official_tool(
        name, program, model, device, threads=threads, iterations=iterations, more=more or (), timeout_s=timeout_s
    )
    typer.echo(to_json(found) if output_format is Output.JSON else tool_text(found))
