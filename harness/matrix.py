"""From a suite to cells: models x artifacts x runtimes x threads x devices, and which runtime runs which format."""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from harness.errors import MissingExtra, UnknownName
from harness.records import Cell, ModelFormat, Precision, RuntimeChoice, Suite, SuiteRuntime
from harness.settings import bad_setting, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.records import DeviceFacts

BUILTIN_SUITES = Path(__file__).resolve().parent / "suites"
DEFAULT_SUITE = "quick"
SUITE_SCHEMA = 1
READY_FORMATS: dict[str, ModelFormat] = {".onnx": "onnx", ".tflite": "tflite", ".mlpackage": "coreml"}
"""Suffix of a file that needs no conversion -> its format."""

PRECISIONS: dict[ModelFormat, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "tflite": ("fp32", "fp16", "int8_dynamic", "int8"),
    "coreml": ("fp32", "fp16", "int8_weights", "palette8", "palette6", "palette4", "sparse"),
}
"""Format -> what is made of it; `harness.convert.recipes` says how."""
_AS_IT_IS: Precision = "source"
_VERSION = re.compile(r"\d+(\.\d+)*([A-Za-z0-9.+-]*)")
"""As packages write theirs; it becomes part of a cell's id and of a file name."""


@dataclass(frozen=True)
class RuntimeInfo:
    """What is known of a runtime before it is loaded."""

    formats: tuple[ModelFormat, ...]
    module: str
    """The Python module whose presence says that the runtime is installed here."""
    extra: str
    title: str
    accelerator: str = "cpu"
    """Asked for where nobody says which."""
    takes_threads: bool = True
    """False: it starts as many as it likes, and a matrix has one cell for all numbers of threads."""


RUNTIMES = {
    "onnxruntime": RuntimeInfo(("onnx",), "onnxruntime", "onnxruntime", "ONNX Runtime"),
    "litert": RuntimeInfo(("tflite",), "ai_edge_litert", "litert", "LiteRT"),
    "coreml": RuntimeInfo(("coreml",), "coremltools", "coreml", "Core ML", accelerator="all", takes_threads=False),
}
"""A new runtime is a line here, and a file for the timing program."""


def find_suite(reference: str) -> Suite:
    """A suite by the path of its TOML, or a built-in one by name.

    Raises:
        UnknownName: There is none of that name.
        BadSetting: The file is wrong.
    """
    path = Path(reference)
    if path.suffix != ".toml":
        path = BUILTIN_SUITES / f"{reference}.toml"
        if not path.is_file():
            known = tuple(sorted(file.stem for file in BUILTIN_SUITES.glob("*.toml")))
            raise UnknownName("built-in suite", reference, known)
    suite = read_settings(path, Suite)
    for location, problem, allowed in _problems(suite):
        raise bad_setting(path, location, problem, allowed)
    return suite


def _problems(suite: Suite) -> Iterator[tuple[tuple[str | int, ...], str, tuple[str, ...]]]:
    """Where a suite is wrong in a way that types do not show, what is wrong, and what would be right."""
    if suite.schema != SUITE_SCHEMA:
        yield ("schema",), f"this program reads version {SUITE_SCHEMA}, not {suite.schema}", (str(SUITE_SCHEMA),)
    for index, text in enumerate(suite.artifacts):
        try:
            if text != "source":
                parse_artifact(text)
        except UnknownName as error:
            yield ("artifacts", index), str(error), error.known
    for index, runtime in enumerate(suite.runtimes):
        problem, allowed = _runtime_problem(runtime.name)
        if problem:
            yield ("runtimes", index, "name"), problem, allowed
    plan = suite.measure
    if plan.processes_max < plan.processes_min:
        problem = f"is {plan.processes_max}, less than processes_min, which is {plan.processes_min}"
        yield ("measure", "processes_max"), problem, ()
    for name in plan.__struct_fields__:
        # nan passes every comparison's opposite, and TOML can write it.
        if getattr(plan, name) != getattr(plan, name):
            yield ("measure", name), "is not a number", ()


def _runtime_problem(text: str) -> tuple[str, tuple[str, ...]]:
    name, version = parse_runtime(text)
    if name not in RUNTIMES:
        return f"there is no runtime called {name!r}", tuple(RUNTIMES)
    if version is not None and not _VERSION.fullmatch(version):
        return f"{version!r} is no version", (f"{name}@1.2.3",)
    return "", ()


def suite_of(targets: Sequence[str]) -> Suite:
    """What `harness run TARGETS...` means: one suite, or models in a suite made for them.

    Raises:
        UnknownName, BadSetting: See `find_suite`.
    """
    if not targets:
        return find_suite(DEFAULT_SUITE)
    if len(targets) == 1 and _is_suite(targets[0]):
        return find_suite(targets[0])
    ready = [reference for reference in targets if Path(reference).suffix.lower() in READY_FORMATS]
    artifacts = ("onnx/fp32", "tflite/fp32") if len(ready) < len(targets) else ()
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(targets[0]).stem.partition(":")[0]).strip("-.")[:60]
    name = (stem if len(targets) == 1 else "") or "models"
    # A ready file is measured as it is; anything else has to be converted first.
    return Suite(schema=1, name=name, models=tuple(targets), artifacts=artifacts + (("source",) if ready else ()))


def parse_artifact(text: str) -> tuple[ModelFormat, Precision]:
    """`tflite/int8` as format and precision.

    Raises:
        UnknownName: It is not one of the known pairs.
    """
    model_format, _, precision = text.partition("/")
    formats, precisions = get_args(ModelFormat), get_args(Precision)
    if model_format not in formats or precision not in precisions:
        nearest_first = sorted(PRECISIONS, key=lambda one: one != model_format)
        known = (*(f"{one}/{other}" for one in nearest_first for other in PRECISIONS[one]), _AS_IT_IS)
        raise UnknownName("artifact", text, known)
    return cast("ModelFormat", model_format), cast("Precision", precision)


def parse_runtime(text: str) -> tuple[str, str | None]:
    """`onnxruntime@1.27.0` as name and version; without a version, the one that is installed beside this program."""
    name, at, version = text.partition("@")
    return name, version if at else None


def expand(suite: Suite, models: Mapping[str, ModelFormat | None]) -> tuple[Cell, ...]:
    """Every cell of a suite, models outermost and threads innermost, so that what belongs together is run together.

    Args:
        suite: The suite. `source` among its artifacts is a ready file as it is; other models have none.
        models: The models' names, in place of the references in the suite; the format of a ready file, None of others.

    Raises:
        UnknownName: An artifact or a runtime is not known.
    """
    pairs = [parse_artifact(text) for text in suite.artifacts if text != "source"]
    as_it_is = "source" in suite.artifacts
    for runtime in suite.runtimes:
        if parse_runtime(runtime.name)[0] not in RUNTIMES:
            raise UnknownName("runtime", runtime.name, tuple(RUNTIMES))
    cells = [
        _cell(model, model_format, precision, runtime, threads, affinity, device)
        for device in suite.devices
        for model, ready in models.items()
        for model_format, precision in [*pairs, *([(ready, _AS_IT_IS)] if ready and as_it_is else [])]
        for runtime in _runtimes_for(model_format, suite.runtimes)
        for affinity in suite.affinities
        for threads in (suite.threads if RUNTIMES[parse_runtime(runtime.name)[0]].takes_threads else (1,))
    ]
    return tuple({cell.id: cell for cell in cells}.values())


def need_runtime(cell: Cell) -> None:
    """Check that the runtime of a cell is installed on this machine. Imports nothing.

    Raises:
        MissingExtra: It is not.
    """
    info = RUNTIMES[cell.choice.runtime]
    if find_spec(info.module) is None:
        raise MissingExtra(info.title, "this run", info.extra)


def why_not_on(choice: RuntimeChoice, device: DeviceFacts) -> str | None:
    """Why a runtime cannot run on a device at all, or None. What was converted for it is checked all the same."""
    is_apple = device.kind == "ios" or (device.kind == "host" and (device.os or "").startswith("macOS"))
    if choice.runtime == "coreml" and not is_apple:
        return f"Core ML runs on Apple's systems only, and {device.name} has {device.os or 'another'}"
    if device.kind == "ios" and choice.runtime != "coreml":
        return f"the app that runs models on an iPhone has Core ML, and not {RUNTIMES[choice.runtime].title}"
    if choice.runtime == "coreml" and choice.graph_optimization != "all":
        return f"Core ML has one way to optimize a graph, and {choice.graph_optimization} was asked for"
    unit = _CORE_ML_UNITS.get(choice.accelerator) if choice.runtime == "coreml" else None
    if unit is not None and device.core_ml_units and unit not in device.core_ml_units:
        known = " and ".join(name.replace("_", " ") for name in device.core_ml_units)
        return f"{choice.accelerator} was asked for, and Core ML computes on {known} only on {device.name}"
    return None


_CORE_ML_UNITS = {"cpu_and_gpu": "gpu", "cpu_and_ne": "neural_engine"}
"""Asked for -> the unit that has to be there. `all` and `cpu_only` can be asked of every device."""


def _is_suite(reference: str) -> bool:
    path = Path(reference)
    if path.suffix != ".toml":
        return (BUILTIN_SUITES / f"{reference}.toml").is_file()
    # A model.toml names its source; a suite never has one.
    try:
        return "source" not in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True  # whoever reads it next says what is wrong with it


def _runtimes_for(model_format: ModelFormat, asked: tuple[SuiteRuntime, ...]) -> list[SuiteRuntime]:
    usual = [name for name, info in RUNTIMES.items() if model_format in info.formats]
    if not asked:
        return [SuiteRuntime(name=usual[0], accelerator=RUNTIMES[usual[0]].accelerator)]
    return [runtime for runtime in asked if parse_runtime(runtime.name)[0] in usual]


def _cell(
    model: str,
    model_format: ModelFormat,
    precision: Precision,
    runtime: SuiteRuntime,
    threads: int,
    affinity: str,
    device: str,
) -> Cell:
    name, version = parse_runtime(runtime.name)
    choice = RuntimeChoice(
        runtime=name,
        accelerator=runtime.accelerator,
        threads=threads,
        graph_optimization=runtime.graph_optimization,
        options=runtime.options,
        driver=runtime.driver,
        version=version,
        affinity=affinity,
    )
    parts = [device, model, model_format, precision, choice.title, runtime.accelerator, f"t{threads}"]
    if runtime.graph_optimization != "all":
        parts.append(runtime.graph_optimization)
    if runtime.driver != "auto":
        parts.append(runtime.driver)
    if affinity != "any":
        parts.append(f"on-{affinity}")
    parts += [f"{key}-{value}" for key, value in sorted(runtime.options.items())]
    return Cell(id=_slug(parts), model=model, format=model_format, precision=precision, choice=choice, device_id=device)


def _slug(parts: list[str]) -> str:
    """A file name that is safe everywhere, and differs where the parts differ."""
    text = "_".join(parts)
    safe = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    if safe == text and len(safe) <= 150:
        return safe
    return f"{safe[:140]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
