"""Phase I searched on beyond the target: every change on the way is a candidate of its own.

Algorithm 1 stops where the defense model says the target, and keeps the end of the way only. Where
the budget allows more, further changes carry over better to models that are not the defense model;
where it allows less, half a way still blurs what an attacker sees. So we walk a fixed number of
steps towards each target, keep every stop, and leave the choice to the mechanism
(`privet.device.answers`).

Deviations from SP-ASPP's Algorithm 1: the walk does not end at the target; each step follows the
gradient of the target's *lead* over the runner-up, since the logit alone may rise with all others;
and no entry is changed twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from privet.device.attribute import MEMORY, Candidates, check_ratings
from privet.device.matrices import Records, as_rows, fullest, take
from privet.device.network import Array, Bools, Float32, Float64, Ints, Network, softmax
from privet.device.pairs import Pairs, enter
from privet.device.promises import by_gradient
from privet.device.rules import Limits, Rules, work_out
from privet.errors import OptionError
from privet.progress import track


@dataclass(frozen=True, eq=False)
class Paths:
    """The ways of n records towards T targets, at most S changes each.

    Stops count from 0, the unchanged record, which is stop 0 of every way. As candidates, all
    stops of a record stand in ``1 + T * S`` columns: the unchanged record, then the stops of the
    way to target 0, those to target 1, and so on.

    Parameters
    ----------
    feature, value
        Shape (n, T, S): which feature each step changes, and to what; feature -1 where a way has
        ended, for want of a change that helps, or since the record began at its target.
    logits
        Shape (n, 1 + T * S, T): what the defense model says at every stop.
    label
        Shape (n,): what it says of the unchanged record.
    """

    feature: Ints
    value: Float64
    logits: Float32
    label: Ints

    @property
    def cost(self) -> Float64:
        """Changes at every stop, infinite where there is none; shape (n, 1 + T * S).

        Of stops that make the same record, on their ways to different targets, only the first is
        there: else rounding would say which of them is released, and towards which target.
        """
        n, targets, steps = self.feature.shape
        there = (self.feature >= 0).reshape(n, targets * steps) & ~self._repeated
        costs = np.tile(np.arange(1.0, steps + 1), targets)
        return np.column_stack([np.zeros(n), np.where(there, costs, np.inf)])

    @property
    def _repeated(self) -> Bools:
        """Whether an earlier stop makes the same record; shape (n, T * S).

        A record is told by the sum of 64-bit hashes of its changes, whatever their order.
        """
        hashes = _mixed(self.feature.astype(np.uint64) + _mixed(self.value.view(np.uint64)))
        hashes[self.feature < 0] = 0
        made = np.cumsum(hashes, axis=2).reshape(len(hashes), -1)
        order = np.argsort(made, axis=1, kind="stable")
        ascending = np.take_along_axis(made, order, axis=1)
        repeated = np.zeros(made.shape, np.bool_)
        same = ascending[:, 1:] == ascending[:, :-1]
        np.put_along_axis(repeated, order[:, 1:], same, axis=1)
        return repeated

    def answers(self, temperature: float, leak: float) -> Float64:
        """Return what an attacker is believed to answer at every stop; shape (n, 1 + T * S, T).

        That is the softmax of ``logits / temperature``, mixed with a share ``leak`` of the answer
        to the unchanged record: no change deceives everybody.
        """
        n, stops, classes = self.logits.shape
        behind = self.logits - self.logits.max(axis=2, keepdims=True)
        with np.errstate(over="ignore"):  # far enough behind is not answered
            scaled = behind.reshape(-1, classes).astype(np.float64) / temperature
        said = softmax(scaled).reshape(n, stops, classes)
        return (1 - leak) * said + leak * said[:, :1]

    def target(self, column: Ints) -> Ints:
        """Return the class that each record's stops, shape (n, m), are on the way to.

        Stop 0 is on the way to what the defense model says of the record.
        """
        towards = (column - 1) // self.feature.shape[2]
        return np.asarray(np.where(column == 0, self.label[:, None], towards))

    @property
    def arrives(self) -> Bools:
        """Whether the defense model says the target at some stop of each way; shape (n, T)."""
        n, targets, steps = self.feature.shape
        said = self.logits[:, 1:].argmax(axis=2).reshape(n, targets, steps)
        there = (said == np.arange(targets)[:, None]).any(axis=2)
        return np.asarray(there | (self.label[:, None] == np.arange(targets)))

    def candidates(self, column: Ints) -> Candidates:
        """Return some stops of each record, shape (n, m), as candidate releases.

        A stop that does not exist stands for the one where its way ended. A candidate has reached
        its target if its way does, be it at a later stop.
        """
        steps = self.feature.shape[2]
        towards = np.maximum(column - 1, 0) // steps
        length = np.where(column == 0, 0, (column - 1) % steps + 1)
        feature = np.take_along_axis(self.feature, towards[:, :, None], axis=1)
        value = np.take_along_axis(self.value, towards[:, :, None], axis=1)
        taken = (np.arange(steps) < length[:, :, None]) & (feature >= 0)
        targets = self.target(column)
        arrives = np.column_stack([self.arrives, np.ones(len(column), np.bool_)])
        place = np.where(column == 0, arrives.shape[1] - 1, towards)
        return Candidates(
            start=np.concatenate([[0], np.cumsum(taken.sum(axis=2))]),
            feature=feature[taken],
            value=value[taken],
            label=self.label,
            targets=targets,
            reached=np.take_along_axis(arrives, place, axis=1),
        )


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 64-bit hashes of integers: Steele, Lea & Flood's SplitMix64, OOPSLA 2014."""
    hashes = numbers + np.uint64(0x9E3779B97F4A7C15)
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(hashes ^ (hashes >> np.uint64(31)))


def search_paths(
    network: Network,
    records: Records,
    *,
    steps: int,
    rules: Rules | None = None,
    memory: int = MEMORY,
) -> Iterator[tuple[slice, Paths]]:
    """Walk from every record towards every class, one change a step; a block of records a time.

    Each step follows the gradient g of the target's logit minus the runner-up's: raise the entry x
    with the largest (high - x) g to its highest legal value, or lower the one with the largest
    (low - x) g to its lowest, whichever promises more.

    Parameters
    ----------
    network
        The defense model; one output a class.
    records
        Shape (n, features), values in [0, 1]; dense or SciPy sparse.
    steps
        Changes on each way, at least one.
    rules
        Which entries may change, and to what; see `Rules`. By default every one, to 0 or 1.
    memory
        Approximate bytes for the ways walked at one time.

    Yields
    ------
    Which records, and their ways.

    Raises
    ------
    DataError
        On a wrong shape or values outside [0, 1], naming the record.
    OptionError
        On steps below 1, or rules that do not fit.
    """
    if steps < 1:
        raise OptionError(f"a way takes at least one step; got {steps}")
    rows = as_rows(records, network.sizes[0])
    limits = work_out(rules or Rules(), rows)
    # What no record may change needs no gradient: it is left out, and often that is most.
    free = np.flatnonzero(~limits.fixed)
    free = free if len(free) else np.arange(1)  # no network has no input
    narrow = Network((network.weights[0][:, free], *network.weights[1:]), network.biases)
    classes = network.sizes[-1]
    # Logits of a way, and the copies that become answers.
    kept = 12 * steps * classes
    floats = len(free) + 4 * sum(network.sizes[1:-1]) + 10 * fullest(rows) + kept
    size = max(1, memory // (4 * floats * classes))
    for at in track(range(0, rows.shape[0], size), "Searching perturbations"):
        which = slice(at, min(at + size, rows.shape[0]))
        block = take(rows, which)
        check_ratings(block, at)
        first = network.first(block)
        few = limits.within(free, np.arange(which.start, which.stop))
        paths = _walk(narrow, block[:, free], first, limits=few, steps=steps)
        feature = np.where(paths.feature < 0, -1, free[paths.feature])
        yield which, replace(paths, feature=feature)


def _walk(network: Network, block: Array, first: Float32, *, limits: Limits, steps: int) -> Paths:
    """Walk all ways of some records, whose first pre-activations are ``first``."""
    n, classes = len(block), network.sizes[-1]
    users, targets = np.arange(n), np.arange(classes)
    said, pairs = enter(network, block, users=users, targets=targets, limits=limits, first=first)
    feature = np.full((n * classes, steps), -1, dtype=np.intp)
    value = np.zeros((n * classes, steps))
    before = network.forward(first)[-1]
    logits = np.repeat(before, classes, axis=0)[:, None].repeat(steps, axis=1)
    layers = network.forward(pairs.first)
    most = max(1, MEMORY // (4 * network.sizes[0]))  # of many classes, even one record's are more
    for step in range(steps):
        delta = network.backward(layers, pairs.target, against=_runner_up(layers[-1], pairs))
        change = by_gradient(network, pairs, delta, limits=limits, most=most)
        moves = change.promise > 0
        pairs = pairs.keep(moves)
        if not len(pairs):
            break
        changed, to = change.feature[moves], change.value[moves]
        pairs.change(network, np.arange(len(pairs)), feature=changed, value=to, free=False)
        layers = network.forward(pairs.first)
        feature[pairs.pair, step], value[pairs.pair, step] = changed, limits.exact(changed, to)
        logits[pairs.pair, step:] = layers[-1][:, None]
    shape = (n, classes, steps)
    stops = np.concatenate([before[:, None], logits.reshape(n, classes * steps, classes)], axis=1)
    return Paths(feature.reshape(shape), value.reshape(shape), stops, said)


def _runner_up(logits: Float32, pairs: Pairs) -> Ints:
    """Return the likeliest class but the target; shape (pairs,)."""
    others = logits.copy()
    others[np.arange(len(pairs)), pairs.target] = -np.inf
    return np.asarray(others.argmax(axis=1))
