"""The ways of phase I: every stop is what the plain loop finds, and keeps what was promised."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from device.plain_loops import Double, plain_walk, softmax
from device.test_attribute_rules import POLICIES, random_network
from privet.device import Network, Rules
from privet.device.paths import Paths, search_paths
from privet.errors import DataError, OptionError

STEPS = 8


def walked(network, records, **options):
    """The ways of all records in one block."""
    ((which, paths),) = search_paths(network, records, **({"steps": STEPS} | options))
    assert which == slice(0, records.shape[0])
    return paths


@pytest.fixture(scope="module")
def paths(guesser, ratings):
    return walked(guesser, ratings)


def assert_as_the_plain_loop(network, records, paths, *, masks=None, **rules):
    """Compare all ways; ``masks`` are what the records keep, one a record."""
    n, classes, steps = paths.feature.shape
    for record in range(n):
        rules["keep"] = False if masks is None else masks[record]
        for target in range(classes):
            changes, stops = plain_walk(
                Double(network), records[record], target, steps=steps, **rules
            )
            length = len(changes)
            missing = steps - length
            expected = [feature for feature, _ in changes] + [-1] * missing
            np.testing.assert_array_equal(paths.feature[record, target], expected)
            values = [value for _, value in changes]
            np.testing.assert_array_equal(paths.value[record, target, :length], values)
            said = paths.logits[record, 1 + target * steps : 1 + (target + 1) * steps]
            end = np.array(stops[1:] + [stops[-1]] * missing)
            np.testing.assert_allclose(said, end, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(paths.logits[record, 0], stops[0], rtol=1e-3, atol=1e-4)


def test_the_same_ways_as_the_plain_loop(guesser, ratings, paths):
    assert_as_the_plain_loop(guesser, ratings[:25], first(paths, 25))
    np.testing.assert_array_equal(paths.label, guesser.logits(ratings).argmax(axis=1))


def first(paths, n):
    return Paths(paths.feature[:n], paths.value[:n], paths.logits[:n], paths.label[:n])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kept", ["nothing", "features", "entries"])
def test_the_same_ways_under_any_rules(guesser, ratings, policy, kept):
    rng = np.random.default_rng(0)
    # Entries above what is legal, too.
    few = np.where(np.arange(300) % 3 == 0, 0.8, ratings[:8].astype(np.float64))
    low, high = np.where(np.arange(300) % 5 == 0, 0.2, 0.0), np.where(np.arange(300) % 2, 0.6, 1.0)
    never = (0, 17, 18, 40, 299)
    keep = {
        "nothing": None,
        "features": rng.random(300) < 0.5,
        "entries": rng.random((8, 300)) < 0.5,
    }[kept]
    paths = walked(guesser, few, rules=Rules(policy, keep=keep, low=low, high=high, never=never))
    assert (paths.feature >= 0).mean() > 0.3
    masks = np.zeros((8, 300), np.bool_) if keep is None else np.broadcast_to(keep, (8, 300)).copy()
    masks[:, never] = True
    assert_as_the_plain_loop(guesser, few, paths, masks=masks, policy=policy, low=low, high=high)


def test_the_same_ways_through_deeper_networks():
    rng = np.random.default_rng(4)
    network = random_network(rng, (40, 30, 20, 4))
    records = (rng.random((10, 40)) < 0.2).astype(np.float32)
    assert_as_the_plain_loop(network, records, walked(network, records))


def test_ways_lead_to_their_targets_and_on(guesser, paths):
    arrived = paths.logits[:, 1:].reshape(60, 6, STEPS, 6).argmax(axis=3) == np.arange(6)[:, None]
    under_way = paths.label[:, None] != np.arange(6)
    assert arrived[:, :, -1].mean() > 0.9
    # Many stop only long after the target is said, and none turns back for good.
    assert (arrived[under_way].sum(axis=1) > 2).mean() > 0.5
    lead = paths.logits[:, 1:].reshape(60, 6, STEPS, 6)
    own = np.take_along_axis(lead, np.arange(6)[None, :, None, None], axis=3)[..., 0]
    assert (np.diff(own[under_way], axis=1) > 0).mean() > 0.9


@pytest.mark.parametrize("memory", [1, 300_000, 1_000_000])
def test_the_size_of_blocks_does_not_matter(guesser, ratings, paths, memory):
    records = ratings.astype(np.float64)
    keep = np.random.default_rng(2).random(ratings.shape) < 0.2
    for rules, whole in ((None, paths), (Rules(keep=keep), None)):
        whole = whole or walked(guesser, records, rules=rules)
        parts = list(search_paths(guesser, records, steps=STEPS, rules=rules, memory=memory))
        ends = [0, *(which.stop for which, _ in parts)]
        assert [which.start for which, _ in parts] == ends[:-1]
        assert ends[-1] == 60
        assert len(parts) == 60 if memory == 1 else 1 < len(parts) < 60
        assert_alike(whole, parts)


def assert_alike(whole, parts):
    for name in ("feature", "value", "label"):
        joined = np.concatenate([getattr(part, name) for _, part in parts])
        np.testing.assert_array_equal(getattr(whole, name), joined)
    logits = np.concatenate([part.logits for _, part in parts])
    np.testing.assert_allclose(whole.logits, logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_matrix, sp.coo_array, sp.lil_matrix])
def test_sparse_records_and_masks_give_the_same_ways(guesser, ratings, paths, make):
    assert_alike(paths, list(search_paths(guesser, make(ratings), steps=STEPS)))
    mask = np.random.default_rng(1).random(ratings.shape) < 0.3
    dense = walked(guesser, ratings, rules=Rules(keep=mask, never=(3, 4)))
    rules = Rules(keep=make(mask), never=(3, 4))
    some = list(search_paths(guesser, make(ratings), steps=STEPS, rules=rules, memory=500_000))
    assert len(some) > 1
    assert_alike(dense, some)


def test_candidates_are_the_stops(guesser, ratings, paths):
    """What a stop says and costs is true of the record that its changes make."""
    rng = np.random.default_rng(0)
    column = np.sort(rng.integers(1 + 6 * STEPS, size=(60, 9)), axis=1)
    column[:, 0] = 0
    column[:, 5] = column[:, 4]  # twice the same
    found = paths.candidates(column)
    np.testing.assert_array_equal(found.targets, paths.target(column))
    np.testing.assert_array_equal(found.label, paths.label)
    assert found.start[-1] == len(found.feature) == len(found.value)
    rows = np.arange(60)
    for m in range(9):
        changed = found.apply(ratings, np.full(60, m))
        said = guesser.logits(changed)
        stop = column[:, m]
        np.testing.assert_allclose(said, paths.logits[rows, stop], rtol=1e-3, atol=1e-4)
        aim = found.aim(np.full(60, m))
        assert found.reached[said.argmax(axis=1) == aim, m].all()
        way = paths.target(np.arange(1, 1 + 6 * STEPS)[None].repeat(60, 0)) == aim[:, None]
        there = (paths.logits[:, 1:].argmax(axis=2) == aim[:, None]) & way
        np.testing.assert_array_equal(found.reached[:, m], there.any(axis=1) | (aim == found.label))
        differ = (changed != ratings).sum(axis=1)
        np.testing.assert_array_equal(differ, found.cost[:, m])
        there = np.isfinite(paths.cost[rows, stop])
        np.testing.assert_array_equal(differ[there], paths.cost[rows, stop][there])
    # Stop by stop: the changes so far, of one way.
    for record, target in ((0, 2), (7, 5), (31, 0)):
        for step in range(STEPS):
            some = np.zeros((60, 1), dtype=int)
            some[record] = 1 + target * STEPS + step
            row, feature, value = paths.candidates(some).changes(np.zeros(60, dtype=int))
            taken = paths.feature[record, target, : step + 1]
            taken = taken[taken >= 0]
            np.testing.assert_array_equal(row, np.full(len(taken), record))
            np.testing.assert_array_equal(feature, taken)
            np.testing.assert_array_equal(value, paths.value[record, target, : len(taken)])


def test_of_stops_that_make_the_same_record_only_the_first_is_there(paths):
    n, targets, steps = paths.feature.shape
    twice = 0
    for record in range(n):
        seen = set()
        for target in range(targets):
            for step in range(steps):
                made = frozenset(
                    zip(
                        paths.feature[record, target, : step + 1].tolist(),
                        paths.value[record, target, : step + 1].tolist(),
                        strict=True,
                    )
                )
                there = paths.feature[record, target, step] >= 0 and made not in seen
                twice += paths.feature[record, target, step] >= 0 and made in seen
                cost = paths.cost[record, 1 + target * steps + step]
                assert cost == (step + 1 if there else np.inf)
                seen.add(made)
    assert twice  # or nothing was tested


def test_the_unchanged_record_is_stop_0_and_stands_for_its_label(guesser, ratings, paths):
    still = paths.candidates(np.zeros((60, 1), dtype=int))
    assert still.cost.sum() == 0
    np.testing.assert_array_equal(still.targets[:, 0], paths.label)
    assert still.reached.all()
    np.testing.assert_array_equal(still.apply(ratings, np.zeros(60, dtype=int)), ratings)
    # There is no way to where one is already.
    own = paths.feature[np.arange(60), paths.label]
    assert (own == -1).all()


def dead_end():
    """Two features for class 1, worth 1 and 2, and a third that is as good for both classes."""
    first = np.array([[1, 2, 1], [0, 0, 1]], "f4")
    second = np.array([[0, 1], [1, 0]], "f4")
    return Network((first, second), (np.zeros(2, "f4"), np.array([0.5, 0], "f4")))


def test_a_way_ends_where_no_change_helps_and_stands_for_its_end():
    # The hidden units start at 0, where a ReLU passes nothing: give every record some of each.
    records = np.array([[0.1, 0.0, 0.1], [1.0, 1.0, 0.0]])
    paths = walked(dead_end(), records, steps=5, rules=Rules(never=(2,)))
    np.testing.assert_array_equal(paths.label, [0, 1])
    np.testing.assert_array_equal(paths.feature[0, 1], [1, 0, -1, -1, -1])
    np.testing.assert_array_equal(paths.feature[1, 0], [1, 0, -1, -1, -1])
    np.testing.assert_array_equal(paths.value[0, 1, :2], [1, 1])
    np.testing.assert_array_equal(paths.value[1, 0, :2], [0, 0])
    inf = np.inf
    np.testing.assert_array_equal(
        paths.cost, [[0, *[inf] * 5, 1, 2, inf, inf, inf], [0, 1, 2, inf, inf, inf, *[inf] * 5]]
    )
    # No stop of the record's own class; the others repeat the end.
    np.testing.assert_array_equal(paths.logits[0, 1:6], np.tile(paths.logits[0, 0], (5, 1)))
    np.testing.assert_array_equal(paths.logits[0, 8:], np.tile(paths.logits[0, 7], (4, 1))[:3])
    ends = paths.candidates(np.array([[3, 7, 8, 10], [2, 3, 5, 9]]))
    np.testing.assert_array_equal(ends.cost, [[0, 2, 2, 2], [2, 2, 2, 0]])
    np.testing.assert_array_equal(ends.targets, [[0, 1, 1, 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(ends.apply(records, np.array([3, 1])), [[1, 1, 0.1], [0, 0, 0]])


@pytest.mark.parametrize("rules", [Rules(keep=np.ones(300, np.bool_)), Rules(never=range(300))])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_where_nothing_may_change_no_way_leads_anywhere(guesser, ratings, paths, rules, make):
    still = walked(guesser, make(ratings), rules=rules)
    assert (still.feature == -1).all()
    np.testing.assert_array_equal(still.label, paths.label)
    assert np.isinf(still.cost[:, 1:]).all()
    np.testing.assert_allclose(still.logits, paths.logits[:, :1].repeat(49, axis=1), atol=1e-4)


def test_legal_values_are_exact_and_whole_numbers_stay_whole(guesser, ratings):
    scores = np.round(ratings.astype(np.float64) * 4 / 5, 1)
    paths = walked(guesser, scores, rules=Rules(high=0.8, low=0.2))
    assert np.isin(paths.value[paths.feature >= 0], [0.8, 0.2]).all()
    whole = (ratings > 0).astype(np.int8)
    found = walked(guesser, whole).candidates(np.full((60, 1), 1 + 2 * STEPS))
    changed = found.apply(whole, np.zeros(60, dtype=int))
    assert changed.dtype == np.int8
    np.testing.assert_array_equal((changed != whole).sum(axis=1), found.cost[:, 0])


@given(
    seed=st.integers(0, 2**32 - 1),
    policy=st.sampled_from(POLICIES),
    steps=st.sampled_from([1, 3, 40]),
    sizes=st.sampled_from([(30, 8, 4), (30, 6, 5, 3)]),
    memory=st.sampled_from([1, 50_000, 10**8]),
)
@settings(max_examples=60, deadline=None)
def test_a_way_keeps_every_promise(seed, policy, steps, sizes, memory):
    rng = np.random.default_rng(seed)
    n, features, classes = 5, sizes[0], sizes[-1]
    scores = np.array([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    low = rng.choice(scores[:3], features)
    high = np.maximum(low, rng.choice(scores[2:], features))
    x = rng.choice([0, 1], (n, features), p=[0.7, 0.3]) * rng.choice(scores, (n, features))
    keep = rng.random((n, features) if seed % 2 else features) < 0.3
    never = tuple(np.flatnonzero(rng.random(features) < 0.3).tolist())
    rules = Rules(policy, keep=keep, low=low, high=high, never=never)
    network = random_network(rng, sizes)
    for which, paths in search_paths(network, x, steps=steps, rules=rules, memory=memory):
        rows = x[which]
        feature, taken = paths.feature, paths.feature >= 0
        # Once a way has ended it stays so, and never comes back to an entry.
        assert (np.diff(taken.astype(int), axis=2) <= 0).all()
        for way in feature.reshape(-1, steps):
            assert len(set(way[way >= 0])) == (way >= 0).sum()
        record, _, _ = np.nonzero(taken)
        feature, value = feature[taken], paths.value[taken]
        assert not np.isin(feature, never).any()
        assert not np.broadcast_to(keep, x.shape)[which][record, feature].any()
        before = rows[record, feature]
        assert (before > 0).all() or policy != "modify_exist"
        assert (before == 0).all() or policy != "add_new"
        assert ((value == low[feature]) | (value == high[feature])).all()
        assert (value != before).all()
        column = rng.integers(1 + classes * steps, size=(len(rows), 4))
        found = paths.candidates(column)
        for m in range(4):
            said = network.logits(found.apply(rows, np.full(len(rows), m)))
            stops = paths.logits[np.arange(len(rows)), column[:, m]]
            np.testing.assert_allclose(said, stops, rtol=1e-3, atol=1e-3)


# What an attacker is believed to answer


def test_answers_are_the_softmax_with_a_share_of_the_truth(paths):
    plain = paths.answers(1.0, 0.0)
    mixed = paths.answers(2.5, 0.2)
    assert plain.dtype == mixed.dtype == np.float64
    for record, stop in ((0, 0), (3, 7), (59, 48)):
        said = softmax(paths.logits[record, stop].astype(np.float64))
        np.testing.assert_allclose(plain[record, stop], said, atol=1e-6)
        cooled, truth = (
            softmax(paths.logits[record, each].astype(np.float64) / 2.5) for each in (stop, 0)
        )
        np.testing.assert_allclose(mixed[record, stop], 0.8 * cooled + 0.2 * truth, atol=1e-6)
    np.testing.assert_allclose(mixed.sum(axis=2), 1, atol=1e-12)


def test_any_temperature_gives_distributions(paths):
    said = paths.logits.argmax(axis=2)
    for cold in (1e-30, 1e-300, 5e-324):
        np.testing.assert_allclose(paths.answers(cold, 0.0), np.eye(6)[said])
    np.testing.assert_allclose(paths.answers(1e300, 0.5), 1 / 6)


# What is refused


def test_bad_records_are_named_in_any_block(guesser, ratings):
    bad = ratings.copy()
    bad[41, 7] = 1.5
    for memory in (1, 10**8):
        with pytest.raises(DataError, match=r"record 41, feature 7 is 1\.5"):
            list(search_paths(guesser, bad, steps=2, memory=memory))
    with pytest.raises(DataError, match="shape"):
        list(search_paths(guesser, bad[:, :299], steps=2))
    with pytest.raises(DataError, match="n at least 1"):
        list(search_paths(guesser, bad[:0], steps=2))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 0}, "at least one step; got 0"),
        ({"rules": Rules(never=(300,))}, r"0\.\.299; got 300"),
        ({"rules": Rules(never=(-1,))}, r"never must name features in 0\.\.299"),
        ({"rules": Rules(keep=np.zeros(299, np.bool_))}, "keep must be"),
        ({"rules": Rules(low=0.5, high=0.4)}, "above its highest"),
    ],
)
def test_bad_options_are_named(guesser, ratings, options, match):
    with pytest.raises(OptionError, match=match):
        walked(guesser, ratings, **options)
