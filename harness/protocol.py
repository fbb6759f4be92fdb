"""What a timing program prints, one JSON object a line: the same words from the Python worker and the native loop.

A program is started with the flags that `Job.argv` makes, and prints in this order:

    meta      once     what the program is, which runtime it loaded
    canary    before   a fixed piece of work, timed
    loaded    once     the session stands: how long that took, what was really set up. Said after the first inference
                       by a program whose runtime loads the model once more to tell where its nodes run
    first     once     the first inference
    outputs   once     the outputs for every checked sample are in files
    warmup    once     every warm-up time, and whether the times settled
    block     n times  every timed inference of a block, with the conditions over it
    memory    3 times  in a memory job, in place of warmup and block: baseline, loaded, peak
    profile   once     in a profile job, in their place: the time of each operator is in a file
    canary    after
    end       once     without it, the stream is a failure, never a short result

or, at any point, `error`, after which the program exits non-zero.

The native loop takes the same flags and `--library FILE` (the runtime's shared library, required), `--library-version
TEXT` (for a library that does not know its own; one that does has to agree) and `--serve`. As a server it stops after
`warmup` and reads its standard input: for each line `block` it runs and prints one block, the line `end` is answered
with `end`. It has no canaries: two servers on one device, asked in turn, measure two versions under like conditions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from harness.decoding import convert, decode
from harness.records import BlockConditions, PlacedNode, Record, RuntimeChoice, Setting, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOL_VERSION = 1
PROCESSOR_SENSOR: Final = re.compile(
    r"coretemp|k10temp|zenpower|x86_pkg_temp|cpu|soc|\b(big|mid|little)\b", re.IGNORECASE
)
"""The name of a sensor of temperature that sits on the processor; bench has the same rule in C. Others are a battery's,
a charger's or a modem's."""


class Job(Record, frozen=True, kw_only=True):
    """One process: what it loads, what it does."""

    choice: RuntimeChoice
    model: str
    inputs: tuple[str, ...]
    """One raw little-endian file an input, [samples, ...] in the dtype the file declares, in the model's order."""
    samples: int
    output_folder: str
    """`output-0.bin`... are written here, [samples, ...] in the artifact's dtype."""
    mode: Literal["latency", "memory", "profile"] = "latency"
    blocks: int = 4
    block_s: float = 0.25
    block_iterations: int = 5
    warmup_iterations: int = 10
    warmup_s: float = 0.25
    warmup_cap_s: float = 8.0
    memory_iterations: int = 20
    profile_iterations: int = 20

    def argv(self) -> tuple[str, ...]:
        """The flags that say all this to a timing program."""
        choice = self.choice
        flags = [
            *("--runtime", choice.runtime),
            *("--accelerator", choice.accelerator),
            *("--threads", str(choice.threads)),
            *("--graph-optimization", choice.graph_optimization),
            *("--model", self.model),
            *("--samples", str(self.samples)),
            *("--output-folder", self.output_folder),
            *("--mode", self.mode),
            *("--blocks", str(self.blocks)),
            *("--block-s", f"{self.block_s:g}"),
            *("--block-iterations", str(self.block_iterations)),
            *("--warmup-iterations", str(self.warmup_iterations)),
            *("--warmup-s", f"{self.warmup_s:g}"),
            *("--warmup-cap-s", f"{self.warmup_cap_s:g}"),
            *("--memory-iterations", str(self.memory_iterations)),
            *("--profile-iterations", str(self.profile_iterations)),
        ]
        for path in self.inputs:
            flags += ["--input", path]
        for key, value in sorted(choice.options.items()):
            flags += ["--option", f"{key}={_option_text(value)}"]
        return tuple(flags)

    def asked(self) -> Asked:
        """What a program that has read the flags right says of them in `meta`."""
        choice = self.choice
        return Asked(
            accelerator=choice.accelerator,
            threads=choice.threads,
            graph_optimization=choice.graph_optimization,
            options={key: _plain(value) for key, value in choice.options.items()},
            mode=self.mode,
            samples=self.samples,
            blocks=self.blocks,
            block_s=float(f"{self.block_s:g}"),
            block_iterations=self.block_iterations,
            warmup_iterations=self.warmup_iterations,
            warmup_s=float(f"{self.warmup_s:g}"),
            warmup_cap_s=float(f"{self.warmup_cap_s:g}"),
            memory_iterations=self.memory_iterations,
            profile_iterations=self.profile_iterations,
        )


class Asked(Record, frozen=True, kw_only=True):
    """What a program understood that it is asked for. Whoever asked compares it with the job."""

    accelerator: str
    threads: int
    graph_optimization: str
    options: dict[str, str]
    """As the runtimes take them: texts, 1 and 0 for true and false."""
    mode: str
    samples: int
    blocks: int
    block_s: float
    block_iterations: int
    warmup_iterations: int
    warmup_s: float
    warmup_cap_s: float
    memory_iterations: int
    profile_iterations: int


class Meta(Record, frozen=True, kw_only=True, tag_field="type", tag="meta"):
    """What the program is, and what it was asked for; what really ran, `loaded` says."""

    protocol: int
    program: Literal["python-worker", "bench", "ios-runner"]
    runtime: str
    runtime_version: str
    api: str
    library: str | None
    """Path of the runtime's shared library on the device, where there is one."""
    pid: int
    clock: str
    clock_cost_ns: int
    """The shortest difference between two readings."""
    startup_ns: int | None
    """Importing the runtime, or loading its library."""
    processors: str | None = None
    """That the process may use, as the system lists them: `0-3,6`."""
    program_version: str | None = None
    """Of a program that is not part of this installation, as the app on a phone."""
    asked: Asked | None = None
    """None from an app, which reads a job file and refuses what it does not know."""
    jobs_before: int = 0
    """That this very process has done: above 0 only in an app that somebody opened by hand."""


class Canary(Record, frozen=True, kw_only=True, tag_field="type", tag="canary"):
    """A fixed piece of work that has nothing to do with the model."""

    when: Literal["before", "after"]
    ns: int


class Loaded(Record, frozen=True, kw_only=True, tag_field="type", tag="loaded"):
    """The session stands."""

    ns: int
    threads: int | None
    graph_optimization: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes_by_accelerator: dict[str, int]
    nodes_total: int | None
    nodes_delegated: int | None
    partitions: int | None
    fallback_reason: str | None
    placement_missing: str | None = None
    """Why nobody knows which node runs where, from a runtime that can tell it elsewhere."""
    nodes: tuple[PlacedNode, ...] = ()
    """Each operation, from a runtime that has a plan of them."""
    settings: dict[str, Setting] = {}
    timings_ns: dict[str, int] = {}
    """Of what `ns` is made, by the runtime's words, and what loading once more takes where that was tried."""


class First(Record, frozen=True, kw_only=True, tag_field="type", tag="first"):
    """The first inference, inputs already in place."""

    ns: int


class Outputs(Record, frozen=True, kw_only=True, tag_field="type", tag="outputs"):
    """The outputs of every checked sample are written."""

    files: tuple[str, ...]
    sha256: str
    """Over the files' bytes, in order."""


class Warmup(Record, frozen=True, kw_only=True, tag_field="type", tag="warmup"):
    """Every warm-up inference."""

    ns: tuple[int, ...]
    steady: bool


class TimedBlock(Record, frozen=True, kw_only=True, tag_field="type", tag="block"):
    """Every timed inference of one block."""

    index: int
    start_ns: int
    iterations_per_sample: int
    ns: tuple[int, ...]
    conditions: BlockConditions


class Memory(Record, frozen=True, kw_only=True, tag_field="type", tag="memory"):
    """Memory of the process at one point."""

    at: Literal["baseline", "loaded", "peak"]
    source: str
    resident_bytes: int
    """At `peak` the highest since the program began or since the mark was reset; else the present value."""
    pss_bytes: int | None
    private_dirty_bytes: int | None
    rss_anon_bytes: int | None = None
    """Resident and backed by no file."""


class Profile(Record, frozen=True, kw_only=True, tag_field="type", tag="profile"):
    """The time of each operator is taken."""

    file: str
    format: Literal["onnxruntime-trace", "litert-events"]
    """What the file holds; `harness.measure.operators` reads both."""
    ns: tuple[int, ...]
    """Whole inferences while the operators were timed, which slows them down."""


class ProgramError(Record, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """The program gives up."""

    kind: str
    """A `kind` of `harness.errors`: unreadable_model, wrong_input, unsupported_op, missing_extra..."""
    message: str


class End(Record, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """Nothing is missing."""


Message: TypeAlias = (
    Meta | Canary | Loaded | First | Outputs | Warmup | TimedBlock | Memory | Profile | ProgramError | End
)

_CHOICE_FLAGS = ("runtime", "accelerator", "threads", "graph_optimization")


def read_message(line: str | bytes) -> Message:
    """Read one line.

    Raises:
        ValueError: The line is not in the vocabulary; the text says what is wrong with it.
    """
    try:
        message: Message = decode(line, Message)
    except msgspec.DecodeError as error:  # ValidationError is one, too
        raise ValueError(str(error)) from None
    return message


def read_job(flags: Sequence[str]) -> Job:
    """Undo what `Job.argv` does, for a device that takes a job in another form than a command line.

    Raises:
        ValueError: A flag is unknown, has no value, or is missing.
    """
    found: dict[str, list[str]] = {}
    if len(flags) % 2:
        problem = f"the flag {flags[-1]!r} has no value"
        raise ValueError(problem)
    for flag, value in zip(flags[::2], flags[1::2], strict=True):
        found.setdefault(flag.removeprefix("--").replace("-", "_"), []).append(value)
    inputs, options = found.pop("input", []), read_options(found.pop("option", []))
    given: dict[str, object] = {name: values[-1] for name, values in found.items()}
    choice = {name: given.pop(name) for name in _CHOICE_FLAGS if name in given}
    job = {**given, "choice": {**choice, "options": options}, "inputs": inputs}
    try:
        return convert(job, Job, strict=False)  # every value of a flag is text
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def read_options(pairs: Sequence[str]) -> dict[str, Setting]:
    """Undo what `Job.argv` does to the options.

    Raises:
        ValueError: A pair has no `=`, or its value is not JSON.
    """
    options: dict[str, Setting] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            problem = f"an option is KEY=VALUE, not {pair!r}"
            raise ValueError(problem)
        options[key] = decode(value, Setting)
    return options


def _plain(value: Setting) -> str:
    """An option as runtimes take it."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else _option_text(value)


def _option_text(value: Setting) -> str:
    return msgspec.json.encode(value).decode()
