"""Start a runtime's own tool on a device, and keep what it says as a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.errors import RunnerDied, RunnerUnreadable, RuntimeRefused, UnknownName
from harness.measure.official import benchmark_model, executor_runner, litert_benchmark, onnxruntime_perf_test
from harness.measure.official.lines import ToolFailed, UnknownText
from harness.records import ToolSummary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import PurePosixPath

    from harness.device.device import Device
    from harness.measure.official.figures import Figures


class _Tool(NamedTuple):
    arguments: Callable[..., tuple[str, ...]]
    read: Callable[[str], Figures]


TOOLS = {
    benchmark_model.TOOL: _Tool(benchmark_model.arguments, benchmark_model.read),
    litert_benchmark.TOOL: _Tool(litert_benchmark.arguments, litert_benchmark.read),
    onnxruntime_perf_test.TOOL: _Tool(onnxruntime_perf_test.arguments, onnxruntime_perf_test.read),
    executor_runner.TOOL: _Tool(executor_runner.arguments, executor_runner.read),
}


def require_tool(tool: str) -> None:
    """Refuse a name that no tool has.

    Raises:
        UnknownName: It is none.
    """
    if tool not in TOOLS:
        raise UnknownName("tool", tool, tuple(TOOLS))


def run_tool(
    tool: str,
    device: Device,
    *,
    program: PurePosixPath,
    model: PurePosixPath,
    threads: int = 1,
    iterations: int = 50,
    more: tuple[str, ...] = (),
    timeout_s: float = 600.0,
) -> ToolSummary:
    """Run a tool once, and read what it says. Blocks until it is done.

    Args:
        tool: A key of `TOOLS`.
        device: Where.
        program: The tool there.
        model: The file there.
        threads: As the tool understands them.
        iterations: At least so many timed inferences; some tools add more, to reach a duration.
        more: Flags of the tool itself, as they are: `--use_gpu=true`.
        timeout_s: For the whole.

    Raises:
        UnknownName: There is no such tool.
        RunnerDied: It ended with another exit code than 0, and does not say why.
        RunnerUnreadable: It says something that is not known. There is no figure then.
        RuntimeRefused: It says that it failed.
        DeviceTimedOut: It took longer.
    """
    require_tool(tool)
    argv = (
        str(program),
        *TOOLS[tool].arguments(str(model), threads=threads, iterations=iterations, more=more),
    )
    digest = device.sha256(program, timeout_s=timeout_s)
    obstacles, state = device.obstacles(), device.state()
    done = device.shell(argv, timeout_s=timeout_s)
    try:
        figures = TOOLS[tool].read(f"{done.stdout}\n{done.stderr}")
    except ToolFailed as error:
        raise RuntimeRefused(device.id, "tool_failed", f"{tool}: {error}") from error
    except UnknownText as error:
        if done.returncode != 0:
            raise RunnerDied(device.id, argv, done.returncode, _last(done.stderr or done.stdout)) from error
        raise RunnerUnreadable(device.id, error.line, f"{tool}: {error.problem}") from error
    if done.returncode != 0:
        raise RunnerDied(device.id, argv, done.returncode, _last(done.stderr or done.stdout))
    return ToolSummary(
        tool=tool,
        argv=argv,
        device_id=device.id,
        is_emulated=device.facts().is_emulated,
        program_sha256=digest,
        state_before=state,
        obstacles=obstacles,
        **vars(figures),
    )


def _last(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-2:])[-300:]
