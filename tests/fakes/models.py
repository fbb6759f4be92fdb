"""Real model files, a few nodes large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FEATURES, CLASSES = 8, 4


def dense_weight(seed: int = 0) -> NDArray[np.float32]:
    """`[FEATURES, CLASSES]`."""
    return np.random.default_rng(seed).standard_normal((FEATURES, CLASSES), dtype=np.float32)


def save_dense_onnx(
    path: Path, weight: NDArray[np.float32] | None = None, *, op: str = "MatMul", features: int | str = FEATURES
) -> Path:
    """`y = x @ weight` with an open batch dimension, or another op; a name for `features` leaves them open as well."""
    weight = dense_weight() if weight is None else weight
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
