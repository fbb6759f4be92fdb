"""The app's source against this program's words. No Swift is needed: the tables and messages are read as text.

What Swift alone can say (does it build, do its own tests pass) is said by .github/workflows/macos.yml.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from harness.deploy.worker import loop
from harness.device.ios import connected, job_folder
from harness.protocol import PROTOCOL_VERSION, Job, Message, Profile
from harness.records import BlockConditions, RuntimeChoice, TensorSpec

IOS = Path(__file__).resolve().parents[2] / "harness" / "deploy" / "ios"
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in IOS.rglob("*.swift")}
RUNNER = SOURCES["Runner.swift"]


def fields(record: type[msgspec.Struct]) -> set[str]:
    """The keys of a record's JSON, the tag apart."""
    return {field.encode_name for field in msgspec.structs.fields(record)}


def required(record: type[msgspec.Struct]) -> set[str]:
    """Those of them that must be there."""
    return {field.encode_name for field in msgspec.structs.fields(record) if field.required}


def swift_fields(name: str) -> set[str]:
    """The stored properties of a Swift struct."""
    body = re.search(rf"struct {name}: [^{{]*\{{(.*?)\n\}}", SOURCES["Job.swift"], re.DOTALL)
    assert body, f"there is no struct {name}"
    return set(re.findall(r"^    public let (\w+):", body[1], re.MULTILINE))


def keys_of(text: str, opening: int) -> set[str]:
    """The first elements of the pairs in a Swift array literal that begins at `opening`; not those in inner ones."""
    keys, depth, position = set(), 0, opening
    while True:
        character = text[position]
        depth += {"[": 1, "(": 1, "]": -1, ")": -1}.get(character, 0)
        if character == "(" and depth == 2:
            found = re.match(r'\("(\w+)",', text[position:])
            if found:
                keys.add(found[1])
        if character == '"':
            position = text.index('"', position + 1)
        position += 1
        if depth == 0:
            return keys


def said(kind: str) -> list[set[str]]:
    """The keys of every message of a kind that the app says."""
    starts = [found.end() - 1 for found in re.finditer(rf'say\("{kind}", \[', RUNNER)]
    return [keys_of(RUNNER, start) for start in starts]


# Core ML tells which unit an operator is planned for, and no time: a job that asks for a profile is refused.
MESSAGES = {message.__struct_config__.tag: message for message in get_args(Message) if message is not Profile}


@pytest.mark.parametrize("kind", sorted(MESSAGES))
def test_the_app_says_every_message_with_every_key_and_no_other(kind: str) -> None:
    found = said(kind)

    assert found, f"the app never says {kind}"
    for keys in found:
        assert required(MESSAGES[kind]) <= keys <= fields(MESSAGES[kind])


def test_the_app_says_whether_its_process_is_fresh_and_of_what_the_time_of_loading_is_made() -> None:
    assert "jobs_before" in said("meta")[0]
    assert "timings_ns" in said("loaded")[0]
    assert re.findall(r'\("(\w+)", (?:compiledAt - began|now\(\) - compiledAt)\)', SOURCES["CoreMLBackend.swift"]) == [
        "compile",
        "load_cold",
    ]


def test_the_app_asks_where_operations_run_after_the_first_inference_and_never_where_memory_is_measured() -> None:
    latency, memory = (RUNNER.index(f"func {name}Job(") for name in ("latency", "memory"))

    assert RUNNER.count("session.placement()") == 1
    assert latency < RUNNER.index("let firstNs = now() - began") < RUNNER.index("session.placement()") < memory


def test_the_app_says_no_message_that_this_program_does_not_know() -> None:
    assert set(re.findall(r'say\("(\w+)"', RUNNER)) == set(MESSAGES)


def test_the_app_says_conditions_and_tensors_in_this_programs_words() -> None:
    conditions = RUNNER.index('("conditions", .object([') + len('("conditions", .object(')
    tensors = SOURCES["Session.swift"].index(".object([") + len(".object(")

    assert keys_of(RUNNER, conditions) <= fields(BlockConditions)
    assert keys_of(SOURCES["Session.swift"], tensors) == fields(TensorSpec)


def test_the_app_says_how_a_job_ended_and_how_the_phone_is_in_this_programs_words() -> None:
    done = RUNNER.index("let done: Json = .object([") + len("let done: Json = .object(")
    state = SOURCES["ThisPhone.swift"].index("return .object([") + len("return .object(")

    assert keys_of(RUNNER, done) == fields(job_folder.Done)
    assert keys_of(SOURCES["ThisPhone.swift"], state) == fields(job_folder.AppState)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("JobFile", job_folder.JobFile),
        ("Job", Job),
        ("Choice", RuntimeChoice),
        ("SentItem", job_folder.SentItem),
        ("SentFile", job_folder.SentFile),
    ],
)
def test_the_app_reads_every_key_that_this_program_sends(name: str, record: type[msgspec.Struct]) -> None:
    assert swift_fields(name) == fields(record)


@pytest.mark.parametrize(("name", "record"), [("jobKeys", Job), ("choiceKeys", RuntimeChoice)])
def test_the_app_refuses_no_key_that_this_program_sends(name: str, record: type[msgspec.Struct]) -> None:
    table = re.search(rf"let {name}: Set<String> = \[(.*?)\]", SOURCES["Job.swift"], re.DOTALL)

    assert table
    assert set(re.findall(r'"(\w+)"', table[1])) == fields(record)


def test_versions_and_names_are_the_same_on_both_sides() -> None:
    assert f"static let schema = {job_folder.JOB_SCHEMA}\n" in SOURCES["Job.swift"]
    assert f'("protocol", .int({PROTOCOL_VERSION}))' in RUNNER
    assert f"PRODUCT_BUNDLE_IDENTIFIER: {connected.DEFAULT_APP}\n" in (IOS / "project.yml").read_text(encoding="utf-8")


def test_the_warm_up_rule_has_the_same_figures_on_both_sides() -> None:
    swift = SOURCES["Loop.swift"]

    assert f"fastWeight = {loop.FAST_WEIGHT}, slowWeight = {loop.SLOW_WEIGHT}, close = {loop.CLOSE}" in swift
    assert f"closeCount > {loop.CLOSE_FOR_ITERATIONS} ||" in swift
    assert f"closeCount >= {loop.LEAST_FOR_SLOW} && closeFor >= {loop.CLOSE_FOR_S:g})" in swift


@pytest.mark.parametrize(("duration_ns", "count"), [(1_000_000, 41), (300_000_000, 5)])
def test_the_traces_of_the_swift_tests_give_the_same_here(duration_ns: int, count: int) -> None:
    now = 0

    def invoke() -> None:
        nonlocal now
        now += duration_ns

    warm = loop.warm_up(invoke, iterations=1, seconds=0, cap_s=8, clock=lambda: now)

    assert (len(warm.ns), warm.steady) == (count, True)
    assert f"repeating: {duration_ns:_}, count: {count})" in SOURCES["RunnerCoreTests.swift"]
