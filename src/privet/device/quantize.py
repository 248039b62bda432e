"""Fewer bits a weight: what a network becomes when a bundle stores it in float16 or int8.

The device computes in float32 whatever the file holds; only the numbers are coarser. So these
functions give an ordinary network, and whoever attacks or measures it attacks and measures what
ships.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from privet.device.network import Array, Float32, Network
from privet.errors import OptionError

Precision = Literal["float32", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # from the finest to the coarsest

Int8 = NDArray[np.int8]
LEVELS = 127  # on each side of 0; -128 has no counterpart
DIGITS = 17  # binary, of a scale: seven more make a float32, so that products with it are exact
TINY = float(np.finfo(np.float32).tiny)


def quantized(network: Network, precision: Precision) -> Network:
    """Return the network that a device computes with after a file of such precision.

    Quantizing twice changes nothing more.

    Raises
    ------
    DataError
        When weights are too large for float16.
    OptionError
        On a precision that there is none of.
    """
    check_precision(precision)
    if precision == "float32":
        return network
    if precision == "int8":
        levels = (to_levels(weight) for weight in network.weights)
        return Network(tuple(from_levels(*each) for each in levels), network.biases)
    with np.errstate(over="ignore"):  # `Network` refuses what became infinite
        halves = [a.astype(np.float16) for a in (*network.weights, *network.biases)]
    back = tuple(a.astype(np.float32) for a in halves)
    return Network(back[: len(network.weights)], back[len(network.weights) :])


def check_precision(precision: str) -> None:
    """Raise `OptionError` unless weights can be stored so."""
    if precision not in PRECISIONS:
        raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")


def to_levels(weight: Array) -> tuple[Int8, Float32]:
    """Return whole numbers in -127..127, and one scale a row, whose products are near ``weight``.

    Symmetric about 0, which so stays 0: shape (outputs, inputs) to the same and (outputs,).
    """
    largest = np.maximum(weight.max(axis=1), -weight.min(axis=1)).astype(np.float64)
    mantissa, exponent = np.frexp(largest / LEVELS)
    rounded = np.ldexp(np.rint(np.ldexp(mantissa, DIGITS)), exponent - DIGITS)
    # Float32 knows no smaller number in full precision, in which products stay exact.
    scale = np.maximum(rounded, TINY).astype(np.float32)
    levels = np.clip(np.rint(weight / scale[:, None]), -LEVELS, LEVELS).astype(np.int8)
    return levels, np.where(levels.any(axis=1), scale, np.float32(1))


def from_levels(levels: Int8, scale: Float32) -> Float32:
    """Return the weights that `to_levels` stands for."""
    # NumPy gives float32 for these two, and needs no float32 copy of the levels.
    return np.asarray(levels * scale[:, None])
