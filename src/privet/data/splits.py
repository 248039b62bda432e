"""Who holds which rows: the splits under the papers' experiments.

All splits are index arrays, disjoint where the names differ, and fixed by their seed.
"""

from dataclasses import dataclass, replace

import numpy as np

from privet.data.table import Indices, Table
from privet.errors import DataError
from privet.seeds import generator
from privet.signals import BoolArray

# Of Location's 5,010 rows, MemGuard gives 1,000 to each of members, nonmembers and evaluation
# nonmembers, and 500 to each of the shadow's members and nonmembers, after 500 unused ones.
_MEMGUARD_ROWS, _MEMGUARD_PART, _MEMGUARD_SHADOW = 5010, 1000, 500


@dataclass(frozen=True, eq=False)
class PruningSplit:
    """The target's half of a dataset, and the attacker's.

    ``train`` holds the target's members. ``dev`` chooses epochs and settings, so it is neither
    member nor clean nonmember; ``test`` holds the nonmembers that accuracy and attacks are judged
    on. ``attacker`` is the other half (see `shadow_pool`).
    """

    train: Indices
    dev: Indices
    test: Indices
    attacker: Indices


@dataclass(frozen=True, eq=False)
class ShadowPool:
    """How the attacker uses its samples, for all shadow models together.

    Shadow models draw ``drawn`` members each from ``pool`` (see `draw_members`); what is not
    drawn are that model's nonmembers. ``dev`` stops the training of all of them and is neither.
    """

    pool: Indices
    dev: Indices
    drawn: int


@dataclass(frozen=True, eq=False)
class MembershipSplit:
    """Rows of the membership protection experiment (SP-ASPP section 5, MemGuard's split).

    The defender trains the target on ``members`` and the defense model on ``members`` against
    ``nonmembers``; attacks are judged on ``members`` against ``evaluation_nonmembers``; the
    attacker owns the two ``shadow_`` parts.
    """

    members: Indices
    nonmembers: Indices
    evaluation_nonmembers: Indices
    shadow_members: Indices
    shadow_nonmembers: Indices


def train_fraction(table: Table) -> float:
    """Return the share of each half that trains: 0.9 of images, 0.8 of other tables (WeMem)."""
    return 0.9 if table.images else 0.8


def pruning_split(table: Table, seed: int, *, tests: int = 0) -> PruningSplit:
    """Split a table for private pruning: half to the target, half to the attacker (WeMem).

    `train_fraction` of the target's half trains; of the remainder a third is ``dev`` and the rest
    ``test``. The last ``tests`` rows, the dataset's own held-out ones, join the remainders of both
    halves in equal parts.

    Deviation from WeMem's public code: the shadow models' nonmembers are never the target's, for
    an attack must not be tuned on the rows that it is judged on.

    Raises
    ------
    DataError
        When the table is too small for every part to have a row.
    """
    count = len(table) - tests
    order = generator(seed, "pruning split").permutation(count).astype(np.int64)
    target, attacker = np.split(order, [count // 2])
    shuffled = generator(seed, "test rows").permutation(tests).astype(np.int64) + count
    ours, theirs = np.split(shuffled, [tests // 2])
    train = round(train_fraction(table) * len(target))
    rest = np.concatenate([target[train:], ours])
    parts = _third(target[:train], rest, table.name)
    return PruningSplit(*parts, attacker=np.concatenate([attacker, theirs]))


def own_split(table: Table, seed: int, *, tests: int) -> PruningSplit:
    """Split a table whose last ``tests`` rows a network has never met, and whose others it has.

    All others train; a third of the last is ``dev``, the rest ``test``; the attacker owns nothing.

    Raises
    ------
    DataError
        When either part is too small.
    """
    count = len(table) - tests
    rest = generator(seed, "held-out rows").permutation(tests).astype(np.int64) + count
    parts = _third(np.arange(count), rest, table.name)
    return PruningSplit(*parts, attacker=np.arange(0))


@dataclass(frozen=True, eq=False)
class Planted:
    """A table and its split with canaries: mislabeled samples, half trained on, half held out.

    Nothing but training on a canary teaches a model its wrong label: they show what the most
    vulnerable samples suffer.

    Parameters
    ----------
    table
        The table with the canaries' wrong labels.
    split
        The split; ``train`` begins with the planted canaries and lacks the held-out ones.
    planted
        How many canaries are planted.
    held_out
        Rows of the other canaries, which train nothing.
    """

    table: Table
    split: PruningSplit
    planted: int
    held_out: Indices


def plant_canaries(table: Table, split: PruningSplit, *, count: int, seed: int) -> Planted:
    """Give ``count`` random training rows another label, and hold half of them out.

    Raises
    ------
    DataError
        When there are too few rows to choose from, or just one canary, which leaves a side empty.
    """
    if count == 1 or not 0 <= count <= len(split.train) // 2:
        raise DataError(
            f"canaries must be 0, or between 2 and half of the {len(split.train)} training rows; "
            f"got {count}"
        )
    if count == 0:
        return Planted(table, split, 0, split.train[:0])
    rng = generator(seed, "canaries")
    order = rng.permutation(split.train)
    labels = table.labels.copy()
    labels[order[:count]] += rng.integers(1, table.classes, size=count)
    planted = (count + 1) // 2
    train = np.concatenate([order[:planted], order[count:]])
    return Planted(
        replace(table, labels=labels % table.classes),
        replace(split, train=train),
        planted,
        order[planted:count],
    )


def shadow_pool(
    samples: int, seed: int, train_fraction: float, *, audited: int = 0, drawn: int | None = None
) -> ShadowPool:
    """Divide samples among the attacker's shadow models, in the target's proportions.

    Parameters
    ----------
    samples
        How many samples there are; the pool counts them from 0.
    train_fraction
        Share of the attacker's own samples that would train a model, in (0, 1); a third of the
        remainder is ``dev``.
    audited
        How many of the samples, the first ones, are the audited ones. They join the pool and are
        never ``dev``; the others are the attacker's own.
    drawn
        Members of each shadow model; by default ``train_fraction`` of the attacker's samples.

    Raises
    ------
    DataError
        When there are too few for every part to have a sample.
    """
    order = generator(seed, "shadow pool").permutation(samples - audited).astype(np.int64)
    train, dev, test = _three(order + audited, train_fraction, "the attacker's data")
    pool = np.concatenate([np.arange(audited), train, test])
    drawn = len(train) if drawn is None else drawn
    if not 1 <= drawn < len(pool):
        raise DataError(
            f"shadow models cannot draw {drawn} members from {len(pool)} samples and leave "
            f"nonmembers; give the attacker more data"
        )
    return ShadowPool(pool, dev, drawn)


def draw_members(pool: ShadowPool, seed: int, number: int) -> BoolArray:
    """Return which samples of the pool shadow model ``number`` trains on; shape (pool,).

    Models 2i and 2i + 1 share as few members as can be, so that few samples are left without a
    model that trained on them, or without one that did not.
    """
    order = generator(seed, "shadow members", number // 2).permutation(len(pool.pool))
    members = np.zeros(len(order), dtype=np.bool_)
    members[order[: pool.drawn] if number % 2 == 0 else order[-pool.drawn :]] = True
    return members


def membership_split(n: int, seed: int) -> MembershipSplit:
    """Split ``n`` rows for membership protection, in the proportions MemGuard uses for Location.

    Of 5,010 shuffled rows: 0-1000 members, 1000-2000 the defender's nonmembers, 2000-3000 for
    evaluation, 3000-3500 and 4000-4500 the attacker's shadow members and nonmembers; other ``n``
    scale these. The shuffle is ours, since MemGuard's published one covers its own datasets only.

    Raises
    ------
    DataError
        When ``n`` is under 11, which leaves a part empty.
    """
    part = n * _MEMGUARD_PART // _MEMGUARD_ROWS
    shadow = n * _MEMGUARD_SHADOW // _MEMGUARD_ROWS
    if shadow < 1:
        raise DataError(f"{n} rows are too few for the membership split; it needs at least 11")
    order = generator(seed, "membership split").permutation(n).astype(np.int64)
    attacker = order[3 * part :]
    return MembershipSplit(
        members=order[:part],
        nonmembers=order[part : 2 * part],
        evaluation_nonmembers=order[2 * part : 3 * part],
        shadow_members=attacker[:shadow],
        shadow_nonmembers=attacker[2 * shadow : 3 * shadow],
    )


def _three(rows: Indices, fraction: float, whose: str) -> tuple[Indices, Indices, Indices]:
    """Cut rows into train, dev (a third of the remainder) and test (two thirds)."""
    train = round(fraction * len(rows))
    return _third(rows[:train], rows[train:], whose)


def _third(train: Indices, rest: Indices, whose: str) -> tuple[Indices, Indices, Indices]:
    """Cut the rest into dev, a third of it, and test."""
    dev = len(rest) // 3
    if not len(train) or dev < 1:
        raise DataError(
            f"{whose} has {len(train) + len(rest)} rows to split into train, dev and test: too "
            f"few, with {len(train)} of them to train on"
        )
    return train, rest[:dev], rest[dev:]
