"""TFLite files of one node, written with the schema alone: what no converter would write for us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int64": schema.TensorType.INT64,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "int8": schema.TensorType.INT8,
    "bool": schema.TensorType.BOOL,
}


def save_sub(path: Path, *, free_batch: bool = False, length: int = 4) -> Path:
    """`c = a - b`, all `[1, length]` float32. Its signature lists the inputs the other way round."""
    options = schema.SubOptionsT()
    operator = _operator(schema.BuiltinOptions.SubOptions, options, inputs=[0, 1], outputs=[2])
    tensors = [_tensor(name, "float32", free_batch=free_batch, length=length) for name in ("a", "b", "c")]
    code = _code(schema.BuiltinOperator.SUB)
    return _save(path, code, operator, tensors, inputs=[0, 1], outputs=[2], signature_inputs=[1, 0])


def save_cast(path: Path, source: str, target: str) -> Path:
    """`y = cast(x)`, `[1, 4]`."""
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = TYPES[source], TYPES[target]
    operator = _operator(schema.BuiltinOptions.CastOptions, options, inputs=[0], outputs=[1])
    tensors = [_tensor("x", source), _tensor("y", target)]
    return _save(path, _code(schema.BuiltinOperator.CAST), operator, tensors, inputs=[0], outputs=[1])


def save_custom(path: Path, name: str) -> Path:
    """`y = name(x)`, a custom op that no runtime has."""
    operator = _operator(schema.BuiltinOptions.NONE, None, inputs=[0], outputs=[1])
    tensors = [_tensor("x", "float32"), _tensor("y", "float32")]
    code = _code(schema.BuiltinOperator.CUSTOM, name)
    return _save(path, code, operator, tensors, inputs=[0], outputs=[1])


def _code(builtin: int, custom: str | None = None) -> object:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
    code.version, code.customCode = 1, custom
    return code


def _operator(kind: int, options: object, *, inputs: list[int], outputs: list[int]) -> object:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


def _tensor(name: str, dtype: str, *, free_batch: bool = False, length: int = 4) -> object:
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.shape, tensor.buffer = name, TYPES[dtype], [1, length], 0
    if free_batch:
        tensor.shapeSignature = [-1, length]
    return tensor


def _save(
    path: Path,
    code: object,
    operator: object,
    tensors: Sequence[object],
    *,
    inputs: list[int],
    outputs: list[int],
    signature_inputs: list[int] | None = None,
) -> Path:
    subgraph = schema.SubGraphT()
    subgraph.tensors, subgraph.inputs, subgraph.outputs = list(tensors), inputs, outputs
    subgraph.operators, subgraph.name = [operator], "main"
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [_map(tensors, index) for index in signature_inputs or inputs]
    signature.outputs = [_map(tensors, index) for index in outputs]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [subgraph]
    model.buffers, model.signatureDefs = [schema.BufferT()], [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _map(tensors: Sequence[object], index: int) -> object:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = vars(tensors[index])["name"], index
    return entry
