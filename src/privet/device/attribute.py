"""Algorithm 1, phase I: the fewest rating changes that make the defense model say each target.

SP-ASPP section 4.2, with AttriGuard's greedy search filled in. Costs count changed entries (L0).

Decisions where the paper is loose: every target starts from the original record; the gradient is
that of the target's *logit*, not of its probability; an increase wins a tie against a decrease;
a pair that no single change can help is given up at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from privet.device.matrices import BLOCK, Records, as_rows, edit, one_for_each, take
from privet.device.network import Array, Bools, Float32, Float64, Ints, Network
from privet.device.pairs import Pairs, enter
from privet.device.promises import Change, by_gradient, pays, shortlist
from privet.device.rules import Limits, Rules, work_out
from privet.errors import DataError, OptionError
from privet.progress import track

MEMORY = 96 << 20  # least bytes for the pairs searched together


@dataclass(frozen=True, eq=False)
class Candidates:
    """For each record and target, the changes that `search` found; only changed entries are kept.

    Parameters
    ----------
    start
        Shape (n * targets + 1,): the pair (record i, target column t) owns the entries
        ``start[i * targets + t] : start[i * targets + t + 1]`` of ``feature`` and ``value``.
    feature, value
        Which feature changes, and to what: its highest or lowest legal value.
    label
        Shape (n,): what the defense model says about the unchanged record.
    targets
        Shape (targets,), or (n, targets) where records have columns of their own: the class that
        each column stands for.
    reached
        Shape (n, targets): whether the search found changes, these or more of them, after which
        the defense model says the target.
    """

    start: Ints
    feature: Ints
    value: Float64
    label: Ints
    targets: Ints
    reached: Bools

    @property
    def cost(self) -> Ints:
        """Number of entries that differ from the original record; shape (n, targets)."""
        return np.diff(self.start).reshape(self.reached.shape)

    def aim(self, choice: Ints) -> Ints:
        """Return the class that one column a record stands for; shape (n,)."""
        each = np.broadcast_to(self.targets, self.reached.shape)
        return np.asarray(each[np.arange(len(each)), choice])

    def changes(self, choice: Ints) -> tuple[Ints, Ints, Float64]:
        """Return (record, feature, new value) of every change, for one column a record.

        ``choice`` has shape (n,) and holds columns, ``0 .. targets - 1``.
        """
        n, targets = self.reached.shape
        if choice.shape != (n,) or choice.min() < 0 or choice.max() >= targets:
            raise OptionError(f"choice must be {n} columns in 0..{targets - 1}; got {choice}")
        pair = np.arange(n) * targets + choice
        count = self.start[pair + 1] - self.start[pair]
        # Entry number = the pair's own start + how far we are into the pair.
        skipped = self.start[pair] - (np.cumsum(count) - count)
        entry = np.arange(count.sum()) + np.repeat(skipped, count)
        return np.repeat(np.arange(n), count), self.feature[entry], self.value[entry]

    def apply(self, records: Records, choice: Ints) -> Records:
        """Return ``records`` with the changes of one column a record; same type and dtype."""
        record, feature, value = self.changes(choice)

        def change(block: Array, rows: slice) -> None:
            low, high = np.searchsorted(record, [rows.start, rows.stop])
            block[record[low:high] - rows.start, feature[low:high]] = value[low:high]

        return edit(records, change)


def search(
    network: Network,
    records: Records,
    *,
    max_steps: int = 100,
    targets: ArrayLike | None = None,
    margin: ArrayLike = 0.0,
    rules: Rules | None = None,
    memory: int | None = None,
) -> Candidates:
    """Search, for every record and target, a small change that makes the network say the target.

    Each step follows the gradient g of the target's logit: raise the entry x with the largest
    (high - x) g to its highest legal value, or lower the one with the largest (low - x) g to its
    lowest, whichever promises more. Ties go to the lowest feature; where two promises agree to
    float32 rounding, either may be picked.

    Pairs of all records are searched together: finished ones leave, waiting ones take their
    place, so that matrix products stay large while memory stays bounded. After a step only the
    first layer's pre-activations are updated. Networks of one hidden layer mostly need no whole
    gradient: see `privet.device.promises`.

    Parameters
    ----------
    network
        The defense model; one output a target class.
    records
        Shape (n, features), values in [0, 1]; dense or SciPy sparse.
    max_steps
        Most changes tried for a pair (the paper's maxiter).
    targets
        Classes to search for, by default all. A target that the network already says costs 0.
    margin
        Search on until the target's logit leads the runner-up by this much; one number, or one
        a record. 0 is the paper's rule; more spends unused budget on changes that carry over
        better to other models.
    rules
        Which entries may change, and to what; see `Rules`. By default every one, to 0 or 1.
    memory
        Approximate bytes for the pairs under search at one time, beside the network, a second copy
        of its first layer, and the records; by default 96 MiB, or a third of the first layer.
        The wider the network, the more pairs have to share one reading of its weights.

    Raises
    ------
    DataError
        On a wrong shape or values outside [0, 1], naming the record.
    OptionError
        On targets that the network does not have, negative limits, or rules that do not fit.
    """
    wanted = _check_targets(network, targets)
    if max_steps < 0:
        raise OptionError(f"max_steps must not be negative; got {max_steps}")
    rows = as_rows(records, network.sizes[0])
    n = rows.shape[0]
    leads = one_for_each(margin, n, "margin")
    limits = work_out(rules or Rules(), rows)
    memory = max(MEMORY, network.weights[0].nbytes // 3) if memory is None else memory
    entries = _survey(rows, limits)
    label = np.zeros(n, dtype=np.intp)
    reached = np.zeros((n, len(wanted)), dtype=np.bool_)
    network, best, capacity = _plan(network, wanted, entries=entries, limits=limits, memory=memory)
    # Records of a like number of entries together: the fullest decides how wide all others are.
    waiting = iter(track(np.argsort(entries, kind="stable"), "Searching perturbations"))
    found: list[tuple[Ints, Ints, Float32]] = []
    pairs: Pairs | None = None
    while True:
        room = capacity - (len(pairs) if pairs else 0)
        users = np.array(list(islice(waiting, room // len(wanted))), dtype=np.intp)
        if len(users):
            block = take(rows, users)
            said, new = enter(network, block, users=users, targets=wanted, limits=limits)
            label[users] = said
            pairs = pairs.join(new, network.sizes[0]) if pairs else new
        elif not pairs:
            break
        layers = network.forward(pairs.first)
        says, lead = _verdict(layers[-1].copy(), pairs.target)
        enough = lead >= leads[pairs.pair // len(wanted)]
        done = (says & enough) | (pairs.steps >= max_steps)
        if done.any():
            reached.flat[pairs.pair[done]] = says[done]
            found.append(pairs.keep(done).changed())
            pairs = pairs.keep(~done)
            layers = [layer[~done] for layer in layers]
        if pairs:
            change = best(pairs, network.backward(layers, pairs.target))
            stuck = change.promise <= 0
            pairs.steps += 1
            pairs.steps[stuck] = max_steps
            moves = np.flatnonzero(~stuck)
            pairs.change(network, moves, feature=change.feature[moves], value=change.value[moves])
    reached |= label[:, None] == wanted
    start, feature, value = _gather(found, reached.size, limits)
    return Candidates(start, feature, value, label, wanted, reached)


def _check_targets(network: Network, targets: ArrayLike | None) -> Ints:
    """Return the wanted classes, all by default, after checking that the network has them."""
    classes = network.sizes[-1]
    wanted = np.arange(classes) if targets is None else np.asarray(targets)
    if wanted.ndim != 1 or wanted.size == 0 or wanted.dtype.kind not in "iu":
        raise OptionError(f"targets must be a list of classes; got {targets!r}")
    if wanted.min() < 0 or wanted.max() >= classes:
        raise OptionError(f"targets must lie in 0..{classes - 1}; got {targets!r}")
    return wanted.astype(np.intp)


def check_ratings(block: Array, first: int) -> None:
    """Refuse records with values outside [0, 1]; ``first`` is the number of the block's row 0."""
    wrong = ~((block >= 0) & (block <= 1))
    if wrong.any():
        row, feature = (int(place[0]) for place in np.nonzero(wrong))
        raise DataError(
            f"record {first + row}, feature {feature} is {block[row, feature]}; "
            f"scale values to 0..1 (0 = absent)"
        )


def _survey(rows: Records, limits: Limits) -> Ints:
    """Return how many entries of each record are listed, after checking their values."""
    counts = []
    for start in range(0, rows.shape[0], BLOCK):
        block = take(rows, slice(start, start + BLOCK))
        check_ratings(block, start)
        listed, _ = limits.listed(block, np.arange(start, start + len(block)))
        counts.append(listed.sum(axis=1))
    return np.concatenate(counts)


def _plan(
    network: Network, targets: Ints, *, entries: Ints, limits: Limits, memory: int
) -> tuple[Network, Callable[[Pairs, Float32], Change], int]:
    """Return how to find each pair's best change, and how many pairs fit into ``memory``.

    Before them comes the network as the search is to use it; its hidden units may be reordered.
    """
    features, hidden = network.sizes[0], network.sizes[1:-1]
    # A pair's activations four times over, and ten numbers an entry.
    floats = 4 * sum(hidden) + 10 * int(entries.max())
    if pays(network, len(entries)):
        listed = shortlist(network, targets, limits)
        capacity = memory // (4 * (floats + 2 * listed.features.shape[1]))
        network, most = listed.network, max(1, memory // (20 * features))
        find: Any = partial(listed.best, limits=limits, most=most)
    else:
        capacity = max(1, memory // (4 * (floats + features)))
        find = partial(by_gradient, network, limits=limits, most=capacity)
    return network, find, max(len(targets), capacity)


def _verdict(logits: Float32, target: Ints) -> tuple[Bools, Float32]:
    """Tell whether each row's largest logit is its target, and by how much that one leads."""
    rows = np.arange(len(target))
    said = logits.argmax(axis=1) == target
    own = logits[rows, target]
    logits[rows, target] = -np.inf
    return said, own - logits.max(axis=1)


def _gather(
    found: list[tuple[Ints, Ints, Float32]], pairs: int, limits: Limits
) -> tuple[Ints, Ints, Float64]:
    """Merge what left the search at different times, ordered by pair and feature."""
    nothing = (np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp), np.empty(0, np.float32))
    pair, feature, value = (np.concatenate(parts) for parts in zip(nothing, *found, strict=True))
    order = np.lexsort((feature, pair))
    feature, value = feature[order], value[order]
    start = np.concatenate([[0], np.cumsum(np.bincount(pair, minlength=pairs))])
    return start, feature, limits.exact(feature, value)
