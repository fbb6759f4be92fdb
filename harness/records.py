"""The nouns. Read this first: every stage maps one of these records to the next.

    ModelSpec -> Checkpoint -> Artifact -> Deployment -> Measurement
                                                      or Failure, NotRunnable, NotRun
    Plan + one CellResult a cell = a run

Records are frozen, hold facts and no sentences, and are checked when they are read. Unknown is None. A quantity ends
in its unit (`_ns _s _bytes _hz _celsius _pct`). Times of day are ISO 8601 in UTC.

Stored files carry `schema`. What changed in which version is said here, and `store.py` upgrades one step at a time:

    1   the first
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

SCHEMA_VERSION = 1

Setting: TypeAlias = bool | int | float | str
"""A value of a free-form option, as TOML can write it."""

ModelFormat: TypeAlias = Literal["onnx", "tflite", "coreml"]
Precision: TypeAlias = Literal[
    "fp32", "fp16", "int8", "int8_dynamic", "int8_weights", "palette8", "palette6", "palette4", "sparse", "source"
]
"""How weights and activations are stored. `int8` is both, calibrated; `int8_dynamic` is weights only, activations
are quantized while running. `int8_weights`, `palette8/6/4` (indices of so many bits into a table of values) and
`sparse` (zeros left out) are weights only, computed with in fp16. `source` is a ready file, exactly as it was given."""

Task: TypeAlias = Literal["classification", "embedding", "detection", "other"]
DeviceKind: TypeAlias = Literal["host", "android", "virtual", "board", "ios"]
"""How a device is reached: this machine itself, adb, adb to one that this program emulates, ssh, or job folders."""
DeviceClass: TypeAlias = Literal["phone", "tablet", "board", "host", "emulated"]
Driver: TypeAlias = Literal["python-worker", "bench", "ios-runner", "official-tool"]
"""Which program took the time: our Python worker, our native loop, our app on an iPhone, or a runtime's own tool."""
DriverChoice: TypeAlias = Literal["auto", "python-worker", "bench"]
"""Which program shall take the time: `auto` is the native loop where it can run, else the Python worker."""

Widths: TypeAlias = Literal["declared", "weights"]
"""How many channels each layer has: those that the code makes, or those of the weights file, where channels were
removed."""
PruningMethod: TypeAlias = Literal[
    "global-magnitude", "layer-magnitude", "global-gradient", "layer-gradient", "random", "channels"
]
"""The five baselines of Blalock et al. 2020, which make weights zero, and whole channels taken out."""

Stage: TypeAlias = Literal["catalog", "convert", "deploy", "measure", "evaluate"]
Evidence: TypeAlias = Literal[
    "converted", "graph-checked", "coreml-numerics", "measured(mac)", "measured(device)", "simulated"
]
"""What is known of a Core ML file or of an iPhone's row, each more than the one before. `converted`: read back, its
names, types and storage as asked. `graph-checked`: its program computes the model's outputs, operation by operation, on
our evaluator. `coreml-numerics`: Core ML on a Mac computes them. `measured`: Core ML did, in the timed process. Aside:
`simulated` computes on a Mac that plays an iPhone, and has no times."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all records share: frozen, by keyword only, unknown fields refused."""


# --- catalog: what is measured -------------------------------------------------------------------------------------


class BuiltinSource(Record, frozen=True, kw_only=True, tag_field="kind", tag="builtin"):
    """A network that ships with the project, weights seeded or from a file."""

    network: str
    arguments: dict[str, Setting] = {}
    weights: str | None = None
    """State dict, `.safetensors` or `.pt`; None draws the initial weights from the model's seed."""
    widths: Widths = "declared"


class PythonSource(Record, frozen=True, kw_only=True, tag_field="kind", tag="python"):
    """A `torch.nn.Module` made by the user's own code."""

    factory: str
    """`package.module:function`."""
    arguments: dict[str, Setting] = {}
    weights: str | None = None
    widths: Widths = "declared"


class ProgramSource(Record, frozen=True, kw_only=True, tag_field="kind", tag="pt2"):
    """A program saved with `torch.export.save`."""

    path: str


class OnnxSource(Record, frozen=True, kw_only=True, tag_field="kind", tag="onnx"):
    """A ready `.onnx` file."""

    path: str


class TfliteSource(Record, frozen=True, kw_only=True, tag_field="kind", tag="tflite"):
    """A ready `.tflite` file."""

    path: str


class CoreMLSource(Record, frozen=True, kw_only=True, tag_field="kind", tag="coreml"):
    """A ready `.mlpackage` with an ML Program in it."""

    path: str


class KerasSource(Record, frozen=True, kw_only=True, tag_field="kind", tag="keras"):
    """A `.keras` file or a SavedModel folder, read with TensorFlow."""

    path: str


Source: TypeAlias = (
    BuiltinSource | PythonSource | ProgramSource | OnnxSource | TfliteSource | CoreMLSource | KerasSource
)


class UniformData(Record, frozen=True, kw_only=True, tag_field="kind", tag="uniform"):
    """Inputs drawn evenly from [low, high)."""

    low: float = 0.0
    high: float = 1.0


class NormalData(Record, frozen=True, kw_only=True, tag_field="kind", tag="normal"):
    """Inputs drawn from a normal distribution."""

    mean: float = 0.0
    std: float = 1.0


class FileData(Record, frozen=True, kw_only=True, tag_field="kind", tag="file"):
    """Inputs from a `.npy` file of shape [samples, ...], the rest being the input's shape without its batch of 1."""

    path: str


InputData: TypeAlias = UniformData | NormalData | FileData


class InputSpec(Record, frozen=True, kw_only=True):
    """One input tensor of a model, and where its values come from."""

    name: str
    shape: tuple[int, ...]
    """With the batch dimension; image networks are `[N, C, H, W]`."""
    dtype: str = "float32"
    data: InputData = NormalData()


class CalibrationSpec(Record, frozen=True, kw_only=True):
    """What static quantization observes. Drawn apart from the inputs that parity is checked on."""

    samples: int = 32
    files: dict[str, str] = {}
    """Input name -> `.npy` of shape [samples, ...]; an input not named is drawn from its own `data`."""


class PreprocessingSpec(Record, frozen=True, kw_only=True):
    """What has to be done to an image before it is this model's input. Documentation, never executed."""

    colour: Literal["RGB", "BGR", "grey"] = "RGB"
    scale: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    note: str = ""


class AccuracySpec(Record, frozen=True, kw_only=True):
    """A published accuracy of these very weights."""

    metric: str
    value: float
    unit: str
    dataset: str
    source: str


class Training(Record, frozen=True, kw_only=True):
    """How weights are trained: AdamW, its step growing at first and then falling to 0 along a cosine."""

    epochs: int
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    """Share of all steps in which the step size grows."""
    label_smoothing: float = 0.1
    augment: bool = True
    """Images are shifted by up to a sixteenth of their size, and made brighter or darker."""
    seed: int = 0
    threads: int = 1


class LayerSize(Record, frozen=True, kw_only=True):
    """What is left of one layer's weights."""

    name: str
    channels: int
    """Outputs."""
    weights: int
    nonzero: int


class Compression(Record, frozen=True, kw_only=True):
    """How weights were made fewer, or taught, and from what.

    A ratio is parameters of the parent / parameters that are left and not zero.
    """

    method: str
    """A pruning method, `logit-distillation`, `embedding-distillation` or `training`; several joined by ` + `."""
    parent: str
    parent_sha256: str
    """Of its stored weights; of the initial ones that its seed draws, where it has none."""
    asked_ratio: float | None = None
    reached_ratio: float | None = None
    """Of the whole model."""
    reached_backbone_ratio: float | None = None
    """Of what is deployed where embeddings are compared: the model without its head."""
    parameters: int | None = None
    nonzero_parameters: int | None = None
    macs: int | None = None
    """Multiply-accumulates of a runtime that does not skip zeros."""
    layers: tuple[LayerSize, ...] = ()
    teacher: str | None = None
    teacher_sha256: str | None = None
    training: Training | None = None
    settings: dict[str, Setting] = {}
    people: tuple[str, ...] = ()
    """Everybody on whose images it, its teachers or any network that it was made from was trained: digests."""
    classes: tuple[str, ...] = ()
    """Those of them whom its classifier tells apart, in order."""


class ModelSpec(Record, frozen=True, kw_only=True):
    """A model.toml."""

    schema: int
    name: str
    source: Source
    title: str = ""
    task: Task = "other"
    trained: bool | None = None
    """False: latency only, an accuracy of these weights says nothing. None: not known."""
    licence: str | None = None
    citation: str = ""
    seed: int = 0
    inputs: tuple[InputSpec, ...] = ()
    """May be left out for a ready file, which says itself what it takes."""
    check_samples: int = 4
    """On how many inputs parity is checked, at conversion and in every timed process."""
    preprocessing: PreprocessingSpec | None = None
    calibration: CalibrationSpec = CalibrationSpec()
    accuracy: AccuracySpec | None = None
    head: tuple[str, ...] = ()
    """The layers, by name, that turn an embedding into the answer; thrown away where embeddings are deployed and never
    pruned. Built-in networks say so themselves."""
    keep: tuple[str, ...] = ()
    """Further layers that are never pruned."""
    compression: Compression | None = None
    """Written by `harness compress` and `harness distill`."""


class DatasetSpec(Record, frozen=True, kw_only=True):
    """A dataset.toml, which may lie in a folder of images."""

    schema: int
    name: str = ""
    """As tables show it; empty for the folder's own name."""
    is_synthetic: bool = False
    """The images were made by a program. Every table with a figure from them says so."""
    left_eyes: tuple[str, ...] = ()
    """Patterns of paths, `*/left/*` or `*/*_L_*`: those images are mirrored, so that all eyes are right eyes."""


class TensorSpec(Record, frozen=True, kw_only=True):
    """An input or output as a file declares it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """NumPy's name: float32, int8..."""
    scale: float | None = None
    zero_point: int | None = None
    """real = scale x (stored - zero_point), where the tensor is quantized."""


class Checkpoint(Record, frozen=True, kw_only=True):
    """A model with its weights, stored, with what it answers to the declared inputs.

    In `folder`: the weights or the file itself, `inputs.npz` (input name -> [samples, ...]), `reference.npz` (output
    name -> [samples, ...], float32 unless the output is an integer) and `calibration.npz`.
    """

    model: str
    sha256: str
    """Of the weights, or of the ready file."""
    folder: str
    form: Literal["torch", "pt2", "onnx", "tflite", "coreml", "keras"]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int | None
    macs: int | None
    """Multiply-accumulates for one input of batch 1; None where nothing counted them."""
    reference: str
    """What computed `reference.npz`, with its version."""
    trained: bool | None
    compression: Compression | None = None


# --- convert: what is deployed -------------------------------------------------------------------------------------


class Tolerance(Record, frozen=True, kw_only=True):
    """How far an artifact's outputs may be from the checkpoint's. None: reported, not judged."""

    relative_l2: float | None
    cosine: float | None
    """Lower bound."""
    top1_agreement: float | None = None
    """Lower bound, share of samples."""


class OutputParity(Record, frozen=True, kw_only=True):
    """How far one output is from the checkpoint's, over all checked samples."""

    tensor: str
    max_abs: float
    relative_l2: float
    """||found - expected|| / ||expected||, over all elements."""
    cosine: float
    """The lowest over the samples."""
    top1_agreement: float | None
    """Share of samples with the same largest element along the last axis; None where that has no meaning."""
    elements: int | None = None
    """Of one sample."""


class Parity(Record, frozen=True, kw_only=True):
    """A comparison of an artifact with its checkpoint on the declared inputs."""

    executed_by: str
    """What computed the artifact's outputs, with its version and configuration."""
    reference: str
    samples: int
    tolerance: Tolerance
    outputs: tuple[OutputParity, ...]
    passed: bool | None
    """No output is too far off; None where nothing was compared, since nothing on this machine runs the file."""
    evidence: Evidence | None = None
    """How far this comparison goes, where the system that runs the file is not here; None where it was run itself."""
    from_checkpoint: tuple[OutputParity, ...] | None = None
    """Of the same outputs, how far they are from the checkpoint's, where `reference` is another; not judged."""

    @property
    def relative_l2(self) -> float | None:
        """How far the worst output is from the checkpoint's; None where nothing was compared."""
        return max((output.relative_l2 for output in self.from_checkpoint or self.outputs), default=None)


class Conversion(Record, frozen=True, kw_only=True):
    """How an artifact came to be."""

    converters: dict[str, str]
    """Package -> version."""
    settings: dict[str, Setting]
    seconds: float
    peak_rss_bytes: int | None
    """Of the converting process, its libraries included."""


class Artifact(Record, frozen=True, kw_only=True):
    """A converted file, proved against its checkpoint."""

    model: str
    checkpoint_sha256: str
    format: ModelFormat
    precision: Precision
    path: str
    sha256: str
    size_bytes: int
    deflated_bytes: int
    """zlib level 6, as an app package would hold it."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parity: Parity
    conversion: Conversion


# --- device --------------------------------------------------------------------------------------------------------


class CpuCluster(Record, frozen=True, kw_only=True):
    """Processors that share one clock."""

    processors: tuple[int, ...]
    """Their numbers."""
    max_hz: float | None
    """What the hardware can do."""


class DeviceFacts(Record, frozen=True, kw_only=True):
    """What a device is. Does not change while a run lasts."""

    id: str
    kind: DeviceKind
    device_class: DeviceClass
    name: str
    cpu: str | None
    cores: int | None
    architecture: str | None
    memory_bytes: int | None
    os: str | None
    os_build: str | None
    virtual_machine: str | None = None
    """The hypervisor's name where one is known, "unknown hypervisor" where one only shows, None on real hardware."""
    newest_os: str | None = None
    """The last system that was made for it, `iOS 12.5`; None where it gets new ones, or nobody knows."""
    transport: str | None = None
    """What carries files there, where there is a choice."""
    clusters: tuple[CpuCluster, ...] = ()
    """Empty where the system does not tell, as in most virtual machines."""
    debuggable: bool | None = None
    """Whether the whole system is a build for debugging, with checks that cost time; None where nobody says."""
    core_ml_units: tuple[str, ...] = ()
    """What Core ML computes on there, as the profile of the product says; empty where nobody does."""
    own_name: str | None = None
    """What it calls itself, whatever a profile calls it; None where nobody asked."""
    unit_digest: str | None = None
    """Tells one device of a model from another: part of a SHA-256 of its serial number or machine id, which stay there.
    None where it has none."""

    @property
    def is_emulated(self) -> bool:
        """True where instructions are emulated and no time means anything."""
        return self.device_class == "emulated"


class DeviceState(Record, frozen=True, kw_only=True):
    """The conditions at one moment. A sensor that is not there is None."""

    at: str
    load_1min: float | None
    cpu_busy_pct: float | None
    """Share of all processors that was busy over a short look."""
    steal_pct: float | None
    """Share of time the hypervisor gave to others over the same look."""
    governor: str | None
    cpu_hz: float | None
    """Mean of the current clocks."""
    cpu_cap_hz: float | None
    """The lowest of the processors' present upper limits."""
    temperature_celsius: float | None
    """The hottest processor sensor."""
    thermal_status: str | None
    battery_pct: float | None
    charging: bool | None
    free_memory_bytes: int | None
    power_mode: str | None = None
    skin_celsius: float | None = None
    """The sensor nearest to the hand that holds it; what phones lower their clocks by."""
    battery_celsius: float | None = None
    screen_on: bool | None = None
    foreground_app: str | None = None
    """The package in front, on Android."""
    cluster_caps_hz: tuple[float, ...] | None = None
    """The present upper limit of each of the facts' clusters, in their order."""


class Obstacle(Record, frozen=True, kw_only=True):
    """Something that stands in the way of a stable figure."""

    name: str
    """A slug, by which it can be accepted."""
    severity: Literal["note", "warning", "refusal"]
    found: str
    advice: str


class Deployment(Record, frozen=True, kw_only=True):
    """An artifact on a device, arrived intact."""

    device_id: str
    artifact_sha256: str
    remote_path: str
    remote_inputs: tuple[str, ...]
    """Raw samples in the artifact's dtypes, one file an input, in the artifact's order."""
    samples: int
    already_there: bool
    push_attempts: int | None = None
    """How often the artifact was sent until it arrived intact; 0 where it was there."""


# --- evaluate: what it still recognises ------------------------------------------------------------------------------


class Estimate(Record, frozen=True, kw_only=True):
    """A share of 1, with its 95 % interval; the interval is None where too little is there to draw again from."""

    value: float
    low: float | None = None
    high: float | None = None


class RatePoint(Record, frozen=True, kw_only=True):
    """Both error rates at one threshold; a pair is accepted from the threshold on."""

    threshold: float
    fmr: float
    fnmr: float


class Verification(Record, frozen=True, kw_only=True):
    """How well embeddings tell whether two images are of one subject. The score is the cosine."""

    pairing: Literal["across sessions", "all pairs"]
    """Which images were compared: those of different sessions only, or any two, where there is one session."""
    genuine_pairs: int
    impostor_pairs: int
    embedding_length: int
    eer: Estimate
    """Where FMR = FNMR, between two thresholds on the straight line."""
    auc: Estimate
    fnmr_at_fmr_1e2: Estimate | None
    """The lowest FNMR at which no more than 1 % of the impostors match; None with too few impostor pairs to tell."""
    fnmr_at_fmr_1e3: Estimate | None
    curve: tuple[RatePoint, ...]
    """Thinned out; FMR falls."""
    eer_redrawn: tuple[float, ...] = ()
    """The EER each time the subjects were drawn again. The draws are the same for every network that is tested on the
    same subjects, so that differences between two networks can be taken draw by draw."""


class Classification(Record, frozen=True, kw_only=True):
    """How often the right class is the first, or among the first five."""

    classes: int
    top1: Estimate
    top5: Estimate | None
    """None with five classes or fewer."""


class Accuracy(Record, frozen=True, kw_only=True):
    """What a checkpoint or a converted file still recognises, found by running it on labelled images."""

    schema: int
    model: str
    file_sha256: str
    """Of the converted file, by which cells and accuracies belong together; of the weights for a checkpoint."""
    format: ModelFormat | None
    """None: the checkpoint itself."""
    precision: Precision | None
    executed_by: str
    """What computed the answers, with its version and configuration."""
    dataset: str
    dataset_sha256: str
    is_synthetic: bool
    """The images were drawn by a program. Every table says so."""
    fold: int | None
    """None: all subjects were tested, whoever the model was trained on."""
    subjects: int
    images: int
    bootstrap_samples: int
    """How often subjects were drawn again for the intervals."""
    verification: Verification | None = None
    classification: Classification | None = None


# --- measure -------------------------------------------------------------------------------------------------------


Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
CountOrNone: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
SecondsOrNone: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Threads: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=999)]


PROFILE_ITERATIONS: Final = 20
"""Of a profile that is asked for without a number."""


class MeasurePlan(Record, frozen=True, kw_only=True):
    """The protocol for one cell, fixed before its first sample."""

    processes_min: Count = 5
    processes_max: Count = 10
    """Fresh processes. More than the minimum only until `target_half_width_pct` is reached or `budget_s` is spent."""
    target_half_width_pct: Annotated[float, msgspec.Meta(gt=0, le=100)] = 1.0
    """Of the 95 % interval of p50 over processes."""
    budget_s: SecondsOrNone = 30.0
    """For the timed processes of one cell. The minimum number of processes is never cut."""
    blocks: Count = 4
    block_s: Seconds = 0.25
    block_iterations: Count = 5
    """A block lasts until both are met."""
    warmup_iterations: Count = 10
    warmup_s: SecondsOrNone = 0.25
    warmup_cap_s: Seconds = 8.0
    memory_processes: CountOrNone = 1
    memory_iterations: Count = 20
    profile_iterations: CountOrNone = 0
    """Inferences of one more process, in which the time of each operator is taken; 0: no such process."""
    disturbed_retries: CountOrNone = 2
    timeout_s: Seconds = 300.0
    """For one process."""


class RuntimeChoice(Record, frozen=True, kw_only=True):
    """What is asked of a runtime."""

    runtime: str
    accelerator: str = "cpu"
    """The execution provider or delegate, by the runtime's own name."""
    threads: int = 1
    graph_optimization: str = "all"
    options: dict[str, Setting] = {}
    driver: DriverChoice = "auto"
    affinity: str = "any"
    """The processors it may use: `any`, `big`, `little`, a list (`4-7`) or a mask (`0xf0`)."""
    version: str | None = None
    """None: the one that is installed beside this program, so that a device runs what the host runs."""

    @property
    def title(self) -> str:
        """The runtime as a suite names it, with its version where one was asked for."""
        return self.runtime if self.version is None else f"{self.runtime}@{self.version}"


class Cell(Record, frozen=True, kw_only=True):
    """One point of the matrix."""

    id: str
    model: str
    format: ModelFormat
    precision: Precision
    choice: RuntimeChoice
    device_id: str


class PlacedNode(Record, frozen=True, kw_only=True):
    """One operation, and where its runtime means to compute it."""

    name: str
    """Of what it gives."""
    kind: str
    accelerator: str


class RuntimeRan(Record, frozen=True, kw_only=True):
    """What ran, read back from the runtime and from the system."""

    runtime: str
    version: str
    api: str
    driver: Driver
    library_sha256: str | None
    threads: int | None
    """Threads of the process that the runtime's session added, plus the calling one."""
    graph_optimization: str | None
    nodes_by_accelerator: dict[str, int]
    """After graph optimization; a node that no accelerator took counts under the runtime's own CPU."""
    nodes_total: int | None
    nodes_delegated: int | None
    """Nodes on the accelerator that was asked for."""
    partitions: int | None
    fallback_reason: str | None
    processors: str | None = None
    """That it was allowed to use, as the system lists them: `0-3,6`."""
    settings: dict[str, Setting] = {}
    driver_version: str | None = None
    """Of a timing program that is not part of this installation: the app on a phone."""
    placement_missing: str | None = None
    """Why nobody knows which node ran where, from a runtime that tells it elsewhere; None where it is known."""
    nodes: tuple[PlacedNode, ...] = ()
    """Each operation, from a runtime that has a plan without being profiled: Core ML."""


class BlockConditions(Record, frozen=True, kw_only=True):
    """What the system did to a block while it ran: differences over the block, or the value at its end."""

    steal_ms: float | None = None
    involuntary_switches: int | None = None
    cpu_cap_hz: float | None = None
    """The lowest of the processors' upper limits."""
    temperature_celsius: float | None = None
    """The hottest thermal zone of the processor; what no processor can have is null."""
    throttle_events: int | None = None
    cpu_caps_hz: tuple[float, ...] | None = None
    """The upper limit of each clock, in the order of their processors, at the block's start or end, whichever is lower.
    One can fall unseen behind another's."""
    cpu_hz: float | None = None
    """The clock of the processor that the block ended on; like the temperature read at most ten times a second."""


class Block(Record, frozen=True, kw_only=True):
    """Consecutive timed inferences without anything between them."""

    start_ns: int
    """On the device's monotonic clock."""
    iterations_per_sample: int
    """1, unless a single inference is too short for the clock."""
    ns: tuple[int, ...]
    """In run order, one value a sample: the duration divided by nothing."""
    conditions: BlockConditions
    discarded: str | None = None
    """Why the block does not count. It is kept all the same."""


class ProcessRecord(Record, frozen=True, kw_only=True):
    """One fresh process: cold start, first inference, warm-up, blocks."""

    index: int
    attempt: int
    at: str
    startup_ns: int | None
    """Importing the runtime, or loading its library."""
    load_ns: int
    """From the file to a session that can run: reading, optimizing, compiling, allocating."""
    first_inference_ns: int
    warmup_ns: tuple[int, ...]
    steady: bool
    """False: the warm-up ended at its cap, before the times settled."""
    blocks: tuple[Block, ...]
    canary_before_ns: int | None
    canary_after_ns: int | None
    """A fixed piece of work that has nothing to do with the model, right before and after."""
    outputs_sha256: str | None
    discarded: str | None = None
    jobs_before: int = 0
    """That this process had done: above 0 in an app on a phone that was opened by hand. Its start was not cold then."""
    load_timings_ns: dict[str, int] = {}
    """Of what `load_ns` is made, where the runtime tells its parts: Core ML's `compile` and `load_cold`. Beside them
    `load_cached`, loading the compiled model once more, where that was tried."""


class MemoryRecord(Record, frozen=True, kw_only=True):
    """Memory of one fresh process that was not timed."""

    source: str
    """How peak and the rest were read; figures of different sources are not comparable."""
    baseline_bytes: int
    """With the runtime in memory, before the model."""
    loaded_bytes: int
    peak_bytes: int
    pss_bytes: int | None
    private_dirty_bytes: int | None
    iterations: int
    rss_anon_bytes: int | None = None
    """Resident and backed by no file, after the last inference: a model that is mapped from its file is not in it."""


class ToolSummary(Record, frozen=True, kw_only=True):
    """What a runtime's own tool says of a model: its words, no samples of ours, and never part of a `Measurement`.

    Each tool times something a little different (`harness.measure.official` says what): its figures stand beside ours
    and are compared with them by no gate.
    """

    tool: str
    generation: str
    """Which form of the tool's output it was."""
    argv: tuple[str, ...]
    device_id: str
    is_emulated: bool
    """Its times mean nothing then."""
    program_sha256: str | None
    iterations: int | None
    mean_ns: float | None
    min_ns: float | None = None
    max_ns: float | None = None
    std_ns: float | None = None
    percentiles_ns: dict[str, float] = {}
    """`p50`, `p99.9`: as the tool computes them."""
    load_ns: float | None = None
    first_inference_ns: float | None = None
    warmup_iterations: int | None = None
    warmup_mean_ns: float | None = None
    load_memory_bytes: int | None = None
    """By how much the tool's memory grew while it loaded the model."""
    overall_memory_bytes: int | None = None
    """By how much it grew in all."""
    peak_bytes: int | None = None
    nodes_total: int | None = None
    nodes_delegated: int | None = None
    """On the delegate; None where the tool does not say."""
    partitions: int | None = None
    delegate: str | None = None
    fallback_reason: str | None = None
    state_before: DeviceState | None = None
    obstacles: tuple[Obstacle, ...] = ()
    """What stood in the way of a stable figure when it began. It is told, and keeps no tool from running."""


class OperatorTime(Record, frozen=True, kw_only=True):
    """One operator of the model as the runtime ran it: after fusion, under the runtime's name."""

    name: str
    kind: str
    """Conv, MatMul..., or the kernel where a delegate says no more."""
    accelerator: str
    """The execution provider or delegate that ran it."""
    median_ns: float
    """Over the profiled inferences; a runtime gives whole microseconds."""


class OperatorProfile(Record, frozen=True, kw_only=True):
    """Where the time of an inference goes. From a process of its own: taking it slows the whole down."""

    source: str
    inferences_ns: tuple[int, ...]
    """The whole, while profiled."""
    operators: tuple[OperatorTime, ...]
    """In the order in which they ran."""


class Measurement(Record, frozen=True, kw_only=True, tag_field="outcome", tag="measurement"):
    """A cell that was measured. Statistics are computed from this, never stored in it."""

    ran: RuntimeRan
    deployment: Deployment
    processes: tuple[ProcessRecord, ...]
    memory: tuple[MemoryRecord, ...]
    parity: Parity
    """Of the outputs of the timed processes themselves."""
    page_cache: Literal["warm", "cold", "unknown"]
    """Whether the model file was in memory before the first load."""
    state_before: DeviceState
    state_after: DeviceState
    stopped_by: Literal["precision", "budget", "processes"]
    accepted_obstacles: tuple[str, ...] = ()
    """Refusals that stood when this cell began, and were taken as they are."""
    fixed_performance: bool | None = None
    """Whether the device kept a speed that it can sustain; None where it has no such mode."""
    profile: OperatorProfile | None = None
    """Where it was asked for and the program can take one."""
    profile_missing: str = ""
    """Why it was asked for and there is none."""


class Failure(Record, frozen=True, kw_only=True, tag_field="outcome", tag="failure"):
    """A cell that was tried and has no figure."""

    stage: Stage
    kind: str
    """The `kind` of the error, as the tree in `harness.errors` names it."""
    message: str
    hint: str = ""
    facts: dict[str, str] = {}
    log: str | None = None


class NotRunnable(Record, frozen=True, kw_only=True, tag_field="outcome", tag="not_runnable"):
    """A cell that cannot exist here, known before anything was tried."""

    reason: str


class NotRun(Record, frozen=True, kw_only=True, tag_field="outcome", tag="not_run"):
    """A cell that was left out, since its device had gone away or was set aside. A resumed run measures it."""

    reason: str


Outcome: TypeAlias = Measurement | Failure | NotRunnable | NotRun


class CellResult(Record, frozen=True, kw_only=True):
    """One stored cell."""

    schema: int
    cell: Cell
    outcome: Outcome
    artifact: Artifact | None
    """None where there is none: the conversion failed, or there cannot be such a file."""
    parameters: int | None
    macs: int | None
    started_at: str
    seconds: float
    retries: tuple[str, ...] = ()
    """Why contact with the device had to be made again, once each time; nothing else is ever done twice."""


class PlannedModel(Record, frozen=True, kw_only=True):
    """A model as it was when the run was planned; a run that is resumed uses this and not a file changed since."""

    spec: ModelSpec
    origin: str
    """The file or name it was taken from."""

    @property
    def name(self) -> str:
        """What cells call it."""
        return self.spec.name


class Plan(Record, frozen=True, kw_only=True):
    """What a run sets out to do, written before its first step."""

    schema: int
    run: str
    suite: str
    created_at: str
    harness_version: str
    command: tuple[str, ...]
    models: tuple[PlannedModel, ...]
    devices: tuple[DeviceFacts, ...]
    measure: MeasurePlan
    cells: tuple[Cell, ...]
    obstacles: dict[str, tuple[Obstacle, ...]] = {}
    """Device id -> what stood in the way of a stable figure when the run was planned."""
    accepted_obstacles: tuple[str, ...] = ()
    """Refusals that the user took as they are, by name."""
    require_accelerator: bool = False
    packages: dict[str, str] = {}
    """Version of each runtime and converter that was installed."""
    harness_commit: str | None = None
    """What was checked out where this program ran from a checkout of its own source; None where it was installed."""


class SuiteRuntime(Record, frozen=True, kw_only=True):
    """A runtime as a suite asks for it."""

    name: str
    """`onnxruntime`, or with its version behind: `onnxruntime@1.27.0`."""
    accelerator: str = "cpu"
    graph_optimization: str = "all"
    options: dict[str, Setting] = {}
    driver: DriverChoice = "auto"
    version: str | None = None


class Suite(Record, frozen=True, kw_only=True):
    """A suite TOML: the matrix in a few lines."""

    schema: int
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    """Becomes part of a folder's name."""
    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Names from the catalog, paths of model.toml / .onnx / .tflite / .pt2 / .keras files, or `module:factory`."""
    artifacts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("onnx/fp32", "tflite/fp32", "source")
    """`format/precision`; `source` is a ready file as it is, and nothing for other models."""
    runtimes: tuple[SuiteRuntime, ...] = ()
    """Empty: the usual runtime of each format."""
    threads: Annotated[tuple[Threads, ...], msgspec.Meta(min_length=1)] = (1,)
    affinities: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("any",)
    """The processors to use: `any`, `big`, `little`, a list (`4-7`) or a mask (`0xf0`)."""
    devices: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("host",)
    measure: MeasurePlan = MeasurePlan()


# --- regress: comparing --------------------------------------------------------------------------------------------


class ComparePlan(Record, frozen=True, kw_only=True):
    """How two builds are compared, fixed before the first sample."""

    trials: Count = 100
    """Fresh processes of either side, alive together. Many and short ones: two processes of one build differ by where
    the system put their memory, and no length of a trial makes that less."""
    turns: Count = 10
    """At most: ABBA or BAAB, drawn anew for each; every letter is one block."""
    turns_min: Count = 4
    """At least, however slow the network is."""
    trial_s: Seconds = 0.6
    """The time of a trial's blocks together. A slow network gets fewer turns for it, in every trial as many."""
    block_s: Seconds = 0.002
    """Short, as what befalls a machine for some milliseconds then befalls both sides."""
    block_iterations: Count = 1
    process_blocks: Count = 16
    """Of a whole process, where such take turns and not blocks."""
    process_block_s: Seconds = 0.015
    process_block_iterations: Count = 5
    warmup_iterations: Count = 10
    warmup_s: SecondsOrNone = 0.02
    warmup_cap_s: Seconds = 0.03
    """Neither side has to be steady for the two to be alike."""
    memory_trials: CountOrNone = 20
    """Of the trials, those that also measure memory, each in a process of its own: it is steadier than time."""
    memory_iterations: Count = 20
    seed: int = 0
    """Of the order of everything."""
    timeout_s: Seconds = 300.0
    """For one process to start and warm up, and for each of its blocks."""


class Trial(Record, frozen=True, kw_only=True):
    """One trial: fresh processes of A and of B under like conditions."""

    index: int
    how: Literal["alive together", "whole processes"]
    order: str
    """Alive together: a letter a block, in the order of time. Whole processes: a letter a process."""
    processor: int | None = None
    """The one that every process of the trial was confined to; None where they could run on any they are allowed."""
    a: tuple[ProcessRecord, ...]
    """One process where they are alive together, two where whole processes alternate."""
    b: tuple[ProcessRecord, ...]
    a_memory: MemoryRecord | None = None
    b_memory: MemoryRecord | None = None


class ComparedSide(Record, frozen=True, kw_only=True):
    """One of the two builds of a comparison."""

    said: str
    """As the user named it."""
    artifact: Artifact
    choice: RuntimeChoice
    ran: RuntimeRan


class Comparison(Record, frozen=True, kw_only=True):
    """Two builds compared by interleaved trials. Effects and verdicts are computed from this, never stored in it."""

    schema: int
    at: str
    device: DeviceFacts
    a: ComparedSide
    b: ComparedSide
    plan: ComparePlan
    state_before: DeviceState
    state_after: DeviceState
    trials: tuple[Trial, ...]
    accepted_obstacles: tuple[str, ...] = ()
    """What stood against a stable figure and was taken as it is, by name."""
    fixed_performance: bool | None = None
    """Whether Android's mode of that name was on; None where nobody has it."""
