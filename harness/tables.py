"""The small tables and texts of the commands that list things. What a run shows is in `harness.report`."""

from __future__ import annotations

import io
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness import units
from harness.errors import DeviceNotFit
from harness.matrix import RUNTIMES
from harness.records import Accuracy, Artifact, CpuCluster, Failure, NotRunnable
from harness.text import count, without_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.catalog.models import FoundModel
    from harness.convert.child import Checked
    from harness.deploy.runtime_library import RuntimeLibrary
    from harness.device.profile import DeviceProfile
    from harness.device.survey import Seen
    from harness.doctor import Finding
    from harness.records import Cell, Estimate, Plan, Precision, TensorSpec, ToolSummary


def to_json(value: object) -> str:
    """Records as indented JSON, the fields as `harness.records` names them."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def models_table(found: Sequence[FoundModel]) -> str:
    """One line a model."""
    rows = [
        (
            model.spec.name,
            model.spec.title or "",
            " x ".join(str(size) for size in model.spec.inputs[0].shape) if model.spec.inputs else "as the file says",
            {True: "trained", False: "untrained", None: "unknown"}[model.spec.trained],
        )
        for model in found
    ]
    note = "untrained: weights drawn from a seed, for latency, size and memory only"
    return _table(("name", "model", "input", "weights"), rows) + f"\n{note}"


def runtimes_table(libraries: Sequence[RuntimeLibrary]) -> str:
    """One line a library. Where the file is, is in the JSON."""
    rows = []
    for one in libraries:
        path = Path(one.path)
        # The user may have moved what was registered.
        size = units.mebibytes(path.stat().st_size) if path.is_file() else "is gone"
        rows.append((one.runtime, one.version, one.target, one.source, one.sha256[:12], size))
    heads = ("runtime", "version", "for", "from", "sha256", "MiB")
    return _table(heads, rows) if rows else "No library is here. `harness runtimes fetch onnxruntime` gets one."


def conversions_table(made: Mapping[str, Artifact | Failure | NotRunnable]) -> str:
    """One line a file: size, how far it is from the original, what making it took."""
    rows, notes = [], []
    for name, artifact in made.items():
        if isinstance(artifact, Artifact):
            worst = artifact.parity.relative_l2 or 0.0
            limit = artifact.parity.tolerance.relative_l2
            conversion = artifact.conversion
            rows.append(
                (
                    name,
                    units.mebibytes(artifact.size_bytes),
                    units.mebibytes(artifact.deflated_bytes),
                    f"{worst:.2g}" + ("" if limit is None else f" (limit {limit:.2g})"),
                    units.elapsed(conversion.seconds),
                    units.mebibytes(conversion.peak_rss_bytes),
                )
            )
            notes.append(f"{name}: {artifact.path}")
        else:
            reason = artifact.reason if isinstance(artifact, NotRunnable) else artifact.message
            rows.append((name, "–", "–", "–", "–", "–"))
            notes.append(f"{name}: {'failed' if isinstance(artifact, Failure) else 'not possible'}: {reason}")
            if isinstance(artifact, Failure) and artifact.hint:
                notes.append(f"  {artifact.hint}")
    heads = ("file", "MiB", "deflated MiB", "difference (rel. L2)", "took", "peak MiB")
    return "\n".join([_table(heads, rows), *notes])


def checked_text(checked: Checked) -> str:
    """A Core ML package that was read back."""
    operations = ", ".join(f"{name} {times}" for name, times in checked.operations.items())
    stored = ", ".join(f"{kind} {share:.1%}" for kind, share in checked.stored.items())
    weights = f"{stored}; {checked.zero_fraction:.1%} of their elements are zero" if stored else "none"
    size, deflated = units.mebibytes_said(checked.size_bytes), units.mebibytes_said(checked.deflated_bytes)
    lines = [
        f"evidence    {checked.evidence}",
        f"size        {size}, {deflated} deflated",
        f"weights     {weights}",
        *(f"input       {_tensor(tensor)}" for tensor in checked.inputs),
        *(f"output      {_tensor(tensor)}" for tensor in checked.outputs),
        *textwrap.wrap(f"operations  {operations}", 80, subsequent_indent=" " * 12),
        f"digest      {checked.sha256}",
    ]
    parity = checked.parity
    if parity is None:
        return "\n".join([*lines, "compared    with nothing: name a model with --against"])
    limit = parity.tolerance
    for output in parity.outputs:
        judged = "reported, not judged" if limit.relative_l2 is None else f"limit {limit.relative_l2:g}"
        distance = f"relative L2 {output.relative_l2:.2g} ({judged}), cosine {output.cosine:.5f}"
        lines.append(f"compared    {output.tensor}: {distance}, {parity.samples} samples")
    lines.append(f"            with {parity.reference}")
    if checked.is_against_itself:
        lines.append("unproved    its original is a Core ML package, too, and computed by the same evaluator")
    if checked.unlike is not None:
        unproved = f"unproved    outputs of such weights are no proof, and beside coreml/fp16: {checked.unlike}"
        lines += textwrap.wrap(unproved, 80, subsequent_indent=" " * 12)
    return "\n".join(lines)


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}"


def accuracies_table(found: Mapping[str, Accuracy | Failure | NotRunnable]) -> str:
    """One line a file: how often it is wrong."""
    known = [accuracy for accuracy in found.values() if isinstance(accuracy, Accuracy)]
    rows: list[tuple[str, ...]] = []
    for name, accuracy in found.items():
        verification = accuracy.verification if isinstance(accuracy, Accuracy) else None
        classification = accuracy.classification if isinstance(accuracy, Accuracy) else None
        if verification is not None:
            rates = (verification.eer, verification.fnmr_at_fmr_1e2, verification.fnmr_at_fmr_1e3)
            rows.append((name, *map(_share, rates)))
        elif classification is not None:
            rows.append((name, _share(classification.top1), _share(classification.top5)))
        else:
            rows.append((name, "–"))
    is_verified = any(accuracy.verification is not None for accuracy in known)
    heads = ("file", "EER %", "FNMR % at FMR 1 %", "at 0.1 %") if is_verified else ("file", "top-1 %", "top-5 %")
    lines = [_table(heads, [(*row, *["–"] * (len(heads) - len(row))) for row in rows])]
    for name, accuracy in found.items():
        if isinstance(accuracy, Accuracy):
            lines.append(f"{name}: {accuracy.executed_by}{_auc(accuracy)}")
        else:
            reason = accuracy.reason if isinstance(accuracy, NotRunnable) else accuracy.message
            lines.append(f"{name}: {'failed' if isinstance(accuracy, Failure) else 'not possible'}: {reason}")
    for accuracy in known[:1]:
        tested = f"fold {accuracy.fold}" if accuracy.fold is not None else "everybody, whoever it was trained on"
        if accuracy.classification is not None:
            tested = f"of those people whom it tells apart, of {accuracy.classification.classes} classes"
        lines.append(f"{accuracy.images} images of {accuracy.subjects} subjects of {accuracy.dataset}: {tested}")
        lines += ["The images are synthetic: drawn by a program."] if accuracy.is_synthetic else []
    return "\n".join(lines)


def device_view(seen: Seen) -> dict[str, Any]:
    """All that is known of a device now, for programs."""
    error = seen.error
    return {
        "id": seen.id,
        "facts": seen.facts,
        "state": seen.state,
        "obstacles": seen.obstacles,
        "accepted": seen.accepted,
        "error": None if error is None else {"kind": error.kind, "message": str(error), "hint": error.hint},
        "fit": seen.unfit is None,
        "core_ml_files": _core_ml_files(facts.os, facts.newest_os)
        if (facts := seen.facts) is not None and facts.kind == "ios"
        else None,
    }


def devices_table(devices: Sequence[Seen]) -> str:
    """One line a device, and one for whatever stands in the way."""
    rows, lines = [], []
    for seen in devices:
        facts = seen.facts
        rows.append(
            (
                seen.id,
                _fitness(seen),
                facts.device_class if facts else "–",
                facts.name if facts else "–",
                (facts and facts.cpu) or "–",
                (facts and facts.os) or "–",
            )
        )
        if seen.error is not None:
            lines.append(f"{seen.id}: {without_name(str(seen.error), seen.id)}")
            lines += [f"    {seen.error.hint}"] if seen.error.hint else []
        # Notes never change; they are in `show`.
        worse = [found for found in seen.obstacles if found.severity != "note" and found.name not in seen.accepted]
        lines += [f"{seen.id}: {found.severity}: {found.found} [{found.name}]" for found in worse]
    if any(seen.obstacles for seen in devices):
        lines.append("All of it, and what to do: harness devices show ID")
    return "\n".join([_table(("id", "fit", "class", "device", "processor", "system"), rows), *lines])


def device_text(seen: Seen) -> str:
    """One device, whole."""
    lines = []
    for title, record in (("facts", seen.facts), ("state", seen.state)):
        if record is not None:
            lines += [title, *_fields(msgspec.structs.asdict(record))]
    if seen.facts is not None and seen.facts.kind == "ios":
        lines += _core_ml_lines(seen.facts.os, seen.facts.newest_os)
    lines.append("in the way of a stable figure" if seen.obstacles else "nothing is in the way of a stable figure")
    for obstacle in seen.obstacles:
        accepted = ", accepted by its profile" if obstacle.name in seen.accepted else ""
        lines += [f"  {obstacle.name} ({obstacle.severity}{accepted}): {obstacle.found}", f"      {obstacle.advice}"]
    return "\n".join(lines)


def profile_view(profile: DeviceProfile) -> dict[str, Any]:
    """What is known of a product beforehand, for programs."""
    files = None if profile.apple is None else _core_ml_files(profile.apple.last_os)
    return {"profile": profile, "core_ml_files": files}


def profile_text(profile: DeviceProfile) -> str:
    """What is known of a product beforehand."""
    known = {key: value for key, value in msgspec.structs.asdict(profile).items() if value not in {None, "", ()}}
    for nested in ("apple", "product"):
        record = known.pop(nested, None)
        if record is not None:
            known |= msgspec.structs.asdict(record)
    files = [] if profile.apple is None else _core_ml_lines(profile.apple.last_os)
    return "\n".join(["not connected; what is known of the product", *_fields(known), *files])


def _core_ml_files(*systems: str | None) -> dict[Precision, str | None]:
    from harness.convert.apple_system import files_for  # noqa: PLC0415  (of devices alone)

    return files_for(*systems)


def _core_ml_lines(*systems: str | None) -> list[str]:
    """Which Core ML files are made for a device, and why others are not, each reason once."""
    by_reason: dict[str | None, list[str]] = {}
    for precision, reason in _core_ml_files(*systems).items():
        by_reason.setdefault(reason, []).append(precision)
    made = by_reason.pop(None, [])
    said = [f"made for it: {', '.join(made)}" if made else "none can be made for it"]
    said += [f"not {', '.join(missing)}: {reason}" if made else str(reason) for reason, missing in by_reason.items()]
    return ["Core ML files", *(line for each in said for line in _wrapped(each))]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent="  ", subsequent_indent="      ")


def virtual_table(views: Sequence[Mapping[str, Any]]) -> str:
    """One line a virtual device."""
    if not views:
        return "no virtual device runs; start one: harness virtual start NAME"
    rows = [
        (
            view["id"],
            "yes" if view["answers"] else "no",
            view["device"].address,
            str(view["device"].memory_mib),
            str(view["device"].disk_mib),
        )
        for view in views
    ]
    return _table(("id", "answers", "adb connect", "memory MiB", "files MiB"), rows)


def _fitness(seen: Seen) -> str:
    """Whether a measurement would begin there now, or the name of what forbids it."""
    unfit = seen.unfit
    if unfit is None:
        return "yes"
    return unfit.obstacle if isinstance(unfit, DeviceNotFit) else unfit.kind


def _fields(fields: Mapping[str, object]) -> list[str]:
    lines = []
    for key, value in fields.items():
        many = value if isinstance(value, tuple) and len(value) > 1 else (value,)
        name = key.removesuffix("_bytes").removesuffix("_hz").replace("_", " ")  # their figures come with a unit
        lines += [f"  {name if first else '':24} {_plain(key, each)}" for first, each in _firsts(many)]
    return lines


def _firsts(values: Sequence[object]) -> list[tuple[bool, object]]:
    return [(index == 0, value) for index, value in enumerate(values)]


def tool_text(found: ToolSummary) -> str:
    """What a runtime's own tool said, a line a figure; what it does not say is left out."""
    lines = [f"{found.tool} ({found.generation}) on {found.device_id}: the tool's own summary, no samples of ours"]
    if found.is_emulated:
        lines.append("EMULATED: times on this device say nothing about a real one")
    if found.mean_ns is None:
        lines.append("This release gives no time.")
    for key, value in msgspec.structs.asdict(found).items():
        if key.endswith("_ns") and isinstance(value, float):
            lines.append(f"  {key.removesuffix('_ns').replace('_', ' '):24} {units.duration(value)}")
        elif key.endswith("_bytes") and value is not None:
            lines.append(f"  {key.removesuffix('_bytes').replace('_', ' '):24} {units.mebibytes_said(value)}")
    lines += [f"  {name:24} {units.duration(ns)}" for name, ns in found.percentiles_ns.items()]
    told = {"iterations": found.iterations, "delegate": found.delegate}
    lines += [f"  {key:24} {value}" for key, value in told.items() if value is not None]
    if found.nodes_total is not None and found.nodes_delegated is not None:
        lines.append(f"  {'nodes on the delegate':24} {found.nodes_delegated} of {found.nodes_total}")
    if found.fallback_reason is not None:
        lines.append(f"  {'left to the CPU':24} {found.fallback_reason}")
    lines += [f"{obstacle.name}: {obstacle.found}. {obstacle.advice}" for obstacle in found.obstacles]
    return "\n".join(lines)


def findings_table(findings: Sequence[Finding]) -> str:
    """One line a tool, what each said, and the commands that add or mend what is not well."""
    rows = [(_verdict(finding), finding.name, finding.version or "–", finding.purpose) for finding in findings]
    lines = [_table(("", "what", "version", "for"), rows)]
    lines += [f"{finding.name}: {finding.detail}" for finding in findings if finding.detail]
    fixes = [f"  {finding.name}: {finding.fix}" for finding in findings if not finding.ok and finding.fix]
    return "\n".join([*lines, *(["What to do:", *fixes] if fixes else [])])


def _auc(accuracy: Accuracy) -> str:
    """Below the table, which would be wider than a terminal with it."""
    if accuracy.verification is None:
        return ""
    auc = accuracy.verification.auc
    between = "" if auc.low is None or auc.high is None else f" ({auc.low:.4f}–{auc.high:.4f})"
    return f"; AUC {auc.value:.4f}{between}"


def _share(estimate: Estimate | None) -> str:
    """Per cent, with the interval where there is one."""
    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.2f}"
    return f"{100 * estimate.value:.2f} ({100 * estimate.low:.2f}–{100 * estimate.high:.2f})"


def _verdict(finding: Finding) -> str:
    if finding.ok:
        return "ok"
    return "missing" if finding.version is None else "look"


def plan_text(plan: Plan, never: Mapping[str, str | None]) -> str:
    """What a run would do.

    Args:
        plan: Of the run.
        never: Cell id -> why its device cannot run it; None where it may.
    """
    per_process_s = plan.measure.warmup_s + plan.measure.blocks * plan.measure.block_s
    tried = [cell for cell in plan.cells if never[cell.id] is None]
    least_s = len(tried) * plan.measure.processes_min * per_process_s
    columns: dict[str, Callable[[Cell], str]] = {
        "device": lambda cell: cell.device_id,
        "model": lambda cell: cell.model,
        "file": lambda cell: f"{cell.format}/{cell.precision}",
        "runtime": lambda cell: cell.choice.title,
        "threads": lambda cell: str(cell.choice.threads),
        "on": lambda cell: cell.choice.accelerator,
        "affinity": lambda cell: cell.choice.affinity,
    }
    # The usual is not worth a column.
    usual = {"on": {"cpu", RUNTIMES["coreml"].accelerator}, "affinity": {"any"}}
    shown = [name for name, of in columns.items() if {of(cell) for cell in plan.cells} - usual.get(name, set())]
    table = _table(shown, [[columns[name](cell) for name in shown] for cell in plan.cells])
    cells = count(len(tried), "cell", "cells")
    lines = [table, f"{cells}, at least {units.elapsed(least_s)} of inference; conversion comes on top"]
    for cell in plan.cells:
        if (reason := never[cell.id]) is not None:
            lines += textwrap.wrap(f"cannot run: {cell.id}: {reason}", 80, subsequent_indent="  ")
    return "\n".join(lines)


def _plain(key: str, value: object) -> str:
    from harness.device.profile import ProductCluster  # noqa: PLC0415  (of devices alone)

    if value is None or value == ():
        return "unknown"
    if isinstance(value, ProductCluster):
        return f"{value.cores} x {value.design}" + ("" if value.max_hz is None else f", {value.max_hz / 1e6:,.0f} MHz")
    if isinstance(value, CpuCluster):
        numbers = ", ".join(str(number) for number in value.processors)
        return f"processors {numbers}" + ("" if value.max_hz is None else f": {value.max_hz / 1e6:,.0f} MHz")
    if isinstance(value, tuple):
        return ", ".join(_plain(key, each) for each in value)
    if key.endswith("_bytes") and isinstance(value, int):
        return units.mebibytes_said(value)
    if key.endswith("_hz") and isinstance(value, float):
        return f"{value / 1e6:,.0f} MHz"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    from rich.console import Console  # noqa: PLC0415  (40 ms, only where a table is printed)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="")
    for index, head in enumerate(heads):  # ids are there to be copied: they are whole, and never broken where they fit
        table.add_column(head, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    stream = io.StringIO()
    Console(file=stream, width=shutil.get_terminal_size().columns, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
