"""`harness runtimes`: the runtimes' libraries that are here, and how others come here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.console import FormatOption, Output, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.deploy.runtime_library import RuntimeLibrary

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

VersionOption = Annotated[str | None, typer.Option("--version", "-v", help="Default: the one installed here.")]


@app.callback()
def runtimes(context: typer.Context, output_format: FormatOption = Output.TABLE) -> None:
    """List the libraries of ONNX Runtime and LiteRT that are here, and for which devices.

    What a device needs and is not here is fetched by `harness run`; an Android library has to be registered.

    Example:
        harness runtimes --format json
    """
    if context.invoked_subcommand is None:
        from harness.deploy.runtimes import list_libraries  # noqa: PLC0415

        _say(list_libraries(), output_format)


@app.command("fetch")
def runtimes_fetch(
    runtime: Annotated[str, typer.Argument(help="onnxruntime or litert; onnxruntime@1.27.0 for one version.")],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="linux-aarch64 or linux-x86_64. Repeatable. Default: this machine's."),
    ] = None,
    version: VersionOption = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Fetch a runtime's library from its wheel on PyPI into the cache.

    It has to have the SHA-256 that PyPI states. That guards the way here and not PyPI itself; the digests of wheel and
    library are in `harness runtimes --format json`, for you to compare.

    Examples:
        harness runtimes fetch onnxruntime --target linux-aarch64

        harness runtimes fetch litert --version 2.2.0
    """
    from harness.deploy.runtimes import fetch  # noqa: PLC0415
    from harness.deploy.targets import host_target  # noqa: PLC0415
    from harness.matrix import parse_runtime  # noqa: PLC0415

    name, named = parse_runtime(runtime)
    found = []
    for wanted in target or [host_target()]:
        note(f"fetching {name} for {wanted} ...")
        found.append(fetch(name, target=wanted, version=version or named))
    _say(found, output_format)


@app.command("register")
def runtimes_register(
    path: Annotated[Path, typer.Argument(help="A shared library (.so), or an Android archive (.aar, .apk).")],
    runtime: Annotated[str, typer.Option("--runtime", "-r", help="onnxruntime or litert.")],
    version: Annotated[str, typer.Option("--version", "-v", help="What it is: few libraries say so themselves.")],
    abi: Annotated[
        str | None, typer.Option("--abi", help="arm64-v8a, x86_64...; needed for an archive with several.")
    ] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Remember a library of your own, by its path and SHA-256.

    Example:
        harness runtimes register onnxruntime-android-1.27.0.aar -r onnxruntime -v 1.27.0 --abi arm64-v8a
    """
    from harness.deploy.runtime_register import register  # noqa: PLC0415

    _say([register(path, runtime=runtime, version=version, abi=abi)], output_format)


@app.command("forget")
def runtimes_forget(
    runtime: Annotated[str, typer.Argument(help="onnxruntime or litert.")],
    version: Annotated[str, typer.Option("--version", "-v", help="As it was registered.")],
    target: Annotated[str | None, typer.Option("--target", "-t", help="For this one only. Default: each.")] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Take a library of your own out of the register again. Your file stays where it is.

    Example:
        harness runtimes forget onnxruntime -v 1.27.0 --target android-arm64-v8a
    """
    from harness.deploy.runtime_register import forget  # noqa: PLC0415

    _say(forget(runtime, version, target), output_format)


def _say(libraries: Sequence[RuntimeLibrary], output_format: Output) -> None:
    from harness.tables import runtimes_table, to_json  # noqa: PLC0415

    typer.echo(to_json(libraries) if output_format is Output.JSON else runtimes_table(libraries))
