"""`harness evaluate`: what a network, and each file made of it, still recognises."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.console import INTERRUPTED, FormatOption, Output, note, open_run, say_step
from harness.errors import CellsFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.records import Accuracy, Failure, NotRunnable
    from harness.store import StoredRun


class TaskOption(StrEnum):
    """What a network is for, where its model.toml does not say."""

    EMBEDDING = "embedding"
    CLASSIFICATION = "classification"


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="ARTIFACT", help="A model file, a folder with a model.toml, or a model's name.")
    ],
    data: Annotated[
        str,
        typer.Option(help="A folder <subject>/<session>/<image>, or `synthetic`, `synthetic:subjects=300,seed=1`."),
    ],
    artifact: Annotated[
        list[str] | None,
        typer.Option("--artifact", "-a", help="Convert to format/precision and evaluate that, too. Repeatable."),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(min=0, max=2, help="Only the third of the subjects that this fold tests; default: everybody."),
    ] = None,
    task: Annotated[
        TaskOption | None, typer.Option(help="Verify by embeddings, or classify; default: what the model.toml says.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", help="Which output counts, where the model has several.")
    ] = None,
    keep_in: Annotated[
        Path | None,
        typer.Option("--keep-in", metavar="RUN", help="Keep what was found with a stored run, whose reports show it."),
    ] = None,
    plots: Annotated[Path | None, typer.Option("--plots", help="Draw ROC and DET into this folder.")] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Test a network on labelled images: the model itself, and each converted file through its own runtime.

    Core ML's are computed by this program's evaluator, and say so. Embeddings are compared by their cosine; images of
    one session are not compared with each other where there are several sessions. Intervals come from drawing the
    subjects again.

    Examples:
        harness evaluate embedder.tflite --task embedding --data ~/visob

        harness evaluate models/eyes -a onnx/int8 -a tflite/int8 --data synthetic --fold 0

        harness evaluate models/eyes -a onnx/int8 --data ~/visob --keep-in reports/nightly
    """
    from harness import pipeline  # noqa: PLC0415
    from harness.records import Accuracy as Tested  # noqa: PLC0415
    from harness.workspace import require_output  # noqa: PLC0415

    found: dict[str, Accuracy | Failure | NotRunnable] = {}

    def tell(done: int, total: int) -> None:
        if done in {1, total} or done % max(1, total // 10) == 0:
            note(f"images: {done} of {total}")

    def tell_found(name: str, result: Accuracy | Failure | NotRunnable) -> None:
        found[name] = result
        note(f"{'tested' if isinstance(result, Tested) else 'not tested'}: {name}")

    run = open_run(keep_in) if keep_in is not None else None  # a run that is not there ends it now
    if plots is not None:
        require_output(plots, chosen_by="--plots")
    try:
        pipeline.evaluate_model(
            model,
            artifact or [],
            data,
            fold=fold,
            task=task.value if task else None,
            output=output,
            watch=say_step,
            watch_data=tell,
            watch_found=tell_found,
        )
    except KeyboardInterrupt:
        if not found:
            raise
        _finish(found, plots, run, output_format)  # what is known by now has cost minutes
        note("stopped; the files above are all that were tested.")
        raise typer.Exit(INTERRUPTED) from None
    known = _finish(found, plots, run, output_format)
    if len(known) < len(found):
        raise CellsFailed(len(found) - len(known), len(found))


def _finish(
    found: Mapping[str, Accuracy | Failure | NotRunnable],
    plots: Path | None,
    run: StoredRun | None,
    output_format: Output,
) -> dict[str, Accuracy]:
    """Print, draw and keep what was found; what is known of it."""
    from harness.evaluate.plots import draw_curves  # noqa: PLC0415
    from harness.records import Accuracy  # noqa: PLC0415
    from harness.tables import accuracies_table, to_json  # noqa: PLC0415

    typer.echo(to_json(found) if output_format is Output.JSON else accuracies_table(found))
    known = {name: accuracy for name, accuracy in found.items() if isinstance(accuracy, Accuracy)}
    if plots is not None:
        for path in draw_curves(known, plots):
            note(f"drawn: {path}")
    if run is not None:
        kept = _keep(known, run)
        if known and not kept:
            raise UsageError(
                f"nothing was kept: {run.folder} measured none of these files; name those that it did with -a"
            )
    return known


def _keep(known: Mapping[str, Accuracy], run: StoredRun) -> int:
    """Store accuracies of the files that the run measured; another file of the same name is not what was measured.

    Returns:
        How many were kept.
    """
    from harness.report import FORMATS, write_report  # noqa: PLC0415
    from harness.store import keep_accuracy  # noqa: PLC0415

    kept = 0
    cells = Counter(result.artifact.sha256 for result in run.results if result.artifact is not None)
    for name, accuracy in known.items():
        if accuracy.format is None:
            continue  # no cell measures a checkpoint
        if cells[accuracy.file_sha256]:
            keep_accuracy(accuracy, run.folder)
            kept += 1
            note(f"kept in {run.folder}: {name}, of {cells[accuracy.file_sha256]} of its cells")
        else:
            note(f"not kept: {run.folder} did not measure this very file of {name} (SHA-256 {accuracy.file_sha256})")
    told = open_run(run.folder)
    for to, kind in FORMATS.items():
        if (run.folder / kind.file_name).exists():
            write_report(told, to, run.folder / kind.file_name)
    return kept
