"""The arithmetic of `privet.fused` and `privet.fast.Adam`, compiled by Numba at first use."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Floats = NDArray[np.float32]
Words = NDArray[np.uint32]

UNROLLED = 4
"""Rows that `multiply` adds at once, so that it stores its sums a quarter as often."""


class Entries(NamedTuple):
    """What a matrix holds besides zeros: row ``i`` has ``counts[i]`` columns and their values.

    Each row's last ones are followed by `UNROLLED` - 1 entries of value 0.
    """

    counts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: Floats


def _kernel(function: F) -> F:
    """Compile at the first call; vectorized, which Python's division errors would prevent.

    The machine code is kept beside Python's own bytecode, or in the user's cache folder: worker
    processes of a short run would otherwise compile for longer than they save.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        kept: F = njit(function, cache=True, **options)
    except RuntimeError:  # neither folder can be written to
        kept = njit(function, **options)
    return kept


@_kernel
def _mixed(word: np.uint32) -> np.uint32:
    """Return a bijective hash: Wellons' lowbias32, with the constants of less bias.

    Products and shifts are cut back to 32 bits, which Numba widens.
    """
    word = np.uint32(word ^ (word >> np.uint32(16)))
    word = np.uint32(word * np.uint32(0x21F0AAAD))
    word = np.uint32(word ^ (word >> np.uint32(15)))
    word = np.uint32(word * np.uint32(0xD35A2D97))
    return np.uint32(word ^ (word >> np.uint32(15)))


@_kernel
def activate(values: Floats, keys: Words, keep: np.float32) -> None:
    """Apply ReLU and dropout in place; entries remain with probability ``keep``.

    Which ones is a hash of their position and two keys.
    """
    threshold = np.uint32((1 - np.float64(keep)) * 2**32)
    flat, scale = values.reshape(-1), np.float32(1) / keep
    first, second = keys
    for i in range(flat.size):
        word = _mixed(np.uint32(_mixed(np.uint32(i) ^ first) + second))
        # So phrased, NaN survives, and the loss tells of it.
        dropped = flat[i] <= 0 or word < threshold
        flat[i] = np.float32(0) if dropped else flat[i] * scale


@_kernel
def deactivate(gradient: Floats, values: Floats, keep: np.float32) -> None:
    """Turn the gradient by the results of `activate`, ``values``, into that by its inputs."""
    into, out, scale = gradient.reshape(-1), values.reshape(-1), np.float32(1) / keep
    for i in range(into.size):
        into[i] = into[i] * scale if out[i] != 0 else np.float32(0)


@_kernel
def _empty(rows: int, width: int) -> Entries:
    shape = rows, width + UNROLLED
    return Entries(np.zeros(rows, np.int64), np.empty(shape, np.int32), np.empty(shape, np.float32))


@_kernel
def _padded(counts: NDArray[np.int64], columns: NDArray[np.int32], values: Floats) -> Entries:
    for i in range(counts.size):
        for e in range(counts[i], counts[i] + UNROLLED - 1):
            columns[i, e], values[i, e] = 0, 0
    return Entries(counts, columns, values)


@_kernel
def nonzeros(matrix: Floats) -> Entries:
    """Return the nonzero entries of a matrix, row by row."""
    rows, width = matrix.shape
    counts, columns, values = _empty(rows, width)
    for i in range(rows):
        row, count = matrix[i], 0
        for j in range(width):
            # Without a branch, which every nonzero would mispredict.
            columns[i, count], values[i, count] = j, row[j]
            count += row[j] != 0
        counts[i] = count
    return _padded(counts, columns, values)


@_kernel
def transposed(entries: Entries, width: int) -> Entries:
    """Return the entries of the transpose of a matrix with ``width`` columns."""
    counts, columns, values = _empty(width, entries.counts.size)
    for i in range(entries.counts.size):
        for e in range(entries.counts[i]):
            j = entries.columns[i, e]
            columns[j, counts[j]], values[j, counts[j]] = i, entries.values[i, e]
            counts[j] += 1
    return _padded(counts, columns, values)


@_kernel
def multiply(entries: Entries, matrix: Floats, bias: Floats) -> Floats:
    """Return the product of a matrix, given by its entries, with another, plus ``bias``."""
    product = np.empty((entries.counts.size, matrix.shape[1]), np.float32)
    for i in range(product.shape[0]):
        target, columns, values = product[i], entries.columns[i], entries.values[i]
        target[:] = bias
        for e in range(0, entries.counts[i], UNROLLED):
            a, b, c, d = values[e], values[e + 1], values[e + 2], values[e + 3]
            first, second = matrix[columns[e]], matrix[columns[e + 1]]
            third, fourth = matrix[columns[e + 2]], matrix[columns[e + 3]]
            for j in range(target.size):
                target[j] += a * first[j] + b * second[j] + c * third[j] + d * fourth[j]
    return product


@_kernel
def adam(weight: Floats, gradient: Floats, mean: Floats, square: Floats, rule: Floats) -> None:
    """Take one step of Adam; ``rule`` is from `privet.fast`."""
    rate, decay, old1, new1 = rule[0], rule[1], rule[2], rule[3]
    old2, new2, unbias, eps = rule[4], rule[5], rule[6], rule[7]
    for i in range(weight.size):
        slope = gradient[i] + decay * weight[i]
        mean[i] = old1 * mean[i] + new1 * slope
        square[i] = old2 * square[i] + new2 * slope * slope
        weight[i] -= rate * mean[i] / (math.sqrt(square[i]) * unbias + eps)
