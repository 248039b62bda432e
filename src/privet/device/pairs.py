"""The (record, target) pairs that Algorithm 1 has under search, and how a change alters them."""

from dataclasses import dataclass

import numpy as np

from privet.device.network import Array, Bools, Float32, Ints, Network
from privet.device.rules import Limits


@dataclass(eq=False)
class Pairs:
    """Pairs under search, one a row; all arrays share their first axis.

    A record is kept as its *listed* entries: those that are or were not zero and those that only
    this record keeps, padded with a column past the last feature. Every other entry is 0 and as
    free as its feature, so nothing else about a record is needed, and nothing dense.

    Parameters
    ----------
    pair
        Record number times the number of targets, plus the target's column.
    target
        The class aimed at.
    steps
        Changes tried so far.
    used
        Listed entries; the rest of a row is padding.
    first
        The network's first pre-activations.
    where, free, original, value
        Shape (pairs, listed): the features, whether they may change, and their values.
    """

    pair: Ints
    target: Ints
    steps: Ints
    used: Ints
    first: Float32
    where: Ints
    free: Bools
    original: Float32
    value: Float32

    def __len__(self) -> int:
        return len(self.pair)

    def keep(self, rows: Bools) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(**{name: array[rows] for name, array in vars(self).items()})

    def join(self, other: "Pairs", padding: int) -> "Pairs":
        """Return these pairs and others; ``padding`` is the column past the last feature."""
        width = max(self.where.shape[1], other.where.shape[1])
        self._widen(width, padding)
        other._widen(width, padding)
        theirs = vars(other)
        return Pairs(**{k: np.concatenate([mine, theirs[k]]) for k, mine in vars(self).items()})

    def change(
        self,
        network: Network,
        rows: Ints,
        *,
        feature: Ints,
        value: Float32,
        free: bool = True,
    ) -> None:
        """Set one feature of each of some pairs to a value, and update the network's state.

        ``free`` says whether that entry may change again.
        """
        same = self.where[rows] == feature[:, None]
        new = ~same.any(axis=1)
        slot = np.where(new, self.used[rows], same.argmax(axis=1))
        self.used[rows] += new
        self._widen(int(self.used.max(initial=1)), network.sizes[0])
        step = value - self.value[rows, slot]
        self.where[rows, slot] = feature
        self.free[rows, slot] = free
        self.value[rows, slot] = value
        self.first[rows] += step[:, None] * network.weights[0].T[feature]

    def changed(self) -> tuple[Ints, Ints, Float32]:
        """Return (pair, feature, value) of the entries that ended up different."""
        row, slot = np.nonzero(self.value != self.original)
        return self.pair[row], self.where[row, slot], self.value[row, slot]

    def _widen(self, width: int, padding: int) -> None:
        more = max(0, width - self.where.shape[1])
        if more:
            pad = ((0, 0), (0, more))
            self.where = np.pad(self.where, pad, constant_values=padding)
            self.free = np.pad(self.free, pad)
            self.original = np.pad(self.original, pad)
            self.value = np.pad(self.value, pad)


def enter(
    network: Network,
    block: Array,
    *,
    users: Ints,
    targets: Ints,
    limits: Limits,
    first: Float32 | None = None,
) -> tuple[Ints, Pairs]:
    """Return what the network says about some records, and their pairs not yet at the target.

    ``block`` holds the dense records whose numbers are ``users``. ``first`` are their first
    pre-activations where these depend on more than the block.
    """
    features = block.shape[1]
    first = _first(network, block) if first is None else first
    said = network.forward(first)[-1].argmax(axis=1)
    listed, free = limits.listed(block, users)
    count = listed.sum(axis=1)
    row, feature = np.nonzero(listed)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    shape = (len(block), max(1, int(count.max())))
    where = np.full(shape, features, dtype=np.intp)
    value, may = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.bool_)
    where[row, slot] = feature
    value[row, slot] = block[row, feature]
    may[row, slot] = free[row, feature]
    record, column = np.nonzero(said[:, None] != targets)
    return said, Pairs(
        pair=users[record] * len(targets) + column,
        target=targets[column],
        steps=np.zeros(len(record), dtype=np.intp),
        used=count[record],
        first=first[record],
        where=where[record],
        free=may[record],
        original=value[record],
        value=value[record],
    )


def _first(network: Network, block: Array) -> Float32:
    """Return the first pre-activations, by the features that any of the records has."""
    used = np.flatnonzero(block.any(axis=0))
    # Gathering columns costs about as much as multiplying a few hundred rows by them.
    if 4 * len(used) > block.shape[1]:
        return network.first(block)
    return block[:, used].astype(np.float32) @ network.weights[0].T[used] + network.biases[0]
