"""How tables and arrays become bytes and come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from circuitbook.store.keys import Key


@dataclass(frozen=True)
class _Format:
    """How one sort of payload becomes bytes and comes back."""

    name: str
    suffix: str
    encode: Callable[[object, Key], bytes]
    decode: Callable[[bytes], object]


def _encode_table(table: object, key: Key) -> bytes:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"{key}: a table must be a pandas DataFrame; compute() returned {type(table).__name__}"
        )
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(pa.Table.from_pandas(table), sink)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise TypeError(f"{key}: this table cannot be kept as parquet: {error}") from error
    return sink.getvalue().to_pybytes()


def _decode_table(payload: bytes) -> pd.DataFrame:
    return pq.read_table(pa.BufferReader(payload)).to_pandas()


def _encode_arrays(arrays: object, key: Key) -> bytes:
    if not isinstance(arrays, dict) or not all(isinstance(name, str) for name in arrays):
        returned = type(arrays).__name__
        raise TypeError(
            f"{key}: arrays must be a dict from str to numpy arrays; compute() returned {returned}"
        )
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            what = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(
                f"{key}: array {name!r} must be a numpy array of numbers or booleans, not {what}"
            )
    # safetensors wants C order; np.array keeps a 0-d array 0-d, which ascontiguousarray does not
    return safetensors.numpy.save(
        {name: np.array(array, order="C") for name, array in arrays.items()}
    )


def _decode_arrays(payload: bytes) -> dict[str, np.ndarray]:
    return {
        name: np.array(array) for name, array in safetensors.numpy.load(payload).items()
    }  # writable copies


TABLE = _Format("table", ".parquet", _encode_table, _decode_table)


ARRAYS = _Format("arrays", ".safetensors", _encode_arrays, _decode_arrays)
