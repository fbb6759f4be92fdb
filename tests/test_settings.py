from __future__ import annotations

import datetime as dt
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import BadSetting
from harness.records import ModelSpec, Suite
from harness.settings import line_of, read_settings

if TYPE_CHECKING:
    from pathlib import Path

MODEL = """\
# a comment, so that lines and keys do not coincide
schema = 1
name = "tiny"
task = "classification"

[source]
kind = "builtin"
network = "resnet18"
arguments = { width = 64, pretrained = false }

[[inputs]]
name = "image"
shape = [1, 3, 224, 224]
data = { kind = "uniform", low = 0.0, high = 1.0 }

[[inputs]]
name = "mask"
shape = [
    1,
    224,
]

[inputs.data]
kind = "normal"
std = 2.0

[calibration]
samples = 8
"""


def refusal(text: str | bytes, tmp_path: Path, kind: type[Any] = ModelSpec) -> BadSetting:
    """The error that a file with this text gives."""
    path = tmp_path / "model.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadSetting) as caught:
        read_settings(path, kind)
    assert caught.value.file == str(path)
    assert str(caught.value).startswith(str(path))
    return caught.value


def changed(old: str, new: str) -> str:
    assert MODEL.count(old) == 1, old
    return MODEL.replace(old, new)


def test_a_good_file_fills_the_record(tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_text(MODEL)

    spec = read_settings(path, ModelSpec)

    assert (spec.name, spec.task, spec.calibration.samples) == ("tiny", "classification", 8)
    assert spec.source.arguments == {"width": 64, "pretrained": False}  # type: ignore[union-attr]
    assert [given.shape for given in spec.inputs] == [(1, 3, 224, 224), (1, 224)]
    assert spec.inputs[1].data.std == 2.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "problem"),
    [
        ('name = "tiny"', "name = 7", 3, "name", "expected text, got a whole number"),
        ("schema = 1", 'schema = "1"', 2, "schema", "expected a whole number, got text"),
        ("schema = 1", "schema = true", 2, "schema", "expected a whole number, got true or false"),
        ("samples = 8", "samples = [8]", 28, "calibration.samples", "expected a whole number, got a list"),
        ("samples = 8", "samples = 8.5", 28, "calibration.samples", "expected a whole number, got a number"),
        ("std = 2.0", 'std = "wide"', 25, "inputs[1].data.std", "expected a number, got text"),
        ("low = 0.0", 'low = "0"', 14, "inputs[0].data.low", "expected a number, got text"),
        ("    224,\n", '    "wide",\n', 18, "inputs[1].shape[1]", "expected a whole number, got text"),
        ("{ width = 64,", "{ width = [64],", 9, "source.arguments", "got a list"),
    ],
)
def test_a_wrong_type_is_said_with_line_key_and_both_types(
    old: str, new: str, line: int, key: str, problem: str, tmp_path: Path
) -> None:
    error = refusal(changed(old, new), tmp_path)

    assert problem in error.problem
    assert str(error) == f"{error.file}, line {line}: {key}: {error.problem}"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "near", "allowed"),
    [
        ('task = "class', 'taks = "class', 4, "taks", "task", ("schema", "name", "source", "title", "task")),
        ("network =", "netwrk =", 8, "source.netwrk", "network", ("kind", "network", "arguments", "weights")),
        ("high = 1.0", "hihg = 1.0", 14, "inputs[0].data.hihg", "high", ("kind", "low", "high")),
        ('name = "mask"', 'nmae = "mask"', 17, "inputs[1].nmae", "name", ("name", "shape", "dtype", "data")),
        ("std = 2.0", "sdt = 2.0", 25, "inputs[1].data.sdt", "std", ("kind", "mean", "std")),
        ("[calibration]", "[callibration]", 27, "callibration", "calibration", ("calibration",)),
    ],
)
def test_an_unknown_key_is_said_with_what_may_be_meant_and_all_that_are_known(
    old: str, new: str, line: int, key: str, near: str, allowed: tuple[str, ...], tmp_path: Path
) -> None:
    error = refusal(changed(old, new), tmp_path)

    assert (error.line, error.key) == (line, key)
    assert error.problem == f"unknown key; did you mean {near!r}?"
    assert set(allowed) <= set(error.allowed)
    assert error.hint == f"Allowed: {', '.join(error.allowed)}."


def test_an_unknown_key_that_is_near_nothing_gets_no_guess(tmp_path: Path) -> None:
    assert refusal(MODEL + "zzzzzz = 1\n", tmp_path).problem == "unknown key"


@pytest.mark.parametrize(
    ("old", "line", "key"),
    [
        ('name = "tiny"\n', None, "name"),
        ('network = "resnet18"\n', 6, "source.network"),
        ("shape = [1, 3, 224, 224]\n", 11, "inputs[0].shape"),
        ('name = "mask"\n', 16, "inputs[1].name"),
    ],
)
def test_a_missing_key_is_said_with_the_line_of_its_table(old: str, line: int | None, key: str, tmp_path: Path) -> None:
    error = refusal(changed(old, ""), tmp_path)

    assert (error.line, error.key, error.problem) == (line, key, "is missing")


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "found", "allowed"),
    [
        (
            'task = "classification"',
            'task = "classify"',
            4,
            "task",
            "'classify'",
            ("classification", "embedding", "detection", "other"),
        ),
        (
            'kind = "builtin"',
            'kind = "bultin"',
            7,
            "source.kind",
            "'bultin'",
            ("builtin", "python", "pt2", "onnx", "tflite", "coreml", "keras"),
        ),
        ('kind = "uniform"', 'kind = "even"', 14, "inputs[0].data.kind", "'even'", ("uniform", "normal", "file")),
        ('kind = "normal"', 'kind = "gauss"', 24, "inputs[1].data.kind", "'gauss'", ("uniform", "normal", "file")),
        ('kind = "normal"', "kind = [1]", 24, "inputs[1].data.kind", "[1]", ("uniform", "normal", "file")),
    ],
)
def test_a_wrong_word_is_said_with_every_word_that_is_right(
    old: str, new: str, line: int, key: str, found: str, allowed: tuple[str, ...], tmp_path: Path
) -> None:
    error = refusal(changed(old, new), tmp_path)

    assert (error.line, error.key, error.allowed) == (line, key, allowed)
    assert found in error.problem


def test_a_table_that_does_not_say_its_kind_is_told_which_there_are(tmp_path: Path) -> None:
    error = refusal(changed('kind = "builtin"\n', ""), tmp_path)

    assert (error.line, error.key, error.problem) == (6, "source.kind", "is missing")
    assert error.allowed[:2] == ("builtin", "python")


@pytest.mark.parametrize("new", ['source = "resnet18"', "source = [1]", "source = 1979-05-27"])
def test_a_value_where_a_table_belongs_is_refused(new: str, tmp_path: Path) -> None:
    error = refusal(f'schema = 1\nname = "x"\n{new}\n', tmp_path)

    assert (error.line, error.key) == (3, "source")
    assert "expected a table" in error.problem


def test_lists_of_plain_words_are_checked_too(tmp_path: Path) -> None:
    error = refusal('schema = 1\nname = "s"\nmodels = ["a"]\n\nthreads = [1, "2"]\n', tmp_path, Suite)

    assert (error.line, error.key) == (5, "threads[1]")
    assert error.problem == "expected a whole number, got text"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('schema = 1\nname = "tiny\n', 2, "Illegal character"),
        ("schema = 1\nname\n", 2, "Expected '='"),
        ("schema = 1\nschema = 2\n", 2, "Cannot overwrite a value"),
        ("[a\n", 1, "Expected ']'"),
    ],
)
def test_what_is_not_toml_is_said_with_its_line(text: str, line: int, problem: str, tmp_path: Path) -> None:
    error = refusal(text, tmp_path)

    assert error.line == line
    assert error.problem.startswith("is not TOML: ")
    assert problem in error.problem
    assert "(at line" not in error.problem


def test_what_is_not_utf8_is_said(tmp_path: Path) -> None:
    error = refusal(b'name = "caf\xe9"', tmp_path)

    assert (error.line, error.problem) == (None, "cannot be read: it is not UTF-8 text")


def test_tables_within_tables_without_end_are_refused(tmp_path: Path) -> None:
    assert refusal("a = " + "[" * 100_000, tmp_path).problem == "is nested too deeply"


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"none\.toml: cannot be read: No such file or directory"):
        read_settings(tmp_path / "none.toml", ModelSpec)
    with pytest.raises(BadSetting, match="cannot be read: Is a directory"):
        read_settings(tmp_path, ModelSpec)


def test_an_empty_file_lacks_its_first_key(tmp_path: Path) -> None:
    error = refusal("", tmp_path)

    assert (error.line, error.key, error.problem) == (None, "schema", "is missing")


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("schema",), 2),
        (("source", "arguments", "width"), 9),
        (("inputs", 0), 11),
        (("inputs", 0, "data", "high"), 14),
        (("inputs", 1, "shape", 1), 18),
        (("inputs", 1, "data"), 23),
        (("inputs", 1, "data", "std"), 25),
        (("calibration", "samples"), 28),
        (("calibration", "files"), 27),
        (("nowhere",), None),
    ],
)
def test_the_line_of_a_key_is_that_of_the_nearest_thing_that_has_one(
    location: tuple[str | int, ...], line: int | None
) -> None:
    assert line_of(MODEL, location) == line


def test_a_list_over_several_lines_is_not_taken_for_a_table() -> None:
    text = "first = [\n  [1, 2],\n  [3, 4]\n]\nsecond = 1\n"

    assert line_of(text, ("second",)) == 5


def test_tables_in_a_list_of_tables_in_a_list_of_tables_are_told_apart() -> None:
    text = "[[a]]\n[[a.b]]\nc = 1\n[[a.b]]\nc = 2\n[[a]]\n[[a.b]]\nc = 3\n"

    assert [line_of(text, ("a", *step, "c")) for step in ((0, "b", 0), (0, "b", 1), (1, "b", 0))] == [3, 5, 8]


WORDS = [
    *("schema", "name", "source", "kind", "inputs", "shape", "data", "calibration", "files", "accuracy", "value"),
    *("builtin", "python", "uniform", "classification", "float32", "network", "arguments", "models", "threads"),
    *("runtimes", "measure", "devices", "x", "a.b", ""),
]
VALUES = st.recursive(
    st.one_of(
        st.integers(),
        st.floats(),
        st.booleans(),
        st.sampled_from(WORDS),
        st.dates(),
        st.times(),
        st.datetimes(timezones=st.none()),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)),
    max_leaves=12,
)


def _toml(value: object) -> str:
    """A value as TOML writes it, tables inline."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f'"{key}" = {_toml(inner)}' for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(_toml(inner) for inner in value) + "]"
        case str():
            return f'"{value}"'
        case int() | float():
            return repr(value)
        case _:
            assert isinstance(value, dt.date | dt.time)
            return value.isoformat()


@pytest.mark.parametrize("kind", [ModelSpec, Suite])
@given(table=st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_any_toml_is_read_or_refused_in_words(kind: type[Any], table: dict[str, object], tmp_path: Path) -> None:
    text = "".join(f'"{key}" = {_toml(value)}\n' for key, value in table.items())
    tomllib.loads(text)
    (tmp_path / "any.toml").write_text(text)

    refusals = []
    try:
        read_settings(tmp_path / "any.toml", kind)
    except BadSetting as error:
        refusals.append(error.problem)
    assert not any("`" in problem for problem in refusals), "a technical name was left in the sentence"


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused_in_words(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "any.toml").write_bytes(content)

    with pytest.raises(BadSetting):  # no bytes this short make a whole model
        read_settings(tmp_path / "any.toml", ModelSpec)
