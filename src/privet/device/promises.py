"""Which change of a record promises most: by the whole gradient, or by a provable shortlist.

For a network of one hidden layer the gradient of logit t at feature k is the sum, over the hidden
units that are on, of ``w2[t, h] * w1[h, k]``. Whatever the record, that is at most the sum of the
positive terms and at least that of the negative ones. These bounds depend on target and feature
alone, and few features reach high: the best change is nearly always among the same few features,
and comparing what was found with the bounds of all others proves it.
"""

from dataclasses import dataclass

import numpy as np

from privet.device.network import Bools, Float32, Ints, Network
from privet.device.pairs import Pairs
from privet.device.rules import Limits

LENGTH = 512  # features on a target's shortlist
LATE = 16  # steps after which a pair is not looked up on it any more
ENOUGH = 8  # records: bounds cost the gradients of four pairs a target, a record starts one
CHUNK = 256  # rows of the first layer, or listed entries, looked at together
SLACK = np.float32(1e-4)  # on bounds, well above what float32 sums of 1e5 terms can be off


@dataclass(frozen=True, eq=False)
class Change:
    """The change of one entry that promises most, for each pair; arrays of shape (pairs,)."""

    promise: Float32
    feature: Ints
    value: Float32

    def fill(self, rows: Bools, other: "Change") -> None:
        """Put the changes of some pairs into their rows."""
        self.promise[rows], self.feature[rows] = other.promise, other.feature
        self.value[rows] = other.value


def by_gradient(
    network: Network, pairs: Pairs, delta: Float32, *, limits: Limits, most: int
) -> Change:
    """Return the best change of each pair by the gradient of every feature.

    ``delta`` is the gradient at the first pre-activations, from `Network.backward`. At most
    ``most`` pairs' gradients are in memory at one time.
    """
    features, reach = network.sizes[0], limits.reach
    top = np.empty(len(pairs), dtype=np.intp)
    gain = np.empty(len(pairs), dtype=np.float32)
    known = np.empty(pairs.where.shape, dtype=np.float32)
    gradient = np.zeros((min(most, len(pairs)), features + 1), dtype=np.float32)
    for start in range(0, len(pairs), most):
        rows = slice(start, start + most)
        where, block = pairs.where[rows], gradient[: len(pairs.where[rows])]
        np.matmul(delta[rows], network.weights[0], out=block[:, :features])
        known[rows] = np.take_along_axis(block, where, axis=1)
        np.put_along_axis(block, where, 0, axis=1)  # listed entries are compared apart
        if (reach != 1).any():
            block[:, :features] *= reach
        top[rows] = block.argmax(axis=1)
        gain[rows] = block[np.arange(len(block)), top[rows]]
    return _best(pairs, limits, known=known, top=top, gain=gain)


def _best(pairs: Pairs, limits: Limits, *, known: Float32, top: Ints, gain: Float32) -> Change:
    """Compare the best raise of an unlisted entry with what the listed entries promise.

    ``known`` is the gradient at the listed entries. A raise wins a tie against a fall, and the
    lower feature one against a higher.
    """
    rows = np.arange(len(pairs))
    rise, fall = _promises(pairs, limits, np.where(pairs.free, known, 0))
    up, down = rise.argmax(axis=1), fall.argmax(axis=1)
    raised, drop = rise[rows, up], fall[rows, down]
    up, down = pairs.where[rows, up], pairs.where[rows, down]
    listed = (raised > gain) | ((raised == gain) & (up < top))
    up, raised = np.where(listed, up, top), np.where(listed, raised, gain)
    raises = raised >= drop
    return Change(
        promise=np.where(raises, raised, drop),
        feature=np.where(raises, up, down),
        value=np.where(raises, limits.high[up], limits.low[down]).astype(np.float32),
    )


def _promises(pairs: Pairs, limits: Limits, gradient: Float32) -> tuple[Float32, Float32]:
    """Return what raising and lowering each listed entry to its extreme promises."""
    high, low = limits.high.astype(np.float32), limits.low.astype(np.float32)
    up, down = high[pairs.where] - pairs.value, low[pairs.where] - pairs.value
    return up * gradient, down * gradient


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The features that can promise most for each target, and bounds for all others.

    Parameters
    ----------
    columns
        Shape (features, hidden): the first layer's weights, transposed, so that one feature's
        lie together.
    features
        Shape (targets, length), ascending.
    slot
        Shape (targets, features + 1): where a feature stands on the list, ``length`` if nowhere.
    most, least
        Shape (targets, features + 1): bounds of the gradient, above and below.
    rest
        Shape (targets,): no feature that is not on the list can promise more by a raise from 0.
    """

    columns: Float32
    features: Ints
    slot: Ints
    most: Float32
    least: Float32
    rest: Float32

    def best(
        self, network: Network, pairs: Pairs, delta: Float32, *, limits: Limits, most: int
    ) -> Change:
        """Return what `by_gradient` does, up to float32 rounding, mostly without the gradient."""
        # What promised most is used up by then, and the bounds prove little about the rest.
        asked = pairs.steps < LATE
        if not asked.any():
            return by_gradient(network, pairs, delta, limits=limits, most=most)
        early = pairs if asked.all() else pairs.keep(asked)
        found, proven = self._ask(early, delta if asked.all() else delta[asked], limits)
        unsure = ~asked
        unsure[asked] = ~proven
        if not unsure.any():
            return found
        few = by_gradient(network, pairs.keep(unsure), delta[unsure], limits=limits, most=most)
        change = Change(
            promise=np.empty(len(pairs), dtype=np.float32),
            feature=np.empty(len(pairs), dtype=np.intp),
            value=np.empty(len(pairs), dtype=np.float32),
        )
        change.fill(asked, found)
        change.fill(unsure, few)
        return change

    def _ask(self, pairs: Pairs, delta: Float32, limits: Limits) -> tuple[Change, Bools]:
        """Return the best change that is on the list or listed, and whether none promises more."""
        column = pairs.pair % len(self.features)
        near = self._gradients(column, delta)
        slot = self.slot[column[:, None], pairs.where]
        known = np.take_along_axis(near, slot, axis=1)
        np.put_along_axis(near, slot, 0, axis=1)  # listed entries are compared apart
        if (limits.reach != 1).any():
            near[:, :-1] *= limits.reach[self.features][column]
        top = near[:, :-1].argmax(axis=1)
        gain = near[np.arange(len(pairs)), top]
        top = self.features[column, top]
        best = _best(pairs, limits, known=known, top=top, gain=gain)
        missing = self._may_matter(pairs, limits, column=column, bar=best.promise)
        row, entry = np.nonzero(missing & (slot == self.features.shape[1]))
        if len(row):
            known[row, entry] = self._at(delta, row=row, feature=pairs.where[row, entry])
            best = _best(pairs, limits, known=known, top=top, gain=gain)
        return best, best.promise >= self.rest[column]

    def _gradients(self, column: Ints, delta: Float32) -> Float32:
        """Return the gradients of the features on the list, and 0 in one column more."""
        near = np.zeros((len(delta), self.features.shape[1] + 1), dtype=np.float32)
        order = np.argsort(column, kind="stable")
        ends = np.searchsorted(column[order], np.arange(len(self.features) + 1))
        for target in np.unique(column):
            rows = order[ends[target] : ends[target + 1]]
            near[rows, :-1] = delta[rows] @ self.columns[self.features[target]].T
        return near

    def _may_matter(self, pairs: Pairs, limits: Limits, *, column: Ints, bar: Float32) -> Bools:
        """Tell which listed entries' bounds reach a promise of ``bar``."""
        place = (column[:, None], pairs.where)
        rise, _ = _promises(pairs, limits, self.most[place])
        _, fall = _promises(pairs, limits, self.least[place])
        bound = np.maximum(rise, fall)
        return np.asarray(pairs.free & (bound >= bar[:, None]) & (bound > 0))

    def _at(self, delta: Float32, *, row: Ints, feature: Ints) -> Float32:
        """Return the gradient of some pairs at one feature each."""
        at = np.empty(len(row), dtype=np.float32)
        for start in range(0, len(row), CHUNK):
            some = slice(start, start + CHUNK)
            at[some] = np.einsum("ij,ij->i", delta[row[some]], self.columns[feature[some]])
        return at


def pays(network: Network, records: int) -> bool:
    """Tell whether a shortlist makes the search of all targets for so many records faster."""
    return len(network.weights) == 2 and records >= ENOUGH and network.sizes[0] >= 4 * LENGTH


def shortlist(network: Network, targets: Ints, limits: Limits) -> Shortlist:
    """Bound every feature's gradient for every target and list those that reach highest.

    Costs about as much as the gradients of four pairs a target, and holds the first layer's
    weights a second time.
    """
    first, last = network.weights[0], network.weights[1][targets]
    hidden, features = first.shape
    total = np.zeros((len(targets), features), dtype=np.float32)
    columns = np.empty((features, hidden), dtype=np.float32)
    for start in range(0, hidden, CHUNK):
        some = slice(start, start + CHUNK)
        total += np.abs(last[:, some]) @ np.abs(first[some])
        columns[:, some] = first[some].T
    total *= 1 + SLACK
    signed = last @ first
    most = np.pad(0.5 * (signed + total), ((0, 0), (0, 1)))
    least = np.pad(0.5 * (signed - total), ((0, 0), (0, 1)))
    promise = most[:, :-1] * limits.reach
    order = np.argpartition(-promise, LENGTH, axis=1)
    listed = np.sort(order[:, :LENGTH], axis=1)
    slot = np.full(most.shape, LENGTH)
    np.put_along_axis(slot, listed, np.arange(LENGTH)[None], axis=1)
    rest = np.take_along_axis(promise, order[:, LENGTH : LENGTH + 1], axis=1)[:, 0]
    return Shortlist(columns, listed, slot, most, least, rest)
