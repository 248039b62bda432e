"""What tells one input of a classifier from another, for the one-time randomness of its answer.

If the same input could be spelled in two ways, whoever asks both ways would see its noise drawn
twice, and who asks in many ways could average it away. So an input is told by what a model may
read in it. Different inputs that are taken for one only share a random number, which is harmless.
"""

import re
from collections.abc import Iterator, Mapping, Set
from hashlib import sha256
from typing import Any

import numpy as np

from privet.device.matrices import Records, is_sparse
from privet.device.network import Array, Float32
from privet.errors import DataError

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


def identity(inputs: Any) -> Records:
    """Return numbers that tell one input from another, a row each; finite or not.

    A row depends on its own input alone. Cells that read as numbers, in text too, stand for these
    in float32, whatever their type; whatever is missing is NaN. Inputs that hold anything
    else become the 32 bytes of their SHA-256, in which text may be ``bytes`` or ``str``, and
    mappings and sets have no order.

    Parameters
    ----------
    inputs
        An array, a SciPy sparse matrix, a data frame, or a list; one input a row or item.

    Raises
    ------
    DataError
        On an object that is spelled by its address, which tells nothing about its content.
    """
    if is_sparse(inputs):
        rows = inputs.astype(np.float64).tocsr()
        rows.sum_duplicates()
        return type(rows)((_as_float32(rows.data), rows.indices, rows.indptr), shape=rows.shape)
    rows = _as_rows(inputs)
    if isinstance(rows, np.ndarray) and rows.dtype.kind in "fiub":
        # By way of float64, as single cells are read: whole numbers may round otherwise.
        return _as_float32(rows.reshape(len(rows), -1).astype(np.float64, copy=False))
    each = [_told(list(_cells(row))) for row in rows]
    # The one-time randomness looks at what is not zero: zeros behind a row change nothing.
    padded = np.zeros((len(each), max(map(len, each), default=0)), dtype=np.float32)
    for row, numbers in zip(padded, each, strict=True):
        row[: len(numbers)] = numbers
    return padded


def _as_rows(inputs: Any) -> Any:
    """Return the inputs as an array, unless they are a list of other things than numbers."""
    try:
        rows = np.asarray(inputs)
    except ValueError:  # lists of unequal length
        return inputs
    # An array of text would have spelled the numbers beside it.
    kept = rows.dtype.kind in "fiub" or not isinstance(inputs, list | tuple)
    return rows if kept else inputs


def _as_float32(numbers: Array) -> Float32:
    """Round numbers; those beyond float32 are infinite."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _cells(value: Any) -> Iterator[Any]:
    """Yield all that an input holds, one after the other."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        for each in value:
            yield from _cells(each)
    else:
        yield value.decode(errors="replace") if isinstance(value, bytes | bytearray) else value


def _told(cells: list[Any]) -> Float32:
    """Return the numbers that an input is, or else the bytes of its digest."""
    numbers = [number for cell in cells if (number := _number(cell)) is not None]
    if len(numbers) == len(cells):
        return _as_float32(np.array(numbers, dtype=np.float64))
    digest = sha256("\n".join(map(_spelled, cells)).encode(errors="surrogatepass")).digest()
    return np.frombuffer(digest, dtype=np.uint8).astype(np.float32)


def _number(cell: Any) -> float | None:
    """Return the number that a cell reads as, None if none."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return np.nan
    try:
        return float(cell)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return None


def _spelled(cell: Any) -> str:
    """Spell a cell the same in every process, whatever the types of its numbers and text."""
    number = _number(cell)
    if number is not None:
        (rounded,) = _as_float32(np.array([number])) + 0  # without the sign of a zero
        return repr(float(str(rounded)))
    if isinstance(cell, str):
        return repr(str(cell))
    if isinstance(cell, Mapping):
        return str(sorted(f"{_all_spelled(key)}: {_all_spelled(cell[key])}" for key in cell))
    if isinstance(cell, Set):
        return str(sorted(map(_all_spelled, cell)))
    text = repr(cell)
    if _ADDRESS.search(text):
        raise DataError(
            f"{' '.join(text.split())[:60]} is spelled by its address and cannot be told from "
            f"other inputs; give numbers, text, or mappings of them"
        )
    return text


def _all_spelled(value: Any) -> str:
    return ", ".join(map(_spelled, _cells(value)))
