"""Who holds which rows: the splits under the papers' experiments.

All splits are index arrays, disjoint where the names differ, and fixed by their seed.
"""

from dataclasses import dataclass

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


def pruning_split(table: Table, seed: int) -> PruningSplit:
    """Split a table for private pruning: half to the target, half to the attacker (WeMem).

    `train_fraction` of the target's half trains; of the remainder a third is ``dev`` and the rest
    ``test``.

    Deviations from WeMem's public code, both deliberate: the shadow models' nonmembers are never
    the target's (an attack must not be tuned on the rows that it is judged on), and a dataset's
    own test table is left out.

    Raises
    ------
    DataError
        When the table is too small for every part to have a row.
    """
    order = generator(seed, "pruning split").permutation(len(table)).astype(np.int64)
    target, attacker = np.split(order, [len(order) // 2])
    parts = _three(target, train_fraction(table), table.name)
    return PruningSplit(*parts, attacker=attacker)


def shadow_pool(samples: int, seed: int, train_fraction: float) -> ShadowPool:
    """Divide the attacker's samples for its shadow models, in the target's proportions.

    Parameters
    ----------
    samples
        How many samples the attacker owns; the pool counts them from 0.
    train_fraction
        Share of them that each shadow model trains on, in (0, 1).

    Raises
    ------
    DataError
        When there are too few for every part to have a sample.
    """
    order = generator(seed, "shadow pool").permutation(samples).astype(np.int64)
    train, dev, test = _three(order, train_fraction, "the attacker's data")
    return ShadowPool(np.concatenate([train, test]), dev, drawn=len(train))


def draw_members(pool: ShadowPool, seed: int) -> BoolArray:
    """Return which samples of the pool one shadow model trains on; shape (pool,)."""
    members = np.zeros(len(pool.pool), dtype=np.bool_)
    members[generator(seed, "shadow members").permutation(len(members))[: pool.drawn]] = True
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
    dev = (len(rows) - train) // 3
    if train < 1 or dev < 1:
        raise DataError(
            f"{whose} has {len(rows)} rows to split into train, dev and test: too few "
            f"with {fraction:g} of them to train on"
        )
    parts = np.split(rows, [train, train + dev])
    return parts[0], parts[1], parts[2]
