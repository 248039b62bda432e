"""Which change of a record promises most: by the whole gradient, or by a provable shortlist.

For a network of one hidden layer the gradient of logit t at feature k is the sum, over the hidden
units that are on, of ``w2[t, h] * w1[h, k]``. Whatever the record, that is at most the sum of the
positive terms and at least that of the negative ones. These bounds depend on target and feature
alone, and few features reach high: the best change is nearly always among the same few features,
and comparing what was found with the bounds of all others proves it.

Where it does not, a wide network's gradients are summed over part of the hidden units first. With
bounds for the units still missing, few features are left that could promise more than what was
found, and only these are summed to the end.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from privet.device.network import Bools, Float32, Ints, Network
from privet.device.pairs import Pairs
from privet.device.rules import Limits

LENGTH = 512  # features on a target's shortlist
HEAD = 64  # of them, looked at for every pair
LATE = 16  # steps after which a pair is not looked up on it any more
ENOUGH = 8  # records: bounds cost the gradients of four pairs a target, a record starts one
WIDE = 2048  # hidden units from which on gradients are summed in parts,
PARTS = 16  # so many,
FEW = 256  # and features, once no more of them are left, on their own
CHUNK = 256  # rows of the first layer read together
CACHE = 1 << 20  # weights copied at a time: they are used while they are still in the cache
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

    def offer(self, rows: Ints, *, gain: Float32, feature: Ints, limits: Limits) -> None:
        """Let some pairs raise other features where that promises more."""
        better = gain > self.promise[rows]
        rows, feature = rows[better], feature[better]
        self.promise[rows], self.feature[rows] = gain[better], feature
        self.value[rows] = limits.high[feature]


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
    network
        The network with its first layer's weights stored feature by feature, and its hidden units
        ordered by their weights on the targets, largest first.
    ends
        The hidden units are summed in parts; part p is ``ends[p] : ends[p + 1]``.
    features
        Shape (targets, LENGTH): those that can promise most by a raise from 0, most first.
    reachable
        Shape (targets, LENGTH + 1): what each of them can promise, and then what any other can.
    slot
        Shape (targets, features + 1): where a feature stands on the list, ``LENGTH`` if nowhere.
    most
        Shape (parts + 1, targets, features + 1): what part p and those behind it can contribute
        to the gradient; in the first row, a bound of the gradient itself, in the last, 0.
    least
        Shape (targets, features + 1): a bound of the gradient from below.
    """

    network: Network
    ends: Ints
    features: Ints
    reachable: Float32
    slot: Ints
    most: Float32
    least: Float32

    def best(self, pairs: Pairs, delta: Float32, *, limits: Limits, most: int) -> Change:
        """Return what `by_gradient` does, up to float32 rounding, mostly without the gradient."""
        # What promised most is used up by then, and the bounds prove little about the rest.
        asked = pairs.steps < LATE
        if not asked.any():
            return by_gradient(self.network, pairs, delta, limits=limits, most=most)
        if asked.all():
            change, unsure = self._ask(pairs, delta, limits=limits, most=most)
        else:
            change = Change(
                promise=np.empty(len(pairs), dtype=np.float32),
                feature=np.empty(len(pairs), dtype=np.intp),
                value=np.empty(len(pairs), dtype=np.float32),
            )
            unsure = ~asked
            found, unsure[asked] = self._ask(
                pairs.keep(asked), delta[asked], limits=limits, most=most
            )
            change.fill(asked, found)
        if unsure.any():
            few = pairs.keep(unsure)
            change.fill(
                unsure, by_gradient(self.network, few, delta[unsure], limits=limits, most=most)
            )
        return change

    def _ask(
        self, pairs: Pairs, delta: Float32, *, limits: Limits, most: int
    ) -> tuple[Change, Bools]:
        """Return the best change of each pair, and where it may not be the best after all.

        The head of the list sets a bar; as much of the list is looked at as can promise more.
        """
        column, length = pairs.pair % len(self.features), self.features.shape[1]
        slot = self.slot[column[:, None], pairs.where]
        change = self._head(pairs, delta, limits=limits, column=column, slot=slot)
        need = (self.reachable[column] > change.promise[:, None]).sum(axis=1)
        unsure = need > length
        rows = np.flatnonzero((need > HEAD) & ~unsure)
        if len(rows):
            _, gain, feature = self._look(
                column[rows],
                delta[rows],
                slot=slot[rows],
                start=HEAD,
                need=need[rows],
                limits=limits,
            )
            change.offer(rows, gain=gain, feature=feature, limits=limits)
        if len(self.ends) > 2:
            rows = np.flatnonzero(unsure)
            for start in range(0, len(rows), most):
                some = rows[start : start + most]
                gain, feature = self._narrow(
                    column[some],
                    delta[some],
                    where=pairs.where[some],
                    bar=change.promise[some],
                    reach=limits.reach,
                )
                change.offer(some, gain=gain, feature=feature, limits=limits)
            unsure[:] = False
        return change, unsure

    def _head(
        self, pairs: Pairs, delta: Float32, *, limits: Limits, column: Ints, slot: Ints
    ) -> Change:
        """Return the best change that is at the head of the list or listed in the record."""
        head = min(HEAD, self.features.shape[1])
        known, gain, top = self._look(
            column, delta, slot=slot, start=0, need=np.full(len(column), head), limits=limits
        )
        best = _best(pairs, limits, known=known, top=top, gain=gain)
        missing = self._may_matter(pairs, limits, column=column, bar=best.promise)
        row, entry = np.nonzero(missing & (slot >= head))
        if len(row):
            known[row, entry] = self._at(delta, row=row, feature=pairs.where[row, entry])
            best = _best(pairs, limits, known=known, top=top, gain=gain)
        return best

    def _look(
        self,
        column: Ints,
        delta: Float32,
        *,
        slot: Ints,
        start: int,
        need: Ints,
        limits: Limits,
    ) -> tuple[Float32, Float32, Ints]:
        """Look at the places ``start : need`` of the list, where ``need`` has one end a pair.

        Returns the gradient at the records' listed entries, 0 where these are not among them, and
        the promise and feature of the best raise of any other.
        """
        width, columns = int(need.max()) - start, self.network.weights[0].T
        step = max(1, CACHE // columns.shape[1])
        near = np.zeros((len(delta), width + 1), dtype=np.float32)
        order = np.argsort(column, kind="stable")
        ends = np.searchsorted(column[order], np.arange(len(self.features) + 1))
        for target in np.unique(column):
            rows = order[ends[target] : ends[target + 1]]
            own, listed = delta[rows], self.features[target, start : need[rows].max()]
            for first in range(0, len(listed), step):
                some = slice(first, min(first + step, len(listed)))
                near[rows, some] = own @ columns[listed[some]].T
        place = np.where((slot >= start) & (slot < start + width), slot - start, width)
        known = np.take_along_axis(near, place, axis=1)
        np.put_along_axis(near, place, 0, axis=1)  # listed entries are compared apart
        if (limits.reach != 1).any():
            near[:, :-1] *= limits.reach[self.features[:, start : start + width]][column]
        top = near[:, :-1].argmax(axis=1)
        return known, near[np.arange(len(near)), top], self.features[column, start + top]

    def _narrow(
        self, column: Ints, delta: Float32, *, where: Ints, bar: Float32, reach: Float32
    ) -> tuple[Float32, Ints]:
        """Return promise and feature of the best raise of an unlisted entry beyond ``bar``.

        Where none promises more than ``bar``, both are 0.
        """
        weights = self.network.weights[0]
        gain, feature = np.zeros(len(bar), dtype=np.float32), np.zeros(len(bar), dtype=np.intp)
        rows = np.arange(len(bar))
        total = np.zeros((len(bar), len(reach) + 1), dtype=np.float32)
        for part, (start, end) in enumerate(pairwise(self.ends)):
            total[:, :-1] += delta[rows, start:end] @ weights[start:end]
            promise = total + self.most[part + 1, column[rows]]
            if (reach != 1).any():
                promise[:, :-1] *= reach
            rival = promise > bar[rows, None]
            np.put_along_axis(rival, where[rows], False, axis=1)
            rival[:, -1] = False
            few = (rival.sum(axis=1) <= FEW) | (end == self.ends[-1])
            # One pair at a time: each has rivals of its own, and reading their weights costs most.
            for place in np.flatnonzero(few & rival.any(axis=1)):
                row, left = rows[place], np.flatnonzero(rival[place])
                exact = total[place, left] + weights.T[left, end:] @ delta[row, end:]
                exact *= reach[left]
                feature[row], gain[row] = left[exact.argmax()], exact.max()
            rows, total = rows[~few], total[~few]
            if not len(rows):
                break
        return gain, feature

    def _may_matter(self, pairs: Pairs, limits: Limits, *, column: Ints, bar: Float32) -> Bools:
        """Tell which listed entries' bounds reach a promise of ``bar``."""
        place = (column[:, None], pairs.where)
        rise, _ = _promises(pairs, limits, self.most[0][place])
        _, fall = _promises(pairs, limits, self.least[place])
        bound = np.maximum(rise, fall)
        return np.asarray(pairs.free & (bound >= bar[:, None]) & (bound > 0))

    def _at(self, delta: Float32, *, row: Ints, feature: Ints) -> Float32:
        """Return the gradient of some pairs at one feature each."""
        at = np.empty(len(row), dtype=np.float32)
        columns = self.network.weights[0].T
        step = max(1, CACHE // columns.shape[1])
        for start in range(0, len(row), step):
            some = slice(start, start + step)
            at[some] = np.einsum("ij,ij->i", delta[row[some]], columns[feature[some]])
        return at


def pays(network: Network, records: int) -> bool:
    """Tell whether a shortlist makes the search of all targets for so many records faster."""
    return len(network.weights) == 2 and records >= ENOUGH and network.sizes[0] >= 4 * LENGTH


def shortlist(network: Network, targets: Ints, limits: Limits) -> Shortlist:
    """Bound every feature's gradient for every target and list those that reach highest.

    Costs about as much as the gradients of four pairs a target, and holds the first layer's
    weights a second time.
    """
    first, last = network.weights
    hidden, features = first.shape
    units = np.argsort(-np.abs(last[targets]).sum(axis=0), kind="stable")
    last = np.take(last, units, axis=1)
    wanted = last[targets]
    parts = PARTS if hidden >= WIDE else 1
    ends = hidden * np.arange(parts + 1) // parts
    signed = np.zeros((len(ends), len(targets), features + 1), dtype=np.float32)
    total = np.zeros_like(signed)
    columns = np.empty((features, hidden), dtype=np.float32)
    for part, (begin, end) in enumerate(pairwise(ends)):
        for start in range(begin, end, CHUNK):
            some = slice(start, min(start + CHUNK, end))
            weights = first[units[some]]
            columns[:, some] = weights.T
            signed[part, :, :-1] += wanted[:, some] @ weights
            total[part, :, :-1] += np.abs(wanted[:, some]) @ np.abs(weights)
    total *= 1 + SLACK
    most = np.float32(0.5) * (signed + total)[::-1].cumsum(axis=0)[::-1]
    least = np.float32(0.5) * (signed - total).sum(axis=0)
    promise = most[0, :, :-1] * limits.reach
    order = np.argpartition(-promise, LENGTH, axis=1)[:, : LENGTH + 1]
    order = np.take_along_axis(
        order, np.argsort(-np.take_along_axis(promise, order, axis=1), kind="stable"), axis=1
    )
    slot = np.full(least.shape, LENGTH)
    np.put_along_axis(slot, order[:, :LENGTH], np.arange(LENGTH)[None], axis=1)
    return Shortlist(
        network=Network((columns.T, last), (network.biases[0][units], network.biases[1])),
        ends=ends,
        features=order[:, :LENGTH],
        reachable=np.take_along_axis(promise, order, axis=1),
        slot=slot,
        most=most,
        least=least,
    )
