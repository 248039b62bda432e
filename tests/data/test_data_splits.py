from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.data import Table, membership_split, pruning_split, shadow_pool, train_fraction
from privet.data.splits import draw_members, own_split, plant_canaries
from privet.errors import DataError


def rows(n: int, *, images: bool = False) -> Table:
    shape = (n, 3, 2, 2) if images else (n, 4)
    return Table(np.zeros(shape, np.float32), np.arange(n) % 2, classes=2, name="t")


def disjoint(*parts: np.ndarray) -> bool:
    together = np.concatenate(parts)
    return np.unique(together).size == together.size


def test_location_sizes() -> None:
    split = pruning_split(rows(5010), seed=7)
    assert [len(p) for p in (split.train, split.dev, split.test, split.attacker)] == [
        2004,
        167,
        334,
        2505,
    ]


@given(st.integers(80, 400), st.integers(0, 2**31), st.booleans())
def test_pruning_split_shares_no_row(n: int, seed: int, images: bool) -> None:
    table = rows(n, images=images)
    split = pruning_split(table, seed)
    parts = (split.train, split.dev, split.test, split.attacker)
    assert disjoint(*parts)
    assert sum(map(len, parts)) == n
    assert len(split.train) == round((0.9 if images else 0.8) * (n // 2))
    pool = shadow_pool(len(split.attacker), seed, train_fraction(table))
    own = np.concatenate([pool.pool, pool.dev])
    np.testing.assert_array_equal(np.sort(own), np.arange(len(split.attacker)))
    members = draw_members(pool, seed, 0)
    assert members.shape == pool.pool.shape
    assert members.sum() == round((0.9 if images else 0.8) * len(split.attacker))


@given(st.integers(80, 300), st.integers(0, 60), st.integers(0, 2**31), st.booleans())
def test_a_datasets_own_held_out_rows_join_both_halves_and_train_nothing(n, tests, seed, images):
    table = rows(n + tests, images=images)
    split = pruning_split(table, seed, tests=tests)
    without = pruning_split(rows(n, images=images), seed)
    parts = (split.train, split.dev, split.test, split.attacker)
    assert disjoint(*parts)
    assert sum(map(len, parts)) == n + tests
    # Held-out rows change nothing about who trains.
    np.testing.assert_array_equal(split.train, without.train)
    np.testing.assert_array_equal(split.attacker[: len(without.attacker)], without.attacker)
    ours = np.concatenate([split.dev, split.test])
    assert (ours >= n).sum() == tests // 2
    assert (split.attacker >= n).sum() == tests - tests // 2
    assert len(split.dev) == len(ours) // 3


@given(st.integers(1, 200), st.integers(3, 60), st.integers(0, 2**31))
def test_a_network_of_ones_own_has_trained_on_all_but_the_held_out_rows(n, tests, seed):
    split = own_split(rows(n + tests), seed, tests=tests)
    np.testing.assert_array_equal(split.train, np.arange(n))
    held_out = np.concatenate([split.dev, split.test])
    np.testing.assert_array_equal(np.sort(held_out), np.arange(n, n + tests))
    assert len(split.dev) == tests // 3
    assert len(split.attacker) == 0
    other = own_split(rows(n + tests), seed + 1, tests=tests)
    assert tests < 20 or not np.array_equal(split.dev, other.dev)


@pytest.mark.parametrize("tests", [0, 2, 10])
def test_too_few_held_out_rows_are_refused(tests) -> None:
    with pytest.raises(DataError, match="too few"):
        own_split(rows(10), 1, tests=tests)


def test_splits_follow_their_seed() -> None:
    table = rows(500)
    first, again, other = (pruning_split(table, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.train, again.train)
    assert not np.array_equal(first.train, other.train)
    pool = shadow_pool(len(first.attacker), 7, 0.8)
    shadows = [draw_members(pool, *which) for which in ((1, 0), (1, 0), (2, 0), (1, 2))]
    np.testing.assert_array_equal(shadows[0], shadows[1])
    assert not np.array_equal(shadows[0], shadows[2])
    assert not np.array_equal(shadows[0], shadows[3])


@given(st.integers(20, 300), st.integers(0, 200), st.floats(0.2, 0.9), st.integers(0, 2**31))
def test_audited_samples_join_the_pool_but_never_stop_training(own, audited, share, seed) -> None:
    drawn = max(1, round(share * (own + audited) / 2))
    pool = shadow_pool(own + audited, seed, 0.8, audited=audited, drawn=drawn)
    everyone = np.concatenate([pool.pool, pool.dev])
    np.testing.assert_array_equal(np.sort(everyone), np.arange(own + audited))
    np.testing.assert_array_equal(pool.pool[:audited], np.arange(audited))
    assert (pool.dev >= audited).all()
    one, other = (draw_members(pool, seed, number) for number in (4, 5))
    assert one.sum() == other.sum() == drawn
    # As few in common as can be.
    assert (one & other).sum() == max(0, 2 * drawn - len(pool.pool))


@pytest.mark.parametrize("drawn", [0, 19, 100])
def test_shadow_models_need_members_and_nonmembers(drawn) -> None:
    with pytest.raises(DataError, match=f"draw {drawn} members"):
        shadow_pool(20, 1, 0.8, drawn=drawn)


@given(st.integers(2, 40), st.integers(0, 2**31))
def test_canaries_are_mislabeled_and_half_of_them_held_out(count, seed) -> None:
    table = rows(250)
    split = pruning_split(table, seed)
    made = plant_canaries(table, split, count=count, seed=seed)
    planted = made.split.train[: made.planted]
    assert len(planted) == made.planted == count - len(made.held_out) == (count + 1) // 2
    assert disjoint(made.split.train, made.held_out)
    every = np.concatenate([made.split.train, made.held_out])
    np.testing.assert_array_equal(np.sort(every), np.sort(split.train))
    changed = np.flatnonzero(made.table.labels != table.labels)
    np.testing.assert_array_equal(changed, np.sort(np.concatenate([planted, made.held_out])))
    assert made.table.labels.max() < table.classes
    for part in ("dev", "test", "attacker"):
        np.testing.assert_array_equal(getattr(made.split, part), getattr(split, part))


def test_no_canaries_change_nothing() -> None:
    table = rows(250)
    split = pruning_split(table, 1)
    made = plant_canaries(table, split, count=0, seed=1)
    assert made.table is table
    assert made.split is split
    assert (made.planted, len(made.held_out)) == (0, 0)


@pytest.mark.parametrize("count", [-1, 1, 51])
def test_too_few_or_too_many_canaries_are_refused(count) -> None:
    table = rows(250)
    with pytest.raises(DataError, match=f"got {count}"):
        plant_canaries(table, pruning_split(table, 1), count=count, seed=1)


@pytest.mark.parametrize("n", [1, 5, 20])
def test_too_few_rows_to_prune_on(n: int) -> None:
    with pytest.raises(DataError, match="too few"):
        pruning_split(rows(n), seed=1)
    with pytest.raises(DataError, match="too few"):
        shadow_pool(n, 1, 1.0)


def test_memguard_sizes_for_location() -> None:
    split = membership_split(5010, seed=1)
    assert [len(part) for part in vars(split).values()] == [1000, 1000, 1000, 500, 500]


@given(st.integers(11, 3000), st.integers(0, 2**31))
def test_membership_split_shares_no_row_and_is_balanced(n: int, seed: int) -> None:
    split = membership_split(n, seed)
    parts = list(vars(split).values())
    assert disjoint(*parts)
    assert all(part.size and part.min() >= 0 and part.max() < n for part in parts)
    assert len(split.members) == len(split.nonmembers) == len(split.evaluation_nonmembers)
    assert len(split.shadow_members) == len(split.shadow_nonmembers)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(parts, vars(membership_split(n, seed)).values(), strict=True)
    )


def test_membership_parts_are_shuffled() -> None:
    parts = vars(membership_split(5010, seed=1)).values()
    assert all(np.abs(a.mean() - b.mean()) < 400 for a, b in pairwise(parts))


def test_too_few_rows_for_membership() -> None:
    with pytest.raises(DataError, match="at least 11"):
        membership_split(10, seed=1)
