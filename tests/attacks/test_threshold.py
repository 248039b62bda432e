import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.attacks import threshold
from privet.signals import Signals


def signals(posterior: list[float], label: int) -> Signals:
    return Signals(np.log(np.array(posterior))[None, None], np.array([label]))


def test_metrics_on_a_posterior_by_hand():
    one = signals([0.7, 0.2, 0.1], 0)
    log = np.log
    assert threshold.confidence(one)[0, 0] == pytest.approx(log(0.7))
    assert threshold.top_confidence(one)[0, 0] == pytest.approx(log(0.7))
    entropy = -(0.7 * log(0.7) + 0.2 * log(0.2) + 0.1 * log(0.1))
    assert threshold.negative_entropy(one)[0, 0] == pytest.approx(-entropy)
    modified = -(0.3 * log(0.7) + 0.2 * log(0.8) + 0.1 * log(0.9))
    assert threshold.negative_modified_entropy(one)[0, 0] == pytest.approx(-modified)


def test_modified_entropy_tells_certainly_wrong_from_certainly_right():
    right = threshold.negative_modified_entropy(signals([0.999, 0.0005, 0.0005], 0))
    wrong = threshold.negative_modified_entropy(signals([0.999, 0.0005, 0.0005], 1))
    assert right > wrong
    assert threshold.negative_entropy(signals([0.999, 0.0005, 0.0005], 0)) == pytest.approx(
        threshold.negative_entropy(signals([0.999, 0.0005, 0.0005], 1))
    )


@given(
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40).filter(
        lambda rows: 0 < sum(m for _, m in rows) < len(rows)
    )
)
def test_the_learned_threshold_beats_every_other_cut(rows):
    scores = np.array([float(score) for score, _ in rows])
    members = np.array([member for _, member in rows])

    def balanced(cut: float) -> float:
        accused = scores >= cut
        return (accused[members].mean() + (~accused[~members]).mean()) / 2

    learned = balanced(threshold.balanced_threshold(scores, members))
    cuts = [-np.inf, np.inf, *(scores + 0.5), *(scores - 0.5)]
    assert learned == pytest.approx(max(balanced(cut) for cut in cuts))
    assert learned >= 0.5
