#!/usr/bin/env python3
"""Show that the gate does what it is for: `python scripts/demonstrate_gate.py [--short]`.

Three builds of one small convolutional network are made as ONNX files: one, the very same again, and one that computes
the same function more slowly (each kernel of 3 x 3 stands in one of 5 x 5 whose rim is zero). Then

    1  the slower one is held against the first   the gate has to fail    (exit code 1, p50 a regression)
    2  the same one is held against the first     the gate has to pass    (exit code 0, p50 a pass)
    3  a run with other threads is held against   the gate has to refuse  (exit code 2, naming the threads)
       a stored one

--short takes as few trials as can decide with a margin of 25 %, for CI. Leaves with 0 only if all three came out so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

CHANNELS, SIZE, LAYERS = 32, 28, 4


def main() -> int:
    """Run all three, and say what came of each."""
    is_short = "--short" in sys.argv
    trials = ["--screen-trials", "10", "--confirm-trials", "20"] if is_short else []
    with tempfile.TemporaryDirectory(prefix="gate-") as name:
        folder = Path(name)
        if is_short:
            (folder / "gate.toml").write_text("[margins]\np50_pct = 25\n", encoding="utf-8")
        files = {build: folder / f"{build}.onnx" for build in ("first", "same", "slower")}
        for build, path in files.items():
            path.write_bytes(network(rim=1 if build == "slower" else 0).SerializeToString())
        first = ["--against", str(files["first"]), "--format", "json"]
        slower = harness("gate", str(files["slower"]), *first, *trials, folder=folder)
        same = harness("gate", str(files["same"]), *first, *trials, folder=folder)
        one, two = folder / "one", folder / "two"
        for threads, run in (("1", one), ("2", two)):
            made = harness(
                *("run", str(files["first"]), "--threads", threads, "--processes", "2", "--output", str(run)),
                folder=folder,
            )
            if made.returncode:
                return told("a run to hold against", is_well=False, output=made)
        unlike = harness("gate", str(two), "--baseline", str(one), folder=folder)
    slow_p50, same_p50 = (
        next((each["verdict"] for each in findings(output) if each["metric"] == "p50"), "none")
        for output in (slower, same)
    )
    results = (
        told(
            "a slower build fails",
            is_well=slower.returncode == 1 and slow_p50 == "regression",
            output=slower,
        ),
        told(
            f"the same build passes: {same_p50}",
            is_well=same.returncode == 0 and same_p50 in {"pass", "improvement"},
            output=same,
        ),
        told(
            "another number of threads is refused",
            is_well=unlike.returncode == 2 and "threads: 1 | 2" in unlike.stdout,
            output=unlike,
        ),
    )
    return max(results)


def network(*, rim: int) -> onnx.ModelProto:
    """The network; `rim` zeros around each kernel and as many more around each input change its time alone."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    draw = np.random.default_rng(0)
    nodes, weights, last = [], [], "image"
    for layer in range(LAYERS):
        kernel = draw.standard_normal((CHANNELS, CHANNELS, 3, 3), dtype=np.float32) / (3 * CHANNELS**0.5)
        kernel = np.pad(kernel, ((0, 0), (0, 0), (rim, rim), (rim, rim)))
        weights.append(numpy_helper.from_array(kernel, f"kernel{layer}"))
        nodes.append(
            helper.make_node("Conv", [last, f"kernel{layer}"], [f"sum{layer}"], pads=[1 + rim] * 4, name=f"conv{layer}")
        )
        nodes.append(helper.make_node("Relu", [f"sum{layer}"], [f"out{layer}"], name=f"relu{layer}"))
        last = f"out{layer}"
    shape = [1, CHANNELS, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "demonstration",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def harness(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in a folder without settings of its own."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def findings(output: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    """What a gate found of its only cell; nothing where it did not get so far."""
    try:
        found: list[dict[str, str]] = json.loads(output.stdout)["cells"][0]["findings"]
    except (ValueError, LookupError):
        return []
    return found


def told(what: str, *, is_well: bool, output: subprocess.CompletedProcess[str]) -> int:
    """Say how one came out, and where it did not, everything that was printed."""
    print(f"{'ok    ' if is_well else 'FAILED'} {what} (exit code {output.returncode})", flush=True)
    if not is_well:
        print(output.stdout, output.stderr, sep="\n", file=sys.stderr)
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main())
