from __future__ import annotations

import pickle
import re
from typing import Any

import pytest

from harness import errors
from harness.errors import HarnessError

EXAMPLES: tuple[HarnessError, ...] = (
    errors.CellsFailed(2, 12, 3),
    errors.DeviceBusy("pixel", "run nightly of ann (process 17) is using it"),
    errors.LeaseLost("pixel", "run nightly of ann (process 17)"),
    errors.NothingMeasured(12),
    errors.BadSetting("suite.toml", 3, "devices[0]", "unknown key", ("host",)),
    errors.UnknownName("device", "pixel", ("host",)),
    errors.ProductName("device", "pixel-8", ("host",)),
    errors.ImpossibleRatio(32.0, 2.67, 3_504_872, 1_312_689),
    errors.RunLocked("reports/x"),
    errors.UnwritableFolder("reports", "Read-only file system"),
    errors.DeviceCommandFailed("host", ("cat", "/no such"), 1, "cat: /no such: No such file\n"),
    errors.DeviceFileFailed("host", "push", "/there", "Permission denied"),
    errors.DeviceTimedOut("host", "push /there", 2.5),
    errors.DeviceNotFound("pixel", "nothing listens there"),
    errors.DeviceOffline("pixel", "device offline"),
    errors.DeviceUnauthorized("pixel", "no key was accepted"),
    errors.SeveralDevices("usb", "more than one device"),
    errors.LinkLost("pixel", "push /there", "reset by peer"),
    errors.DeviceRefused("pixel", "shell", "closed"),
    errors.DeviceLocked("iphone", "unlock it"),
    errors.AppMissing("iphone", "org.example.app"),
    errors.AppRefused("iphone", "Runner.ipa", "ApplicationVerificationFailed"),
    errors.DeviceFull("host", "/there", 1234567),
    errors.GateFailed(1, 24),
    errors.Incomparable("reports/a", "reports/b", ("threads",)),
    errors.DeviceFull("host", "/there", None),
    errors.PushCorrupted("host", "/there", "a" * 64, "b" * 64),
    errors.AbiMismatch("pixel", "libonnxruntime.so", "linux-x86_64", "android-arm64-v8a"),
    errors.RunnerDied("host", ("python", "-m", "x"), -11, "Fatal"),
    errors.RunnerDied("host", ("python",), 3, ""),
    errors.RunnerHung("host", ("python",), 300.0, "warmup"),
    errors.RunnerUnreadable("host", "{", "truncated"),
    errors.DeviceNotFit("host", "low-battery", "the battery is at 9 %", "Charge it."),
    errors.AcceleratorRefused("host", "2 threads", "1", "counted"),
    errors.AcceleratorRefused("host", "every node on xnnpack", "7 of 10 nodes", "SOFTMAX", is_strict=True),
    errors.NeverSteady("host", 3, "steal"),
    errors.MissingTool("adb", "Android", "apt-get install adb"),
    errors.MissingExtra("torch", "built-in networks", "torch"),
    errors.BuildFailed("bench", ("gcc", "-c", "x.c"), "x.c:1: error"),
    errors.RuntimeRefused("host", "unsupported_op", "no FOO"),
    errors.UnusableData("visob", "2 files cannot be decoded", ("a/1/x.png", "a/1/y.png")),
    errors.DegenerateScores("net", "all embeddings are the same"),
    errors.UnreadableModel("a.onnx", "onnx", "truncated"),
    errors.WrongInput("x", "[1, 3]", "[1, 4]"),
    errors.NonFiniteOutput("onnx on host", "y", 1000, 4000),
    errors.ParityFailed("onnx on host", "y", "relative L2", 0.5, 0.01),
    errors.NotProved("eyes.mlpackage", "light_cnn9"),
    errors.TrainerDied("teacher", -9),
    errors.ConversionFailed("resnet onnx/fp32", "crashed", "it was ended by SIGSEGV", "/tmp/log"),
    errors.Unsupported("conv", "conv_3", "pad_type", "same_lower"),
    errors.UnreadableRecord("run.json", "is not JSON"),
)


def _all_errors(root: type[HarnessError] = HarnessError) -> list[type[HarnessError]]:
    return [root, *(found for child in root.__subclasses__() for found in _all_errors(child))]


def test_every_error_that_is_raised_has_an_example_here() -> None:
    abstract = {HarnessError, errors.UsageError, errors.DeviceError, errors.BadData}
    ours = {error for error in _all_errors() if error.__module__ == errors.__name__}

    assert {type(example) for example in EXAMPLES} == ours - abstract


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_way_between_processes(error: HarnessError) -> None:
    arrived: Any = pickle.loads(pickle.dumps(error))

    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)
    assert (str(arrived), arrived.hint, arrived.args) == (str(error), error.hint, error.args)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_is_one_sentence_that_holds_its_facts(error: HarnessError) -> None:
    sentence = str(error)

    assert "\n" not in sentence
    assert sentence
    assert "object at 0x" not in sentence


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    exit_code, drawn = 0, {}
    for line in str(errors.__doc__).splitlines():
        node = re.match(r"\s+[│├└─ ]*[├└]── (\w+)\s+(\d+)?(?:\s|$)", line)
        if node:
            exit_code = int(node[2]) if node[2] else exit_code
            drawn[node[1]] = exit_code

    in_code = {error.__name__: error.exit_code for error in _all_errors() if error.__module__ == errors.__name__}
    assert drawn == {name: code for name, code in in_code.items() if name != "HarnessError"}


def test_what_a_caller_can_try_again_is_a_device_that_is_slow_or_a_link_that_garbles() -> None:
    ours = [error for error in _all_errors() if error.__module__ == errors.__name__]

    transient = {error.__name__ for error in ours if error.transient}
    assert transient == {"DeviceOffline", "DeviceTimedOut", "LinkLost", "PushCorrupted"}


@pytest.mark.parametrize(
    ("returncode", "name"),
    [(-11, "SIGSEGV"), (-9, "SIGKILL"), (-40, "signal 40"), (0, None), (139, None)],
)
def test_a_runner_that_died_of_a_signal_says_which(returncode: int, name: str | None) -> None:
    assert errors.RunnerDied("host", ("bench",), returncode, "").signal_name == name


def test_a_runner_that_died_says_how_and_what_it_last_said() -> None:
    assert str(errors.RunnerDied("host", ("bench",), -11, "abc")) == (
        "host: the timing program was ended by SIGSEGV before it was done: abc"
    )
    assert str(errors.RunnerDied("host", ("bench",), 3, "")) == (
        "host: the timing program exited with code 3 before it was done, and said nothing"
    )


def test_a_command_that_failed_is_shown_so_that_it_can_be_typed() -> None:
    error = errors.DeviceCommandFailed("host", ("cat", "/no such"), 1, "cat: No such file\n")

    assert str(error) == "host: `cat '/no such'` exited 1: cat: No such file"


def test_a_missing_extra_gives_the_command_that_installs_it() -> None:
    error = errors.MissingExtra("onnxruntime", "running .onnx files", "onnxruntime")

    assert error.hint == "Install it: pip install 'inference-harness[onnxruntime]'"
    assert error.exit_code == 4


def test_a_bad_setting_hints_at_what_is_allowed_where_only_certain_words_are() -> None:
    assert errors.BadSetting("f", 1, "k", "p", ("a", "b")).hint == "Allowed: a, b."
    assert errors.BadSetting("f", 1, "k", "p", ()).hint == ""
    assert str(errors.BadSetting("f", None, "", "is not TOML", ())) == "f: is not TOML"


def test_a_long_unreadable_line_is_cut_in_the_sentence_and_whole_in_the_facts() -> None:
    error = errors.RunnerUnreadable("host", "x" * 500, "not JSON")

    assert len(str(error)) < 250
    assert error.line == "x" * 500
