"""`harness devices`: what is connected, its state, and what stands in the way of a stable figure."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.console import FormatOption, Output

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@app.callback()
def devices(context: typer.Context, output_format: FormatOption = Output.TABLE) -> None:
    """List what is connected, and what stands in the way of a stable figure.

    Examples:
        harness devices

        harness devices show host --format json
    """
    if context.invoked_subcommand is None:
        from harness.device.registry import list_devices  # noqa: PLC0415
        from harness.tables import device_view, devices_table, to_json  # noqa: PLC0415

        views = [device_view(device) for device in list_devices()]
        typer.echo(to_json(views) if output_format is Output.JSON else devices_table(views))


@app.command("show")
def devices_show(
    device: Annotated[str, typer.Argument(help="Its id, from `harness devices`.")],
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Everything known about one device, now.

    Example:
        harness devices show host
    """
    from harness.device.registry import find_device  # noqa: PLC0415
    from harness.tables import device_text, device_view, to_json  # noqa: PLC0415

    view = device_view(find_device(device))
    typer.echo(to_json(view) if output_format is Output.JSON else device_text(view))
