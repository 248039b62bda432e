import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.special import log_softmax

from privet.errors import EvidenceError
from privet.signals import Evidence, Signals


def signals(models: int = 1, *, samples: int = 4, classes: int = 3) -> Signals:
    rng = np.random.default_rng(0)
    return Signals(rng.normal(size=(models, samples, classes)), np.arange(samples) % classes)


def half(models: int, samples: int) -> np.ndarray:
    return np.tile(np.arange(samples) % 2 == 0, (models, 1))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((4, 3)), np.arange(4) % 3, r"got \(4, 3\)"),
        (np.zeros((0, 4, 3)), np.arange(4) % 3, r"none empty; got \(0, 4, 3\)"),
        (np.zeros((1, 0, 3)), np.arange(0), r"none empty; got \(1, 0, 3\)"),
        (np.zeros((1, 4, 0)), np.arange(4), r"none empty; got \(1, 4, 0\)"),
        (np.zeros((1, 4, 3)), np.arange(3), r"shape \(4,\).*got \(3,\)"),
        (np.zeros((1, 4, 3)), np.zeros((4, 1), int), r"shape \(4,\).*got \(4, 1\)"),
        (np.zeros((1, 4, 3)), np.zeros(4), "integers; got float64"),
        (np.zeros((1, 4, 3)), np.zeros(4, bool), "integers; got bool"),
        (np.zeros((1, 4, 3)), np.array([0, 1, 2, 3]), r"0\.\.2.*got 0\.\.3"),
        (np.zeros((1, 4, 3)), np.array([0, -1, 2, 1]), r"0\.\.2.*got -1\.\.2"),
        (np.array([[[0, np.nan], [np.inf, 1.0]]]), np.zeros(2, int), "2 logits"),
        (np.array([[[0, -np.inf]]]), np.zeros(1, int), "1 logits"),
    ],
)
def test_signals_that_make_no_sense_are_refused(logits, labels, message):
    with pytest.raises(EvidenceError, match=message):
        Signals(logits, labels)


@pytest.mark.parametrize(
    ("target", "shadow", "members", "message"),
    [
        (signals(2), signals(2), half(2, 4), "one target model; got 2"),
        (signals(classes=4), signals(2), half(2, 4), "got 4 and 3"),
        (signals(), signals(2), half(2, 4).astype(int), "bool; got int64"),
        (signals(), signals(2), half(1, 4), r"shape \(2, 4\); got \(1, 4\)"),
        (signals(), signals(2), half(2, 5), r"shape \(2, 4\); got \(2, 5\)"),
        (signals(), signals(2), np.zeros((2, 4), bool), "both members and nonmembers"),
        (signals(), signals(2), np.ones((2, 4), bool), "both members and nonmembers"),
        (
            signals(),
            signals(2),
            np.array([[True, False, True, False], [True] * 4]),
            "every shadow model",
        ),
    ],
)
def test_evidence_that_does_not_fit_together_is_refused(target, shadow, members, message):
    with pytest.raises(EvidenceError, match=message):
        Evidence(target, shadow, members)


def test_target_and_shadow_pools_may_differ_in_size():
    evidence = Evidence(signals(samples=9), signals(2), half(2, 4))
    assert evidence.target.logits.shape == (1, 9, 3)


@given(
    npst.arrays(
        st.sampled_from([np.float32, np.float64]),
        npst.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.floats(-10_000, 10_000, width=32),
    )
)
def test_log_confidences_are_scipys_log_softmax(logits):
    found = Signals(logits, np.zeros(logits.shape[1], int)).log_confidences()
    assert found.dtype == np.float64
    np.testing.assert_allclose(
        found, log_softmax(logits.astype(np.float64), axis=2), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(np.exp(found).sum(2), 1, rtol=1e-12)


def test_log_confidences_neither_overflow_nor_saturate():
    logits = np.array([[[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4]]])
    found = Signals(logits, np.zeros(4, int)).log_confidences()
    expected = [[0, -2e4], [-2e4, 0], [-np.log(2)] * 2, [-np.log(2)] * 2]
    np.testing.assert_allclose(found[0], expected, rtol=1e-15)


def test_log_confidences_leave_the_logits_alone():
    both = signals()
    before = both.logits.copy()
    first = both.log_confidences()
    first[:] = 0
    np.testing.assert_array_equal(both.logits, before)
    assert both.log_confidences().any()


def test_log_confidences_can_stand_in_for_logits():
    recorded = signals(2)
    again = Signals(recorded.log_confidences(), recorded.labels)
    np.testing.assert_allclose(again.log_confidences(), recorded.log_confidences(), atol=1e-15)
