import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
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


@pytest.mark.parametrize(
    ("alpha", "accused"),
    [(0.2, 0), (0.25, 1), (0.49, 1), (0.5, 2)],
)
def test_the_nonmembers_behind_a_rate_are_counted(alpha, accused):
    rate = metrics.judge(SCORES, MEMBERS, false_positive_rates=(alpha,)).tpr_at_fpr[alpha]
    assert rate.nonmembers_accused == accused


def test_nonmembers_are_not_counted_beyond_the_last_member_found():
    members = np.array([True, False, False])
    rate = metrics.judge(np.array([3.0, 2, 1]), members, false_positive_rates=(0.6,))
    assert rate.tpr_at_fpr[0.6].nonmembers_accused == 0


@given(tied_samples(), st.sampled_from([0.001, 0.01, 0.1, 0.5]))
def test_the_band_holds_the_clopper_pearson_interval(sample, alpha):
    scores, members = sample
    rate = metrics.judge(scores, members, false_positive_rates=(alpha,)).tpr_at_fpr[alpha]
    assert 0 <= rate.band_low <= rate.low <= rate.tpr <= rate.high <= rate.band_high <= 1
    assert 0 <= rate.nonmembers_accused <= alpha * (~members).sum() + 1e-9


@pytest.mark.parametrize(("nonmembers", "shift"), [(400, 1.0), (400, 2.0), (2000, 2.0)])
def test_the_band_covers_the_rate_at_the_true_fpr_where_clopper_pearson_does_not(nonmembers, shift):
    rng = np.random.default_rng(0)
    members = np.arange(nonmembers + 500) < 500
    true = norm.sf(norm.isf(0.01) - shift)
    covered = np.zeros((200, 2))
    for row in covered:
        scores = rng.normal(size=len(members)) + shift * members
        rate = metrics.judge(scores, members, false_positive_rates=(0.01,)).tpr_at_fpr[0.01]
        row[:] = rate.low <= true <= rate.high, rate.band_low <= true <= rate.band_high
    given_threshold, band = covered.mean(axis=0)
    # The standard error of a coverage of 95 % is 1.5 % here.
    assert band > 0.92
    assert given_threshold < 0.8


def test_a_threshold_that_may_accuse_no_one_has_no_lower_bound():
    members = np.arange(200) < 100
    rate = metrics.judge(members * 1.0, members, false_positive_rates=(0.01,)).tpr_at_fpr[0.01]
    assert (rate.tpr, rate.band_low, rate.band_high) == (1, 0, 1)
    assert rate.low > 0.96


@given(st.floats(0, 1), st.integers(1, 300), st.integers(1, 300))
def test_the_auc_interval_holds_the_auc_and_mirrors(area, members, nonmembers):
    low, high = metrics.auc_interval(area, members, nonmembers)
    assert 0 <= low <= area + 1e-9
    assert area - 1e-9 <= high <= 1
    assert metrics.auc_interval(1 - area, members, nonmembers) == pytest.approx((1 - high, 1 - low))


def test_the_auc_interval_has_its_closed_form_for_one_of_each():
    # With one member and one nonmember the variance is A (1 - A): Wilson's interval of one trial.
    z2 = norm.ppf(0.975) ** 2
    assert metrics.auc_interval(1.0, 1, 1) == pytest.approx((1 / (1 + z2), 1))


@pytest.mark.parametrize(("members", "nonmembers", "shift"), [(10, 5, 0.0), (10, 30, 2.0)])
def test_the_auc_interval_covers_the_true_auc_even_in_small_groups(members, nonmembers, shift):
    rng = np.random.default_rng(0)
    inside = np.arange(members + nonmembers) < members
    true, covered = norm.cdf(shift / np.sqrt(2)), 0
    for _ in range(300):
        scores = rng.normal(size=len(inside)) + shift * inside
        low, high = metrics.judge(scores, inside, false_positive_rates=()).auc_interval
        covered += low <= true <= high
    assert covered / 300 > 0.92


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
