"""`harness devices`: what is connected, its state, what stands in the way of a stable figure, and its profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.console import AdbHostOption, AdbPortOption, FormatOption, Output, adb_server, note

if TYPE_CHECKING:
    from harness.device.survey import Seen

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
DeviceArgument = Annotated[str, typer.Argument(help="Its id, from `harness devices`.")]


@app.callback()
def devices(
    context: typer.Context,
    adb_host: AdbHostOption = None,
    adb_port: AdbPortOption = None,
    start_adb: Annotated[
        bool, typer.Option("--start-adb", help="Start an adb server here first, which finds what is on USB.")
    ] = False,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """List what is connected, and what stands in the way of a stable figure.

    One that cannot be used is listed with what is wrong: offline, unauthorized, too warm. `-H` and `-P` mean the
    devices of another adb server; they go before a subcommand.

    Examples:
        harness devices

        harness devices -H 10.0.0.5 show R5CT1234ABC

        harness devices show host --format json
    """
    server = adb_server(adb_host, adb_port)
    context.obj = server
    if context.invoked_subcommand is not None:
        return
    from harness.device.adb_server import start_server  # noqa: PLC0415
    from harness.device.survey import survey  # noqa: PLC0415
    from harness.tables import device_view, devices_table, to_json  # noqa: PLC0415

    if start_adb:
        note(f"an adb server runs at {start_server(server)}")
    found = survey(server=server)
    as_json = output_format is Output.JSON
    typer.echo(to_json([device_view(seen) for seen in found]) if as_json else devices_table(found))


@app.command("show")
def devices_show(context: typer.Context, device: DeviceArgument, output_format: FormatOption = Output.TABLE) -> None:
    """Everything known about one device, now; of a product that is not connected, what its profile says.

    Examples:
        harness devices show host

        harness devices show raspberry-pi-5

        harness devices show "iPhone X"
    """
    from harness.device.profile import product_called, products, profile_of  # noqa: PLC0415
    from harness.errors import UnknownName  # noqa: PLC0415
    from harness.tables import device_text, device_view, profile_text, profile_view, to_json  # noqa: PLC0415

    as_json = output_format is Output.JSON
    try:
        seen = _look_at(context, device)
    except UnknownName as error:
        described = products()
        profile = profile_of(device) or product_called(device, described)
        if profile is None:
            error.hint += f" Products that are described: {', '.join(described)}."
            raise
        typer.echo(to_json(profile_view(profile)) if as_json else profile_text(profile))
        return
    typer.echo(to_json(device_view(seen)) if as_json else device_text(seen))


@app.command("profile")
def devices_profile(
    context: typer.Context,
    device: DeviceArgument,
    name: Annotated[
        str | None, typer.Option("--name", help="By which `-d NAME` then means it; default: its id.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder.")] = Path("device_profiles"),
    force: Annotated[bool, typer.Option("--force", help="Replace a profile that is there.")] = False,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Write a profile of a connected device: what it is, how it is reached, and a place for what is accepted there.

    Example:
        harness devices profile R5CT1234ABC --name my-galaxy
    """
    from harness.device.profile import profile_file_name, profile_of_device, require_profile_name  # noqa: PLC0415
    from harness.errors import UsageError  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415
    from harness.workspace import write_atomically  # noqa: PLC0415

    if name is not None:
        require_profile_name(name)
    seen = _look_at(context, device)
    assert seen.facts is not None
    path = output / profile_file_name(name or device)
    if path.exists() and not force:
        raise UsageError(f"{path} is there already; --force replaces it, --name chooses another")
    write_atomically(path, profile_of_device(seen.facts).encode())
    typer.echo(to_json({"path": str(path)}) if output_format is Output.JSON else str(path))


@app.command("clean")
def devices_clean(
    context: typer.Context,
    targets: Annotated[list[str], typer.Argument(metavar="DEVICE...", help="Their ids, from `harness devices`.")],
    older_than: Annotated[
        int, typer.Option("--older-than", min=0, metavar="DAYS", help="0 removes everything of ours.")
    ] = 30,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Remove from devices the models, inputs and programs that runs have left there to send them only once.

    Example:
        harness devices clean R5CT1234ABC --older-than 7
    """
    from harness.deploy.clean import clean  # noqa: PLC0415
    from harness.device.lease import leased  # noqa: PLC0415
    from harness.device.registry import find_device, on_server  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415

    removed = {}
    for found in on_server(targets, context.obj):
        device = find_device(found)
        with leased((device,), "devices clean"):
            removed[found] = clean(device, older_than_days=older_than)
    if output_format is Output.JSON:
        typer.echo(to_json({found: [str(path) for path in paths] for found, paths in removed.items()}))
        return
    for found, paths in removed.items():
        typer.echo(f"{found}: {len(paths)} files removed")


@app.command("install-app")
def devices_install_app(
    context: typer.Context,
    device: DeviceArgument,
    package: Annotated[
        Path, typer.Argument(metavar="APP", help="A signed .ipa, or the .app folder that Xcode leaves.")
    ],
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Install the runner app on an iPhone or iPad, and say what is still missing to measure there.

    `harness/deploy/ios/README.md` tells how to build and sign it.

    Example:
        harness devices install-app 00008020-001A2B3C4D5E6F70 InferenceRunner.ipa
    """
    from harness.deploy.install_app import install_app  # noqa: PLC0415
    from harness.device.lease import leased  # noqa: PLC0415
    from harness.device.registry import find_device, on_server  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415

    (device_id,) = on_server((device,), context.obj)
    found = find_device(device_id)
    note(f"installing {package.name} on {found.id} ...")
    with leased((found,), "devices install-app"):  # installing ends the app, and what it measures
        missing = install_app(package, found)
    if output_format is Output.JSON:
        typer.echo(to_json({"device": found.id, "app": package.name, "missing": missing}))
        return
    typer.echo(f"{found.id}: {package.name} is installed")
    for obstacle in missing:
        typer.echo(f"  {obstacle.name}: {obstacle.found}. {obstacle.advice}")


def _look_at(context: typer.Context, device: str) -> Seen:
    """One device, which has to answer."""
    from harness.device.registry import on_server  # noqa: PLC0415
    from harness.device.survey import look_at  # noqa: PLC0415

    (device_id,) = on_server((device,), context.obj)
    seen = look_at(device_id)
    if seen.error is not None:
        raise seen.error
    return seen
