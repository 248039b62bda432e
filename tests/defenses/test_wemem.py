from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privet.defenses import choose
from privet.defenses.wemem import RMR, RSW, SWMR, ranks_in_class, regularize_risk, window
from privet.errors import OptionError
from privet.fit import Setup, adam


def make_setup(labels, scores, **changes):
    labels = torch.as_tensor(labels)
    setup = Setup(
        model=torch.nn.Linear(1, 2),
        inputs=torch.zeros(len(labels), 1),
        labels=labels,
        optimizer=adam(0.01),
        batch_size=4,
        weight_decay=5e-4,
        scores=np.asarray(scores, dtype=float),
    )
    return replace(setup, **changes)


def seen(setup, epoch):
    return sorted(int(i) for each in setup.epoch_passes(epoch) for i in each.indices)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=30))
def test_ranks_sort_each_class_by_score(rows):
    labels = np.array([label for label, _ in rows])
    scores = np.array([float(score) for _, score in rows])
    for order, sign in (("high-to-low", -1), ("low-to-high", 1)):
        ranks = ranks_in_class(scores, labels, order)
        for label in np.unique(labels):
            inside = labels == label
            assert sorted(ranks[inside]) == list(range(inside.sum()))
            by_rank = scores[inside][np.argsort(ranks[inside])]
            assert (np.diff(sign * by_rank) >= 0).all()


def test_the_window_slides_by_its_stride_within_each_class():
    # Class 0 holds samples 0..5 by falling score, class 1 samples 6..8.
    setup = make_setup([0] * 6 + [1] * 3, [9, 8, 7, 6, 5, 4, 3, 2, 1])
    slid = window(setup, width=2, stride=1, order="high-to-low", restart=True)
    assert seen(slid, 0) == [0, 1, 6, 7]
    assert seen(slid, 1) == [1, 2, 7, 8]
    # Class 1 has come to its end and wraps; class 0 has not, and is not narrowed by it.
    assert seen(slid, 2) == [2, 3, 6, 8]
    assert seen(slid, 5) == [0, 5, 6, 8]


def test_a_window_wider_than_a_class_holds_all_of_it_once():
    setup = make_setup([0] * 3 + [1] * 8, range(11))
    wide = window(setup, width=5, stride=1, order="low-to-high", restart=True)
    for epoch in range(10):
        assert {0, 1, 2} <= set(seen(wide, epoch))
        assert len(seen(wide, epoch)) == 3 + 5


def test_without_restart_the_window_moves_on_over_rounds():
    setup = make_setup([0] * 20, range(20), first_epoch=7)
    moved = window(setup, width=3, stride=1, order="low-to-high", restart=False)
    assert seen(moved, 0) == [7, 8, 9]
    restarted = window(setup, width=3, stride=1, order="low-to-high", restart=True)
    assert seen(restarted, 0) == [0, 1, 2]


def test_risky_samples_train_apart_with_their_own_decay():
    setup = make_setup([0, 0, 1, 1], [0.2, 0.6, 0.7, 0.1])
    passes = regularize_risk(setup, threshold=0.6, weight_decay=0.1).epoch_passes(0)
    assert [(each.indices.tolist(), each.weight_decay) for each in passes] == [
        ([0, 3], 5e-4),
        ([1, 2], 0.1),
    ]


def test_the_primitives_compose():
    setup = make_setup([0] * 6, [0.9, 0.8, 0.7, 0.3, 0.2, 0.1])
    started = SWMR(width=4, stride=1, threshold=0.75).start(setup)
    by_decay = {each.weight_decay: each.indices.tolist() for each in started.epoch_passes(0)}
    assert by_decay == {5e-4: [2, 3], 0.1: [0, 1]}


@given(
    st.integers(2, 30), st.integers(1, 30), st.integers(0, 30), st.integers(0, 40), st.booleans()
)
def test_a_relative_window_is_the_absolute_one_of_such_a_class(size, width, stride, epoch, restart):
    width, stride = min(width, size), min(stride, size)
    rng = np.random.default_rng(size)
    setup = make_setup(np.repeat([0, 1], size), rng.random(2 * size), first_epoch=3)
    options = {"order": "low-to-high", "restart": restart}
    absolute = window(setup, width=width, stride=stride, **options)
    relative = window(setup, width=width / size, stride=stride / size, relative=True, **options)
    assert seen(relative, epoch) == seen(absolute, epoch)


def test_a_relative_window_is_as_wide_as_each_class_allows():
    setup = make_setup([0] * 10 + [1] * 4, range(14))
    slid = window(setup, width=0.3, stride=0.1, order="low-to-high", restart=True, relative=True)
    # Three of ten, and two of four, since a window is rounded up.
    assert seen(slid, 0) == [0, 1, 2, 10, 11]
    # 0.1 * 3 is a little more than 3 / 10 in floating point, and no sample is skipped for it.
    assert seen(slid, 3) == [3, 4, 5, 12, 13]


@given(st.integers(1, 40), st.integers(1, 4))
def test_a_random_order_ranks_each_class_in_another_order_than_its_scores(size, classes):
    labels = np.arange(size * classes) % classes
    scores = np.random.default_rng(size).random(size * classes)
    ranks = ranks_in_class(scores, labels, "random")
    for label in range(classes):
        assert sorted(ranks[labels == label]) == list(range(size))
    # Whatever the scores are: the order has nothing to do with them, and stays over rounds.
    np.testing.assert_array_equal(ranks, ranks_in_class(-scores, labels, "random"))


def test_the_random_order_does_not_follow_the_scores():
    scores = np.arange(500) / 500
    ranks = ranks_in_class(scores, np.zeros(500, np.int64), "random")
    assert abs(np.corrcoef(ranks, scores)[0, 1]) < 0.15


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.945])
def test_a_quantile_takes_its_share_of_the_samples_at_risk(share):
    scores = np.random.default_rng(0).random(1000) ** 5
    setup = make_setup(np.arange(1000) % 2, scores)
    passes = regularize_risk(setup, threshold=share, weight_decay=0.1, quantile=True).epoch_passes(
        0
    )
    calm, risky = passes
    assert len(risky.indices) == round(1000 * (1 - share))
    assert len(calm.indices) + len(risky.indices) == 1000
    if len(calm.indices):
        assert scores[calm.indices].max() < scores[risky.indices].min()


def test_the_highest_quantile_still_takes_the_highest_score():
    setup = make_setup([0, 0, 1, 1], [0.2, 0.6, 0.7, 0.1])
    _, risky = regularize_risk(setup, threshold=1.0, weight_decay=0.1, quantile=True).epoch_passes(
        0
    )
    assert risky.indices.tolist() == [2]


@pytest.mark.parametrize("method", [RSW, RMR, SWMR])
def test_methods_hand_all_of_their_options_to_the_primitives(method):
    setup = make_setup([0] * 10, np.arange(10) / 10, first_epoch=2)
    made, changes = setup, {"relative": True, "width": 0.5, "stride": 0.2, "restart": False}
    risk = {"threshold": 0.8, "risk_weight_decay": 0.3, "quantile": True}
    order = {"order": "high-to-low"}
    if method is not RMR:
        made = window(made, **changes, **order)
    if method is not RSW:
        made = regularize_risk(made, threshold=0.8, weight_decay=0.3, quantile=True)
    own = {RSW: {**changes, **order}, RMR: risk, SWMR: {**changes, **order, **risk}}[method]
    started = method(**own).start(setup)
    for epoch in range(5):
        for one, other in zip(started.epoch_passes(epoch), made.epoch_passes(epoch), strict=True):
            assert torch.equal(one.indices, other.indices)
            assert one.weight_decay == other.weight_decay


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RSW(width=0), "width >= 1"),
        (lambda: RSW(width=2.5), "whole numbers"),
        (lambda: RSW(stride=0.5), "whole numbers"),
        (lambda: RSW(width=float("nan")), "whole numbers"),
        (lambda: RSW(width=1.5, stride=0.1, relative=True), "relative window"),
        (lambda: RSW(width=0.0, stride=0.1, relative=True), "relative window"),
        (lambda: SWMR(relative=True), "relative window"),
        (lambda: SWMR(width=0.5, stride=1.1, relative=True), "relative window"),
        (lambda: RMR(threshold=1.5, quantile=True), r"\[0, 1\]"),
        (lambda: RMR(threshold=-0.1, quantile=True), r"\[0, 1\]"),
        (lambda: RSW(stride=-1), "stride >= 0"),
        (lambda: SWMR(order="sideways"), "high-to-low, low-to-high"),
        (lambda: SWMR(risk_weight_decay=-1.0), "at least 0"),
        (lambda: RMR(threshold=float("nan")), "finite"),
        (lambda: RMR(risk_weight_decay=float("inf")), "at least 0"),
    ],
)
def test_impossible_settings_are_named_at_once(make, message):
    with pytest.raises(OptionError, match=message):
        make()


@pytest.mark.parametrize(
    ("scores", "message"), [([0.1, np.nan], "finite"), ([0.1], "one a sample")]
)
def test_unusable_scores_are_named(scores, message):
    with pytest.raises(OptionError, match=message):
        RSW().start(make_setup([0, 1], scores))


def test_without_scores_there_is_nothing_to_rank():
    for method in (RSW(), RMR(), SWMR()):
        with pytest.raises(OptionError, match=r"setup\.scores is missing"):
            method.start(replace(make_setup([0, 1], [0.1, 0.2]), scores=None))


@pytest.mark.parametrize("options", [{"width": True}, {"width": "1"}, {"restart": 1}, {"wide": 3}])
def test_options_of_another_type_or_name_are_refused(options):
    with pytest.raises(OptionError, match=r"width|restart"):
        choose("rsw", options)


def test_a_whole_number_serves_where_a_fraction_is_wanted():
    assert choose("rmr", {"threshold": 1}).threshold == 1
