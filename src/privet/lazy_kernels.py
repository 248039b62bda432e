"""The arithmetic of `privet.lazy_adam`, compiled by Numba at the first use.

In a step without gradient Adam's moments only fade, m_{s+j} = β1^j m_s and v_{s+j} = β2^j v_s.
So the updates that a weight skipped sum to one multiple of m_s / √v_s, the same multiple for all
weights of a row::

    w_{s+k} = w_s - g m_s / (√v_s + e),    g = lr Σ_j (β1/√β2)^j √(1 - β2^(s+j)) / (1 - β1^(s+j))

**Deviations** from dense Adam: ε enters each skipped update bias-corrected and divided by √β2^j,
and ``e`` averages those with the weights of the terms of ``g`` (exact to first order in ε); terms
below 1e-12 of the sum are left out; a first moment faded below 1e-12 of its value becomes zero.
They are of the size of float32's own rounding: `benchmarks/sparse_training.py` prints the largest
difference of the logits.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
FloatRows = NDArray[np.float32]

NEGLIGIBLE = 1e-12


class Rule(NamedTuple):
    """Adam's settings."""

    lr: float
    beta1: float
    beta2: float
    eps: float


class Rows(NamedTuple):
    """A layer's weights and Adam's moments, a row a feature; and the step each row is at."""

    weight: FloatRows
    mean: FloatRows
    square: FloatRows
    step: NDArray[np.int64]


class Entries(NamedTuple):
    """A batch's entries by feature: feature ``i`` holds ``starts[i]`` to ``starts[i + 1]``."""

    features: NDArray[np.int64]
    starts: NDArray[np.integer]
    samples: NDArray[np.integer]
    values: FloatRows


class Debts(NamedTuple):
    """What the skipped steps owe to each of some rows; float32 for the kernels' sake."""

    gain: FloatRows
    eps: FloatRows
    fade1: FloatRows
    fade2: FloatRows


def _kernel(function: F) -> F:
    """Compile at the first call; vectorized, which Python's division errors would prevent."""
    compiled: F = njit(function, nogil=True, error_model="numpy", fastmath={"contract"})
    return compiled


@_kernel
def owed(since: NDArray[np.int64], now: int, rule: Rule) -> Debts:
    """Sum up the updates with zero gradient from step ``since`` to ``now``, for each row.

    The loop runs once a skipped step and row, whatever the row's width. Rows at step 0 have
    never had a gradient: their moments are zero and they owe nothing.
    """
    debts = np.zeros((4, since.size), np.float32)
    for i in range(since.size):
        gain, weighted, ratio, shrink = 0.0, 0.0, 1.0, 1.0
        power1, power2 = rule.beta1 ** since[i], rule.beta2 ** since[i]
        skipped = now - since[i] if since[i] > 0 else 0
        for _ in range(skipped):
            power1 *= rule.beta1
            power2 *= rule.beta2
            ratio *= rule.beta1 / math.sqrt(rule.beta2)
            shrink *= math.sqrt(rule.beta2)
            term = ratio * math.sqrt(1 - power2) / (1 - power1)
            gain += term
            weighted += term * math.sqrt(1 - power2) / shrink
            if term < NEGLIGIBLE * gain:
                break
        fade = rule.beta1**skipped
        debts[0, i] = rule.lr * gain
        debts[1, i] = rule.eps * (weighted / gain if gain > 0 else 1.0)
        # Denormal numbers would slow the arithmetic down a hundredfold.
        debts[2, i] = fade if fade > NEGLIGIBLE else 0.0
        debts[3, i] = rule.beta2**skipped
    return Debts(debts[0], debts[1], debts[2], debts[3])


@_kernel
def multiply(batch: Entries, rows: Rows, debts: Debts, *, product: FloatRows) -> None:
    """Add to ``product`` the batch times the rows as they will be once their debts are paid."""
    width = product.shape[1]
    paid = np.empty(width, np.float32)
    for i in range(batch.features.size):
        feature, gain, eps = batch.features[i], debts.gain[i], debts.eps[i]
        weight, mean, square = rows.weight[feature], rows.mean[feature], rows.square[feature]
        if gain == 0:
            paid[:] = weight
        else:
            for j in range(width):
                paid[j] = weight[j] - gain * mean[j] / (math.sqrt(square[j]) + eps)
        for entry in range(batch.starts[i], batch.starts[i + 1]):
            target, value = product[batch.samples[entry]], batch.values[entry]
            for j in range(width):
                target[j] += value * paid[j]


@_kernel
def update(
    batch: Entries, rows: Rows, debts: Debts, *, gradient: FloatRows, rule: Rule, now: int
) -> None:
    """Pay the debts of the batch's rows and take Adam's step ``now``, in one pass over each row.

    ``gradient`` is the loss's by the layer's product; a row's own is gathered on the way.
    """
    width = gradient.shape[1]
    slope = np.empty(width, np.float32)
    # Python's floats are double: mixed in, they would halve the speed of the inner loop.
    rate = np.float32(rule.lr / (1 - rule.beta1**now))
    unbias = np.float32(1 / math.sqrt(1 - rule.beta2**now))
    new1, new2 = np.float32(1 - rule.beta1), np.float32(1 - rule.beta2)
    adam_eps = np.float32(rule.eps)
    for i in range(batch.features.size):
        slope[:] = 0
        for entry in range(batch.starts[i], batch.starts[i + 1]):
            source, value = gradient[batch.samples[entry]], batch.values[entry]
            for j in range(width):
                slope[j] += value * source[j]
        feature, gain, eps = batch.features[i], debts.gain[i], debts.eps[i]
        weight, mean, square = rows.weight[feature], rows.mean[feature], rows.square[feature]
        old1 = np.float32(rule.beta1 * debts.fade1[i])
        old2 = np.float32(rule.beta2 * debts.fade2[i])
        for j in range(width):
            paid = weight[j] - gain * mean[j] / (math.sqrt(square[j]) + eps)
            mean[j] = old1 * mean[j] + new1 * slope[j]
            square[j] = old2 * square[j] + new2 * slope[j] * slope[j]
            weight[j] = paid - rate * mean[j] / (math.sqrt(square[j]) * unbias + adam_eps)
        rows.step[feature] = now


@_kernel
def settle(rows: Rows, debts: Debts, now: int) -> None:
    """Pay the debts of all rows and put them at step ``now``."""
    for feature in range(rows.step.size):
        gain, eps = debts.gain[feature], debts.eps[feature]
        if gain > 0:
            weight, mean, square = rows.weight[feature], rows.mean[feature], rows.square[feature]
            for j in range(weight.size):
                weight[j] -= gain * mean[j] / (math.sqrt(square[j]) + eps)
                mean[j] *= debts.fade1[feature]
                square[j] *= debts.fade2[feature]
            rows.step[feature] = now
