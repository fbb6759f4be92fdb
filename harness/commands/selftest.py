"""`harness selftest`: measure the detector itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.console import REPORTS, AcceptOption, FormatOption, Output, note, saying_how_to_go_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.errors import DeviceError
    from harness.regress.selftest.campaign import Done
    from harness.regress.selftest.scenario import Scenario

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

ModelOption = Annotated[str, typer.Option(help="A small network, or a .tflite file; a comparison has to be cheap.")]
TrialsOption = Annotated[int, typer.Option(min=10, max=1000, help="Of each comparison of a new campaign.")]
AffinityOption = Annotated[str, typer.Option(help="The processors to use: any, a range (4-7) or a mask (0xf0).")]
LanesOption = Annotated[
    int, typer.Option(min=1, help="Comparisons at once of a new campaign, each on a processor of its own.")
]
HoursOption = Annotated[
    float | None, typer.Option("--hours", min=0.0, help="Begin no further comparison after so long; go on later.")
]
FigureOption = Annotated[Path | None, typer.Option(help="Draw the operating curve, as .svg, .png or .pdf.")]


@app.callback()
def selftest() -> None:
    """Measure the detector itself: how often it alarms at nothing, and how small a slowdown it finds.

    A campaign is planned once and stored comparison by comparison; the same command goes on with it, today or on
    another day. Leave the machine alone meanwhile, but for what it is usually busy with.

    Examples:
        harness selftest aa

        harness selftest power --hours 2

        harness selftest report reports/selftest/aa reports/selftest/power --figure curve.svg
    """


@app.command("aa")
def aa(
    comparisons: Annotated[int, typer.Option(min=1, help="Of a new campaign.")] = 1000,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the campaign.")] = REPORTS
    / "selftest"
    / "aa",
    hours: HoursOption = None,
    trials: TrialsOption = 100,
    lanes: LanesOption = 1,
    model: ModelOption = "mobilenet_v3_small",
    affinity: AffinityOption = "any",
    accept: AcceptOption = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Compare a build with itself, many times over: every alarm is a false one.

    Example:
        harness selftest aa --comparisons 1000 --hours 2
    """
    from harness.regress.selftest.scenario import aa_scenarios  # noqa: PLC0415

    _campaign(output, aa_scenarios(comparisons), hours, trials, lanes, model, affinity, accept or (), output_format)


@app.command("power")
def power(
    comparisons: Annotated[int, typer.Option(min=1, help="Of each slowdown of 2 and 3 %.")] = 200,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the campaign.")] = REPORTS
    / "selftest"
    / "power",
    hours: HoursOption = None,
    trials: TrialsOption = 100,
    lanes: LanesOption = 1,
    model: ModelOption = "mobilenet_v3_small",
    affinity: AffinityOption = "any",
    accept: AcceptOption = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Compare builds that are slower by a known amount with the one that is not.

    Example:
        harness selftest power --comparisons 200 --hours 2
    """
    from harness.regress.selftest.scenario import power_scenarios  # noqa: PLC0415

    _campaign(output, power_scenarios(comparisons), hours, trials, lanes, model, affinity, accept or (), output_format)


@app.command("report")
def report(
    campaigns: Annotated[list[Path], typer.Argument(metavar="CAMPAIGN...", help="Their folders.")],
    figure: FigureOption = None,
    page: Annotated[Path | None, typer.Option("--page", help="Write it all as a page, an .html file.")] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Show what stored campaigns found, with the rules of other tools on the same recorded times.

    Examples:
        harness selftest report reports/selftest/aa reports/selftest/power --figure curve.svg

        harness selftest report reports/selftest/aa --page selftest.html
    """
    _show(campaigns, figure, output_format, page)


def _campaign(
    folder: Path,
    scenarios: Sequence[Scenario],
    hours: float | None,
    trials: int,
    lanes: int,
    model: str,
    affinity: str,
    accept: Sequence[str],
    output_format: Output,
) -> None:
    """Begin a campaign or go on with it, and show what is there."""
    from harness.device.halting import Halt  # noqa: PLC0415
    from harness.device.lease import leased  # noqa: PLC0415
    from harness.regress.selftest.run import carry_on  # noqa: PLC0415
    from harness.selftest import Rig, comparers, open_campaign  # noqa: PLC0415

    note("preparing: the network, the runtime, the builds")
    rig = Rig(model, affinity=affinity, accept=accept)
    with saying_how_to_go_on("the same command goes on"), leased((rig.device,), f"selftest {folder.name}") as lease:
        # Inside: what slowdowns are a share of is measured now, and for good.
        campaign = open_campaign(folder, rig, scenarios, trials=trials, lanes=lanes)
        note(f"{folder}: {len(campaign.done):,} comparisons are there, {len(campaign.left):,} left")
        halt = Halt()
        carry_on(
            campaign,
            comparers(rig, campaign.plan, halt=halt, require=partial(lease.require, rig.device.id)),
            at_most_s=None if hours is None else 3600 * hours,
            watch=partial(_tell, campaign.plan.lanes),
            stop=halt.stop,
        )
    _show([folder], None, output_format)


def _show(folders: Sequence[Path], figure: Path | None, output_format: Output, page: Path | None = None) -> None:
    from harness.regress.selftest.campaign import Campaign, require_same_detector  # noqa: PLC0415
    from harness.regress.selftest.figure import draw  # noqa: PLC0415
    from harness.regress.selftest.report import make_report, report_text  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415

    campaigns = [Campaign.open(folder) for folder in folders]
    require_same_detector(campaigns)
    for campaign in campaigns:
        for damage in campaign.damaged:
            note(f"left out: {campaign.folder / damage.where}: {damage.problem}")
    made = make_report(campaigns, watch=lambda at, of: note(f"rules: {at} of {of}"))
    typer.echo(to_json(made) if output_format is Output.JSON else report_text(made))
    if figure is not None:
        draw(made, figure)
        note(f"wrote {figure}")
    if page is not None:
        from harness import __version__  # noqa: PLC0415
        from harness.selftest_page import render  # noqa: PLC0415
        from harness.workspace import write_atomically  # noqa: PLC0415

        write_atomically(page, render(made, version=__version__).encode())
        note(f"wrote {page}")


def _tell(lanes: int, scenario: Scenario, done: Done | DeviceError, left: int) -> None:
    from harness import units  # noqa: PLC0415
    from harness.regress.decision import MARGINS, compare_trials  # noqa: PLC0415
    from harness.regress.selftest.campaign import Done  # noqa: PLC0415

    if not isinstance(done, Done):
        note(f"{scenario.name}: not made, to be tried again: {done}")
        return
    values = [trial.log_ratios[scenario.metric] for trial in done.trials if scenario.metric in trial.log_ratios]
    verdict, effect = compare_trials(values, MARGINS[scenario.metric])
    found = "–" if effect is None else f"{100 * (effect.ratio - 1):+.2f} %"
    note(f"{left:,} left, some {units.elapsed(left * done.seconds / lanes)}; {scenario.name}: {found}, {verdict}")
