"""Records as a dense array or any SciPy sparse matrix, told apart without importing SciPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from privet.device.network import Array, Float32, Ints, Network
from privet.errors import DataError, OptionError

Records = Any  # a dense (n, features) array or a SciPy sparse matrix of that shape
BLOCK = 1024
MEMORY = 96 << 20  # bytes for the activations of the records that a network computes at once


def is_sparse(records: Records) -> bool:
    """Tell whether ``records`` is a SciPy sparse matrix or array."""
    return hasattr(records, "tocsr")


def as_rows(records: Records, features: int) -> Records:
    """Return ``records`` in a form whose rows can be sliced, after checking its shape.

    Raises
    ------
    DataError
        Unless ``records`` is numeric with shape (n, ``features``) and n at least 1.
    """
    try:
        rows = records.tocsr() if is_sparse(records) else np.asarray(records)
    except ValueError as error:
        raise DataError(f"records must be rows of equal length: {error}") from None
    if len(rows.shape) != 2 or rows.shape[0] == 0 or rows.shape[1] != features:
        raise DataError(f"records must have shape (n, {features}), n at least 1; got {rows.shape}")
    if rows.dtype.kind not in "fiub":
        raise DataError(f"records must be numbers; got {rows.dtype}")
    return rows


def take(rows: Records, which: Ints | slice) -> Array:
    """Return some rows of what `as_rows` gave as a new dense array."""
    return np.asarray(rows[which].toarray() if is_sparse(rows) else np.array(rows[which]))


def room(network: Network, copies: int) -> int:
    """Return of how many records ``MEMORY`` holds so many float32 copies of the hidden layers."""
    return max(1, MEMORY // (4 * copies * sum(network.sizes[1:-1])))


def logits_of(network: Network, rows: Array) -> Float32:
    """Return a network's outputs, for so many rows at a time that any width of it is bearable."""
    size = room(network, copies=2)
    parts = [network.logits(rows[at : at + size]) for at in range(0, len(rows), size)]
    return np.concatenate(parts)


def fullest(rows: Records) -> int:
    """Return the largest number of entries that any row of what `as_rows` gave holds."""
    if is_sparse(rows):
        return int(np.diff(rows.indptr).max())
    blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    return max(int(np.count_nonzero(block, axis=1).max()) for block in blocks)


def edit(records: Records, change: Callable[[Array, slice], None]) -> Records:
    """Return a copy of ``records``, same type and dtype, changed block by block in dense form.

    ``change(block, rows)`` edits the dense ``block`` of the records ``rows`` in place.
    """
    if not is_sparse(records):
        copy = np.array(records)
        change(copy, slice(0, len(copy)))
        return copy
    rows = records.tocsr()
    data, columns, counts = [], [], []
    for start in range(0, rows.shape[0], BLOCK):
        which = slice(start, min(start + BLOCK, rows.shape[0]))
        block = take(rows, which)
        change(block, which)
        present = block != 0
        data.append(block[present])
        columns.append(np.nonzero(present)[1])
        counts.append(present.sum(axis=1))
    ends = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    parts = (np.concatenate(data), np.concatenate(columns), ends)
    return type(rows)(parts, shape=rows.shape).asformat(records.format)


def one_for_each(value: ArrayLike, n: int, what: str) -> NDArray[np.float64]:
    """Return ``value``, one number or one a record, as shape (n,) float64.

    Raises
    ------
    OptionError
        On another shape, or anything but numbers that are finite and not negative.
    """
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"{what} must be numbers: {error}") from None
    if numbers.shape not in ((), (n,)):
        raise OptionError(f"{what} must be one number or {n}, one a record; got {numbers.shape}")
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise OptionError(f"{what} must be finite and not negative; got {value!r}")
    return np.broadcast_to(numbers, (n,))
