"""The runner's vocabulary: what a job says in flags comes back as the same job, and nothing else is read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.deploy.worker.__main__ import _read_job
from harness.protocol import End, First, Job, Message, read_job, read_message, read_options
from harness.records import RuntimeChoice

NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,20}", fullmatch=True)
SETTINGS = st.one_of(st.booleans(), st.integers(-(2**31), 2**31), st.text(max_size=20), st.floats(0.1, 10))


@given(
    threads=st.integers(1, 64),
    options=st.dictionaries(NAMES, SETTINGS, max_size=4),
    block_s=st.sampled_from([0.001, 0.25, 60.0]),
    inputs=st.lists(st.from_regex(r"/[a-z0-9 /=]{1,30}", fullmatch=True), max_size=3),
)
def test_a_job_survives_its_own_command_line(
    threads: int, options: dict[str, bool | int | float | str], block_s: float, inputs: list[str]
) -> None:
    job = Job(
        choice=RuntimeChoice(runtime="onnxruntime", threads=threads, options=options),
        model="/m.onnx",
        inputs=tuple(inputs),
        samples=2,
        output_folder="/out",
        block_s=block_s,
    )

    assert _read_job(job.argv()) == job
    assert read_job(job.argv()) == job


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--runtime",), "has no value"),
        (("--no-such", "1"), "unknown field `no_such`"),
        (("--runtime", "coreml"), "missing required field"),
        (("--blocks", "many"), "Expected `int`"),
        (("--option", "a"), "KEY=VALUE"),
    ],
)
def test_flags_that_no_job_makes_are_refused(flags: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_job(flags)


def test_a_message_survives_its_own_line() -> None:
    assert read_message(msgspec.json.encode(First(ns=5))) == First(ns=5)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "garbage",
        '{"type": "end"',
        '{"type": "first"}',
        '{"type": "first", "ns": "5"}',
        '{"type": "first", "ns": 5, "surprise": 1}',
        '{"type": "unheard-of"}',
        '{"ns": 5}',
        "[]",
        "null",
    ],
)
def test_what_is_not_in_the_vocabulary_is_refused_with_a_reason(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_message(line)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused_and_nothing_else(line: bytes) -> None:
    try:
        message: Message = read_message(line)
    except ValueError:
        return
    assert message == End() or message is not None


def test_an_option_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="KEY=VALUE"):
        read_options(["lonely"])
