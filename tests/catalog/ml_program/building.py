"""Small ML Programs, written with coremltools' own builder and stored without any of its optimizations."""

from __future__ import annotations

import gc
import importlib
import inspect
import io
import tempfile
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.catalog.coreml_package import import_coremltools
from harness.catalog.ml_program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ct = import_coremltools()

# Every conversion collects garbage, which takes 0.4 s as long as the whole of torch is looked through.
gc.collect()
gc.freeze()

_mil: Any = importlib.import_module("coremltools.converters.mil.mil")
mb: Any = _mil.Builder
types: Any = _mil.types
_TYPES = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32, "bool": types.bool}


def write(build: Callable[..., Any], inputs: Sequence[NDArray[Any]], path: Path, *, target: str = "iOS17") -> Path:
    """Store a program of one function.

    Args:
        build: Gets one variable for each input, under its own parameter's name, and returns one or several.
        inputs: Whose shapes and types are declared.
        path: Of the `.mlpackage`.
        target: Decides the opset.
    """
    names = list(inspect.signature(build).parameters)
    assert len(names) == len(inputs)
    specs = [mb.TensorSpec(shape=array.shape, dtype=_TYPES[array.dtype.name]) for array in inputs]
    opset = getattr(ct.target, target)
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = mb.program(input_specs=specs, opset_version=opset)(build)
        model = ct.convert(
            program,
            convert_to="mlprogram",
            pass_pipeline=ct.PassPipeline.EMPTY,
            minimum_deployment_target=opset,
            skip_model_load=True,
        )
        model.save(str(path))
    return path


def run(build: Callable[..., Any], *inputs: NDArray[Any], target: str = "iOS17") -> list[NDArray[Any]]:
    """Store a program, load it with the evaluator, run it. One array for each output."""
    with tempfile.TemporaryDirectory() as folder:
        program = Program.load(write(build, inputs, Path(folder) / "tiny.mlpackage", target=target))
        names = list(inspect.signature(build).parameters)
        return list(program.run(dict(zip(names, inputs, strict=True))).values())


def run_one(build: Callable[..., Any], *inputs: NDArray[Any], target: str = "iOS17") -> NDArray[Any]:
    """Like `run`, for programs with one output."""
    (output,) = run(build, *inputs, target=target)
    return output


def agree(
    build: Callable[..., Any], reference: Callable[..., Any], *inputs: NDArray[Any], target: str = "iOS17"
) -> None:
    """Run a program with float32 inputs and with float16 ones, and compare with what the reference makes of them.

    Args:
        build: As for `write`; constants in it go through `like`, where they have to have the input's type.
        reference: Gets the inputs as float64 (integers and booleans as they are).
        inputs: float32 where they are real.
        target: Decides the opset.
    """
    for dtype, relative in (("float32", 2e-6), ("float16", 1.5e-3)):
        typed = [array.astype(dtype) if array.dtype.kind == "f" else array for array in inputs]
        wide = [array.astype(np.float64) if array.dtype.kind == "f" else array for array in typed]
        expected = reference(*wide)
        found = run(build, *typed, target=target)
        expected = expected if isinstance(expected, tuple | list) else [expected]
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            wanted = np.asarray(other)
            assert one.shape == wanted.shape
            scale = np.abs(wanted).max(initial=0.0)
            np.testing.assert_allclose(one.astype(np.float64), wanted, rtol=relative, atol=relative * scale)


def like(variable: Any, value: float) -> Any:
    """A constant of a variable's type."""
    return types.nptype_from_builtin(variable.dtype)(value)


def random(*shape: int, dtype: str = "float32", seed: int = 0) -> NDArray[Any]:
    """Normally distributed, the same each time; integers are -9 to 9."""
    generator = np.random.default_rng(seed)
    if dtype == "int32":
        return generator.integers(-9, 10, shape).astype(np.int32)
    if dtype == "bool":
        return generator.integers(0, 2, shape).astype(np.bool_)
    return generator.standard_normal(shape).astype(dtype)
