from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.catalog.ml_program.values import DTYPES, Damaged, WeightFiles, unpacked
from tests.catalog.ml_program.building import ct  # noqa: F401 - coremltools imported without its noise

if TYPE_CHECKING:
    from pathlib import Path

BY_NAME = {dtype.name: dtype for dtype in DTYPES.values()}
STORED = [dtype.name for dtype in DTYPES.values() if dtype.blob_code is not None]
_METHOD = {"fp16": "fp16", "fp32": "float"}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("count", [1, 7, 64, 100])
def test_a_blob_is_read_as_coremltools_wrote_it(name: str, count: int, tmp_path: Path) -> None:
    dtype = BY_NAME[name]
    generator = np.random.default_rng(0)
    values: np.ndarray[Any, Any]
    if dtype.kind == "float":
        values = generator.standard_normal(count).astype(dtype.numpy)
    else:
        low, high = dtype.limits
        values = generator.integers(low, high, count, endpoint=True).astype(dtype.numpy)
    writer = importlib.import_module("coremltools.libmilstoragepython")._BlobStorageWriter(str(tmp_path / "weight.bin"))
    writer.write_uint8_data(np.arange(10, dtype=np.uint8))
    write = getattr(writer, f"write_{_METHOD.get(name, name)}_data")
    offset = write(values.view(np.uint16) if name == "fp16" else values)
    del writer

    found = WeightFiles(tmp_path).read("@model_path/weights/weight.bin", offset, dtype, count)

    np.testing.assert_array_equal(found, values)


@given(st.integers(1, 6), st.booleans(), st.data())
def test_packed_integers_come_back(bits: int, signed: bool, data: st.DataObject) -> None:
    if (signed and bits != 4) or (not signed and bits == 5):
        return
    dtype = BY_NAME[f"{'' if signed else 'u'}int{bits}"]
    low, high = dtype.limits
    values = data.draw(st.lists(st.integers(low, high), max_size=40))
    stream = sum((value % 2**bits) << (bits * i) for i, value in enumerate(values))
    packed = np.frombuffer(stream.to_bytes(-(-bits * len(values) // 8), "little"), np.uint8)

    assert unpacked(packed, dtype, len(values)).tolist() == values


def test_a_weight_file_outside_the_package_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "secret").write_bytes(bytes(200))

    with pytest.raises(Damaged, match="not in the weights folder"):
        WeightFiles(tmp_path / "weights").read("@model_path/weights/../secret", 64, BY_NAME["fp32"], 1)
