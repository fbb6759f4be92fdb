"""`harness virtual`: arm64 devices that this machine emulates, each with a real adbd."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.console import FormatOption, Output, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.device.virtual import VirtualDevice

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def virtual() -> None:
    """Start, stop and list arm64 devices that are emulated here, with a real adbd and no Android.

    They prove the way over adb and the numbers on arm64; times taken on them mean nothing and are stamped so.

    Examples:
        harness virtual start ci

        harness run mobilenet_v2 -d virtual:ci

        harness virtual stop ci
    """


@app.command("start")
def virtual_start(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="What to call each of them.")],
    memory: Annotated[
        int, typer.Option("--memory", min=256, help="Of each, in MiB; its files live there, too.")
    ] = 2048,
    disk: Annotated[int, typer.Option("--disk", min=64, help="How much of that files may take, in MiB.")] = 1024,
    cores: Annotated[int, typer.Option("--cores", min=1, max=64, help="Processors of each.")] = 2,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Start virtual devices, and wait until they answer. One that runs already is left as it is.

    The first start on a machine makes the image of Debian's packages for arm64: half a minute. No root, no KVM.

    Examples:
        harness virtual start ci

        harness virtual start one two --memory 1024 --disk 512
    """
    from harness.device.virtual import require_name, start_virtual  # noqa: PLC0415

    for name in names:
        require_name(name)  # before the first of them is started
    for name in names:
        with _progress(name) as watch:
            start_virtual(name, memory_mib=memory, disk_mib=disk, cores=cores, watch=watch)
    _print(tuple(dict.fromkeys(names)), output_format)
    note(f"use: harness run ... -d virtual:{names[0]}; end: harness virtual stop {' '.join(names)}")


@app.command("stop")
def virtual_stop(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="From `harness virtual list`.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop all that run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also those that a run is measuring on.")] = False,
) -> None:
    """Stop virtual devices. What is on them is gone. Where a run is measuring on one, none is stopped.

    Example:
        harness virtual stop ci
    """
    from harness.device.virtual import list_virtual, stop_virtual  # noqa: PLC0415
    from harness.errors import UnknownName, UsageError  # noqa: PLC0415

    running = {device.name: device for device in list_virtual()}
    if not names and not everything:
        raise UsageError("say which virtual devices to stop, or --all")
    wanted = tuple(running) if everything else tuple(dict.fromkeys(names or ()))
    with nullcontext() if force else _unused([running[name] for name in wanted if name in running]):
        for name in wanted:
            if not stop_virtual(name):
                raise UnknownName("virtual device", name, tuple(running))
            note(f"stopped {name}")


@app.command("list")
def virtual_list(output_format: FormatOption = Output.TABLE) -> None:
    """List the virtual devices that run here.

    Example:
        harness virtual list --format json
    """
    _print(None, output_format)


@contextmanager
def _unused(devices: Sequence[VirtualDevice]) -> Iterator[None]:
    """Keep runs off virtual devices while the block lasts.

    Raises:
        DeviceBusy: A run is measuring on one of them.
    """
    from harness.device.lease import leased  # noqa: PLC0415
    from harness.device.registry import find_device  # noqa: PLC0415
    from harness.device.virtual import answers  # noqa: PLC0415
    from harness.errors import DeviceBusy  # noqa: PLC0415

    # Nothing is measured on one that hangs, and it can be stopped all the same.
    found = [find_device(device.id) for device in devices if answers(device)]
    try:
        with leased(found, "virtual stop"):
            yield
    except DeviceBusy as error:
        error.hint = "Wait until it is free, or stop it all the same with --force."
        raise


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str], None]]:
    """A line that moves on a terminal, one line a step elsewhere."""
    if not sys.stderr.isatty():
        yield lambda step: note(f"{name}: {step}")
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415

    with Console(stderr=True).status(f"{name}: starting") as status:
        yield lambda step: status.update(escape(f"{name}: {step}"))


def _print(names: tuple[str, ...] | None, output_format: Output) -> None:
    from harness.device.virtual import answers, list_virtual  # noqa: PLC0415
    from harness.tables import to_json, virtual_table  # noqa: PLC0415

    views = [
        {"id": device.id, "answers": answers(device), "device": device}
        for device in list_virtual()
        if names is None or device.name in names
    ]
    typer.echo(to_json(views) if output_format is Output.JSON else virtual_table(views))
