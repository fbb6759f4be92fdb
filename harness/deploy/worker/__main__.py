"""`python -m harness.deploy.worker FLAGS`: one job, its messages on standard output. See `harness.protocol`."""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec
import numpy as np

from harness.deploy.worker import loop, system
from harness.deploy.worker.session import JobRefused, Placement, SaysLoad, SaysSettings, SaysTimings, runtime_module
from harness.errors import WrongInput
from harness.protocol import (
    PROTOCOL_VERSION,
    Canary,
    End,
    First,
    Job,
    Loaded,
    Message,
    Meta,
    Outputs,
    ProgramError,
    TimedBlock,
    Warmup,
    read_options,
)
from harness.records import RuntimeChoice
from harness.tensors import read_raw, write_raw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.deploy.worker.session import Session

_NOT_ASKED = Placement(
    nodes_by_accelerator={},
    nodes_total=None,
    nodes_delegated=None,
    partitions=None,
    missing="not asked in a job that measures memory",
)


def main(flags: Sequence[str]) -> int:
    """Do one job; the exit code is 0 when its last message is `end`."""
    system.die_with_parent()
    with _private_stdout() as out:
        try:
            _do(_read_job(flags), out)
        except (JobRefused, WrongInput) as error:
            _say(out, ProgramError(kind=error.kind, message=getattr(error, "message", str(error))))
            return 1
        except ImportError as error:
            _say(out, ProgramError(kind="missing_extra", message=str(error)))
            return 1
    return 0


def _do(job: Job, out: BinaryIO) -> None:
    began = time.perf_counter_ns()
    runtime = runtime_module(job.choice.runtime)
    version = runtime.version()
    startup_ns = time.perf_counter_ns() - began
    clock_cost_ns = system.clock_cost_ns()
    meta = Meta(
        protocol=PROTOCOL_VERSION,
        program="python-worker",
        runtime=job.choice.runtime,
        runtime_version=version,
        api=runtime.API,
        library=runtime.library(),
        pid=os.getpid(),
        clock=time.get_clock_info("perf_counter").implementation,
        clock_cost_ns=clock_cost_ns,
        startup_ns=startup_ns,
        processors=system.allowed_processors(),
        asked=job.asked(),
    )
    _say(out, meta)
    if job.mode == "profile":
        raise JobRefused("unsupported_profile", "the Python worker does not take the time of operators, bench does")
    # The collector would run inside some inferences and not in others; a job makes no garbage that matters.
    gc.collect()
    gc.disable()
    if job.mode == "memory":
        _memory_job(job, out)
    else:
        _latency_job(job, out, clock_cost_ns)
    _say(out, End())


def _latency_job(job: Job, out: BinaryIO, clock_cost_ns: int) -> None:
    _say(out, Canary(when="before", ns=system.canary_ns()))
    opened = _load(job)
    session = opened.session
    samples = _read_samples(job, session)
    _set_sample(session, samples, 0)
    before = time.perf_counter_ns()
    session.invoke()
    first_ns = time.perf_counter_ns() - before
    # Not before: Core ML loads the model once more for its plan, and for the time of a cached load.
    timings_ns = session.timings_ns() if isinstance(session, SaysTimings) else {}
    _say(out, _loaded(opened, session.placement(), timings_ns))
    _say(out, First(ns=first_ns))
    answers = _answer_all(session, samples, job.samples)
    _say(out, _write_outputs(answers, Path(job.output_folder)))

    _set_sample(session, samples, 0)
    warm = loop.warm_up(session.invoke, iterations=job.warmup_iterations, seconds=job.warmup_s, cap_s=job.warmup_cap_s)
    _say(out, Warmup(ns=tuple(warm.ns), steady=warm.steady))
    per_sample = loop.iterations_per_sample(statistics.median(warm.ns[-100:]), clock_cost_ns)
    watch = system.ConditionsWatch()
    for index in range(job.blocks):
        watch.start()
        block = loop.timed_block(
            session.invoke, iterations=job.block_iterations, seconds=job.block_s, per_sample=per_sample
        )
        conditions = watch.stop()
        _say(
            out,
            TimedBlock(
                index=index,
                start_ns=block.start_ns,
                iterations_per_sample=block.iterations_per_sample,
                ns=tuple(block.ns),
                conditions=conditions,
            ),
        )
    _require_same(session, answers)
    _say(out, Canary(when="after", ns=system.canary_ns()))


def _memory_job(job: Job, out: BinaryIO) -> None:
    was_reset = system.reset_peak_memory()
    _say(out, system.memory("baseline", was_reset=was_reset))
    opened = _load(job)
    session = opened.session
    # Neither plan nor cached load is asked for: a second copy of the model would be in the peak.
    _say(out, _loaded(opened, _NOT_ASKED, {}))
    samples = _read_samples(job, session)
    _say(out, system.memory("loaded", was_reset=was_reset))
    _set_sample(session, samples, 0)
    for _ in range(job.memory_iterations):
        session.invoke()
    _say(out, system.memory("peak", was_reset=was_reset))


class _Opened(NamedTuple):
    session: Session
    ns: int
    threads: int | None


def _load(job: Job) -> _Opened:
    threads_before = system.thread_count()
    before = time.perf_counter_ns()
    session = runtime_module(job.choice.runtime).open_session(job.model, job.choice)
    load_ns = session.load_ns if isinstance(session, SaysLoad) else time.perf_counter_ns() - before
    threads_after = system.thread_count()
    threads = None
    if threads_before is not None and threads_after is not None:
        threads = 1 + threads_after - threads_before
    return _Opened(session, load_ns, threads)


def _loaded(opened: _Opened, placement: Placement, timings_ns: dict[str, int]) -> Loaded:
    session = opened.session
    return Loaded(
        ns=opened.ns,
        threads=opened.threads,
        graph_optimization=session.graph_optimization,
        inputs=session.inputs,
        outputs=session.outputs,
        nodes_by_accelerator=placement.nodes_by_accelerator,
        nodes_total=placement.nodes_total,
        nodes_delegated=placement.nodes_delegated,
        partitions=placement.partitions,
        fallback_reason=placement.fallback_reason,
        placement_missing=placement.missing,
        nodes=placement.nodes,
        settings=session.settings() if isinstance(session, SaysSettings) else {},
        timings_ns=timings_ns,
    )


def _read_samples(job: Job, session: Session) -> list[NDArray[np.generic]]:
    if len(job.inputs) != len(session.inputs):
        names = ", ".join(tensor.name for tensor in session.inputs)
        raise WrongInput(names, f"{len(session.inputs)} inputs", f"{len(job.inputs)} files")
    return [
        read_raw(Path(path), tensor, samples=job.samples)
        for path, tensor in zip(job.inputs, session.inputs, strict=True)
    ]


def _set_sample(session: Session, samples: list[NDArray[np.generic]], index: int) -> None:
    session.set_inputs([values[index : index + 1] for values in samples])


def _answer_all(session: Session, samples: list[NDArray[np.generic]], count: int) -> list[list[NDArray[np.generic]]]:
    """The outputs for every sample: one list a sample. The first sample has been run already."""
    answers = [session.read_outputs()]
    for index in range(1, count):
        _set_sample(session, samples, index)
        session.invoke()
        answers.append(session.read_outputs())
    return answers


def _write_outputs(answers: list[list[NDArray[np.generic]]], folder: Path) -> Outputs:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    digest = hashlib.sha256()
    for index, per_sample in enumerate(zip(*answers, strict=True)):
        path = folder / f"output-{index}.bin"
        write_raw(path, np.concatenate(per_sample))
        digest.update(path.read_bytes())
        files.append(str(path))
    return Outputs(files=tuple(files), sha256=digest.hexdigest())


def _require_same(session: Session, answers: list[list[NDArray[np.generic]]]) -> None:
    """The timed inferences computed what the checked one did: their input was not overwritten, nothing drifted."""
    for tensor, found, expected in zip(session.outputs, session.read_outputs(), answers[0], strict=True):
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)
        limit = session.same_answer * max(1e-12, float(np.abs(expected.astype(np.float64)).max(initial=0.0)))
        # Written so that NaN, which compares false with everything, is a difference.
        if not difference <= limit and found.tobytes() != expected.tobytes():
            problem = f"output {tensor.name!r} changed by {difference:g} between the first and the last inference"
            raise JobRefused("wrong_numbers", problem)


def _read_job(flags: Sequence[str]) -> Job:
    parser = argparse.ArgumentParser(prog="harness.deploy.worker", allow_abbrev=False)
    defaults = Job(choice=RuntimeChoice(runtime=""), model="", inputs=(), samples=1, output_folder=".")
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--graph-optimization", default="all")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", action="append", default=[], dest="inputs")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--output-folder", required=True)
    parser.add_argument("--mode", choices=("latency", "memory", "profile"), default="latency")
    for name in ("blocks", "block_iterations", "warmup_iterations", "memory_iterations", "profile_iterations"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    for name in ("block_s", "warmup_s", "warmup_cap_s"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name))
    found = vars(parser.parse_args(flags))
    choice = RuntimeChoice(
        runtime=found.pop("runtime"),
        accelerator=found.pop("accelerator"),
        threads=found.pop("threads"),
        graph_optimization=found.pop("graph_optimization"),
        options=read_options(found.pop("option")),
    )
    return Job(choice=choice, inputs=tuple(found.pop("inputs")), **found)


def _private_stdout() -> BinaryIO:
    """Standard output for the messages alone; what a runtime's own code prints there goes to standard error."""
    private = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return private


def _say(out: BinaryIO, message: Message) -> None:
    out.write(msgspec.json.encode(message) + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
