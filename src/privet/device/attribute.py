"""Algorithm 1, phase I: the fewest rating changes that make the defense model say each target.

SP-ASPP section 4.2, with AttriGuard's greedy search filled in. Costs count changed entries (L0).

Decisions where the paper is loose: every target starts from the original record; the gradient is
that of the target's *logit*, not of its probability; an increase wins a tie against a decrease;
a pair that no single change can help is given up at once.
"""

from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from privet.device.matrices import Records, as_rows, edit, fullest, one_for_each, take
from privet.device.network import Array, Bools, Float32, Ints, Network
from privet.errors import DataError, OptionError
from privet.progress import track

MEMORY = 96 << 20  # bytes for the pairs searched together, beside the network and the records


@dataclass(frozen=True, eq=False)
class Candidates:
    """For each record and target, the changes that `search` found; only changed entries are kept.

    Parameters
    ----------
    start
        Shape (n * targets + 1,): the pair (record i, target column t) owns the entries
        ``start[i * targets + t] : start[i * targets + t + 1]`` of ``feature`` and ``value``.
    feature, value
        Which feature changes, ascending within a pair, and to what: 1 or 0.
    label
        Shape (n,): what the defense model says about the unchanged record.
    targets
        Shape (targets,): the class that each column stands for.
    reached
        Shape (n, targets): whether the defense model says the target after the changes.
    """

    start: Ints
    feature: Ints
    value: Float32
    label: Ints
    targets: Ints
    reached: Bools

    @property
    def cost(self) -> Ints:
        """Number of entries that differ from the original record; shape (n, targets)."""
        return np.diff(self.start).reshape(self.reached.shape)

    def changes(self, choice: Ints) -> tuple[Ints, Ints, Float32]:
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


@dataclass(eq=False)
class _Pool:
    """The (record, target) pairs under search, one a row; all arrays share their first axis.

    A record is kept as the entries that are or were not zero, padded with a column past the last
    feature: (1 - x) g is g itself everywhere else, so nothing dense but the gradient is needed.
    """

    pair: Ints
    target: Ints
    steps: Ints
    used: Ints
    first: Float32
    where: Ints
    original: Float32
    value: Float32

    def __len__(self) -> int:
        return len(self.pair)

    def keep(self, rows: Bools) -> "_Pool":
        return _Pool(**{name: array[rows] for name, array in vars(self).items()})

    def widen(self, width: int, padding: int) -> None:
        pad = ((0, 0), (0, max(0, width - self.where.shape[1])))
        self.where = np.pad(self.where, pad, constant_values=padding)
        self.original = np.pad(self.original, pad)
        self.value = np.pad(self.value, pad)

    def join(self, other: "_Pool", padding: int) -> "_Pool":
        width = max(self.where.shape[1], other.where.shape[1])
        self.widen(width, padding)
        other.widen(width, padding)
        theirs = vars(other)
        return _Pool(**{k: np.concatenate([mine, theirs[k]]) for k, mine in vars(self).items()})


def search(
    network: Network,
    records: Records,
    *,
    max_steps: int = 100,
    targets: ArrayLike | None = None,
    margin: ArrayLike = 0.0,
    memory: int = MEMORY,
) -> Candidates:
    """Search, for every record and target, a small change that makes the network say the target.

    Each step follows the gradient g of the target's logit: raise the entry with the largest
    (1 - x) g to 1, or lower the one with the largest -x g to 0, whichever promises more. Ties go
    to the lowest feature; where two promises agree to float32 rounding, either may be picked.

    Pairs of all records are searched together: finished ones leave, waiting ones take their
    place, so that matrix products stay large while memory stays bounded. After a step only the
    first layer's pre-activations are updated. The gradient is computed anew, in one product for
    all pairs: to add the weight rows of the ReLUs that switched instead is faster for some widths
    and slower for others, needs one hidden layer, and gathers rounding error.

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
    memory
        Approximate bytes for the pairs under search at one time.

    Raises
    ------
    DataError
        On a wrong shape or values outside [0, 1], naming the record.
    OptionError
        On targets that the network does not have, or negative limits.
    """
    wanted = _check_targets(network, targets)
    if max_steps < 0:
        raise OptionError(f"max_steps must not be negative; got {max_steps}")
    features = network.sizes[0]
    rows = as_rows(records, features)
    n = rows.shape[0]
    leads = one_for_each(margin, n, "margin")
    label = np.zeros(n, dtype=np.intp)
    reached = np.zeros((n, len(wanted)), dtype=np.bool_)
    # A pair's share: its gradient, its activations thrice, and seven floats an entry it holds.
    floats = features + 3 * sum(network.sizes[1:-1]) + 7 * fullest(rows)
    capacity = max(len(wanted), memory // (4 * floats))
    gradient = np.zeros((min(capacity, n * len(wanted)), features + 1), dtype=np.float32)
    waiting = track(range(n), "Searching perturbations")
    found: list[tuple[Ints, Ints, Float32]] = []
    pool: _Pool | None = None
    while True:
        room = capacity - (len(pool) if pool else 0)
        users = np.array(list(islice(waiting, room // len(wanted))), dtype=np.intp)
        if len(users):
            entering = _enter(network, take(rows, users), users=users, targets=wanted, said=label)
            pool = pool.join(entering, features) if pool else entering
        elif not pool:
            break
        layers = network.forward(pool.first)
        said, lead = _verdict(layers[-1].copy(), pool.target)
        enough = lead >= leads[pool.pair // len(wanted)]
        done = (said & enough) | (pool.steps >= max_steps)
        if done.any():
            reached.flat[pool.pair[done]] = said[done]
            found.append(_changed(pool.keep(done)))
            pool = pool.keep(~done)
            layers = [layer[~done] for layer in layers]
        if pool:
            _step(network, pool, layers=layers, gradient=gradient[: len(pool)], limit=max_steps)
    reached |= label[:, None] == wanted
    start, feature, value = _gather(found, reached.size)
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


def _enter(network: Network, block: Array, *, users: Ints, targets: Ints, said: Ints) -> _Pool:
    """Start all pairs of some records except those already at their target; fill in ``said``."""
    check_ratings(block, int(users[0]))
    features = block.shape[1]
    first = network.first(block)
    said[users] = network.forward(first)[-1].argmax(axis=1)
    present = block != 0
    support = present.sum(axis=1)
    where = np.full((len(block), max(1, int(support.max()))), features, dtype=np.intp)
    row, feature = np.nonzero(present)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(support) - support, support)
    where[row, slot] = feature
    value = np.zeros(where.shape, dtype=np.float32)
    value[row, slot] = block[row, feature]
    record, column = np.nonzero(said[users][:, None] != targets)
    return _Pool(
        pair=users[record] * len(targets) + column,
        target=targets[column],
        steps=np.zeros(len(record), dtype=np.intp),
        used=support[record],
        first=first[record],
        where=where[record],
        original=value[record],
        value=value[record],
    )


def _verdict(logits: Float32, target: Ints) -> tuple[Bools, Float32]:
    """Tell whether each row's largest logit is its target, and by how much that one leads."""
    rows = np.arange(len(target))
    said = logits.argmax(axis=1) == target
    own = logits[rows, target]
    logits[rows, target] = -np.inf
    return said, own - logits.max(axis=1)


def _step(
    network: Network, pool: _Pool, *, layers: list[Float32], gradient: Float32, limit: int
) -> None:
    """Change one entry of every pair; pairs that no change can help get no steps any more."""
    features, rows = network.sizes[0], np.arange(len(pool))
    np.matmul(network.backward(layers, pool.target), network.weights[0], out=gradient[:, :features])
    gradient[:, features] = 0  # the padding promises nothing
    known = np.take_along_axis(gradient, pool.where, axis=1)
    fall = -pool.value * known
    np.put_along_axis(gradient, pool.where, (1 - pool.value) * known, axis=1)
    up, down = gradient.argmax(axis=1), fall.argmax(axis=1)
    rise, drop = gradient[rows, up], fall[rows, down]
    raises = rise >= drop
    stuck = np.maximum(rise, drop) <= 0
    pool.steps += 1
    pool.steps[stuck] = limit
    _assign(network, pool, rows[~stuck], raises, np.where(raises, up, pool.where[rows, down]))


def _assign(network: Network, pool: _Pool, rows: Ints, raises: Bools, feature: Ints) -> None:
    """Set ``feature`` of the given rows to 1 where ``raises``, else 0, and update the network."""
    raises, feature = raises[rows], feature[rows]
    same = pool.where[rows] == feature[:, None]
    new = ~same.any(axis=1)
    slot = np.where(new, pool.used[rows], same.argmax(axis=1))
    pool.used[rows] += new
    pool.widen(int(pool.used.max(initial=1)), network.sizes[0])
    change = raises - pool.value[rows, slot]
    pool.where[rows, slot] = feature
    pool.value[rows, slot] = raises
    pool.first[rows] += (change * network.weights[0][:, feature]).T


def _changed(pool: _Pool) -> tuple[Ints, Ints, Float32]:
    """Return (pair, feature, value) of the entries that ended up different."""
    row, slot = np.nonzero(pool.value != pool.original)
    return pool.pair[row], pool.where[row, slot], pool.value[row, slot]


def _gather(found: list[tuple[Ints, Ints, Float32]], pairs: int) -> tuple[Ints, Ints, Float32]:
    """Merge what left the pool at different times, ordered by pair and feature."""
    nothing = (np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp), np.empty(0, np.float32))
    pair, feature, value = (np.concatenate(parts) for parts in zip(nothing, *found, strict=True))
    order = np.lexsort((feature, pair))
    start = np.concatenate([[0], np.cumsum(np.bincount(pair, minlength=pairs))])
    return start, feature[order], value[order]
