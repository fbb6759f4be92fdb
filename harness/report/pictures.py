"""The drawing library: Vega-Lite's scripts for the page, and pictures as files for papers and slides.

One package (extra `pictures`) has both the scripts, as they are embedded, and the same library as a program that draws
without a browser. Nothing is fetched.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from importlib import metadata
from typing import TYPE_CHECKING, Final

from harness.errors import MissingExtra
from harness.report import figures
from harness.report.charts import charts
from harness.report.spec import rows, static_spec
from harness.report.view import view
from harness.workspace import cache_dir, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.report.spec import Chart, Spec
    from harness.report.view import Run

_PACKAGE: Final = "vl-convert-python"
INSTALL: Final = "pip install 'inference-harness[pictures]'"
_PNG_SCALE: Final = 2.0
"""Two pixels a point: sharp on a slide."""


@functools.cache
def page_script() -> str | None:
    """What a page needs to draw, about 0.9 MB; None where the package is not installed."""
    try:
        version = metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:
        return None
    # Bundling takes seconds, so it is done once for each version of the package.
    kept = cache_dir() / "report" / f"vega-{version}.js"
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    import vl_convert  # noqa: PLC0415

    # "</script" would end the element that the script stands in.
    script = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", "<\\/script")
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the page
        write_atomically(kept, script.encode())
    return script


def write_pictures(run: Run, folder: Path) -> tuple[Path, ...]:
    """Every picture of a run, each as SVG and PNG; one that shows a row at a time for each of its rows.

    Takes about a second a picture.

    Returns:
        The files, in the order of the page.

    Raises:
        MissingExtra: The drawing library is not installed.
        OSError: A file cannot be written.
    """
    shown = view(run)
    return write_charts(charts(shown), folder, drawn=figures.latency_files(shown.devices))


def write_charts(several: Sequence[Chart], folder: Path, *, drawn: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Pictures, each as SVG and PNG.

    Args:
        several: What to draw.
        folder: Made where it is not there.
        drawn: SVG by name that comes before them.

    Returns:
        The files, in this order.

    Raises:
        MissingExtra: The drawing library is not installed.
        OSError: A file cannot be written.
    """
    try:
        import vl_convert  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra(_PACKAGE, "pictures as files", "pictures") from error
    pictures = dict(drawn or {})
    pictures |= {name: vl_convert.vegalite_to_svg(json.dumps(spec)) for name, spec in static_specs(several).items()}
    written: list[Path] = []
    for name, svg in pictures.items():
        made = {".svg": svg.encode(), ".png": vl_convert.svg_to_png(svg, scale=_PNG_SCALE)}
        for suffix, content in made.items():
            path = folder / f"{name}{suffix}"
            write_atomically(path, content)
            written.append(path)
    return tuple(written)


def static_specs(several: Sequence[Chart]) -> dict[str, Spec]:
    """The specification of each file by its name: `runtimes-host`, `over-time-host-resnet18-onnx-fp32-1-thread`."""
    found: dict[str, Spec] = {}
    for chart in several:
        for row in rows(chart) or (None,):
            name = chart.name if row is None else f"{chart.name}-{figures.slug(row)}"
            # Two rows may differ only in what a file's name cannot hold.
            names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
            found[next(free for free in names if free not in found)] = static_spec(chart, row)
    return found
