import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from privet import metrics
from privet.errors import EvidenceError

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.4, 0.3])
MEMBERS = np.array([True, True, False, True, False, True, False, False])


def tied_samples() -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    sample = st.tuples(st.integers(0, 5), st.booleans())
    both_kinds = st.lists(sample, min_size=2, max_size=60).filter(
        lambda rows: 0 < sum(member for _, member in rows) < len(rows)
    )
    return both_kinds.map(
        lambda rows: (np.array([float(s) for s, _ in rows]), np.array([m for _, m in rows]))
    )


@given(tied_samples())
def test_auc_equals_scikit_learns_under_ties(sample):
    scores, members = sample
    assert metrics.auc(scores, members) == pytest.approx(roc_auc_score(members, scores))


@given(tied_samples())
def test_area_under_the_corners_is_the_auc(sample):
    scores, members = sample
    fpr, tpr = metrics.roc_curve(scores, members)
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.auc(scores, members))
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)


@given(tied_samples())
def test_balanced_accuracy_equals_scikit_learns(sample):
    scores, members = sample
    decisions = scores >= 3
    expected = balanced_accuracy_score(members, decisions)
    assert metrics.balanced_accuracy(decisions, members) == pytest.approx(expected)


def test_higher_scores_mean_members():
    assert metrics.auc(MEMBERS.astype(float), MEMBERS) == 1
    assert metrics.auc(-MEMBERS.astype(float), MEMBERS) == 0


def test_tpr_is_read_where_the_fpr_does_not_exceed_the_one_asked():
    judged = metrics.judge(SCORES, MEMBERS, false_positive_rates=(0.2, 0.25, 0.5))
    # The third-highest score is a nonmember's: FPR jumps from 0 to 1/4 there.
    assert judged.tpr_at_fpr[0.2].tpr == 0.5
    assert judged.tpr_at_fpr[0.25].tpr == 0.75
    assert judged.tpr_at_fpr[0.5].tpr == 1.0


def test_an_fpr_below_one_nonmember_is_flagged():
    judged = metrics.judge(SCORES, MEMBERS, false_positive_rates=(0.1, 0.25))
    assert not judged.tpr_at_fpr[0.1].resolved
    assert judged.tpr_at_fpr[0.25].resolved


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Closed forms at the ends: 1 - (a/2)^(1/n) and (a/2)^(1/n).
        (0, 10, 0.0, 1 - 0.025 ** (1 / 10)),
        (10, 10, 0.025 ** (1 / 10), 1.0),
        # Tabulated exact interval for 5 of 10.
        (5, 10, 0.1871, 0.8129),
    ],
)
def test_clopper_pearson(successes, trials, low, high):
    assert metrics.clopper_pearson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_an_attack_without_decisions_has_no_balanced_accuracy():
    assert metrics.judge(SCORES, MEMBERS).balanced_accuracy is None


@pytest.mark.parametrize(
    ("scores", "members", "message"),
    [
        (np.array([np.nan, 1.0]), np.array([True, False]), "1 scores are NaN"),
        (np.array([0.0, 1.0]), np.array([True, True]), "at least one member and one nonmember"),
        (np.array([0.0]), np.array([True, False]), "alike"),
    ],
)
def test_unjudgeable_input_is_refused(scores, members, message):
    with pytest.raises(EvidenceError, match=message):
        metrics.judge(scores, members)
