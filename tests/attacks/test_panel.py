import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.attacks.panel import LEAST_SPREAD, Panel


def draw(seed: int, models: int, samples: int) -> Panel:
    rng = np.random.default_rng(seed)
    return Panel(rng.normal(size=(models, samples)), rng.random((models, samples)) < 0.4)


def results(panel: Panel) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        "counts": panel.counts,
        "means": panel.means,
        "log_means": panel.log_means,
        "fixed_variances": panel.fixed_variances(),
        "variances": panel.variances(),
    }


@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 5))
def test_each_in_turn_equals_a_panel_without_it(seed, models, samples):
    everyone = draw(seed, models, samples)
    in_turn = results(Panel(everyone.values, everyone.inside, in_turn=True))
    for model in range(models):
        rest = Panel(np.delete(everyone.values, model, 0), np.delete(everyone.inside, model, 0))
        for name, pair in results(rest).items():
            for expected, found in zip(pair, in_turn[name], strict=True):
                np.testing.assert_allclose(found[model], expected[0], rtol=1e-9, atol=1e-12)


@given(st.integers(0, 10_000))
def test_moments_equal_plain_loops(seed):
    panel = draw(seed, models=9, samples=4)
    for side, wanted in enumerate((True, False)):
        squares, freedom = 0.0, 0
        for sample in range(4):
            chosen = panel.values[panel.inside[:, sample] == wanted, sample]
            assert panel.counts[side][0, sample] == len(chosen)
            if len(chosen) > 0:
                assert panel.means[side][0, sample] == pytest.approx(chosen.mean())
                log_mean = np.log(np.exp(chosen).mean())
                assert panel.log_means[side][0, sample] == pytest.approx(log_mean)
                squares += ((chosen - chosen.mean()) ** 2).sum()
                freedom += len(chosen) - 1
        fixed = squares / freedom
        assert panel.fixed_variances()[side][0, 0] == pytest.approx(fixed)
        for sample in range(4):
            chosen = panel.values[panel.inside[:, sample] == wanted, sample]
            expected = max(chosen.var(ddof=1), LEAST_SPREAD * fixed) if len(chosen) > 1 else fixed
            assert panel.variances()[side][0, sample] == pytest.approx(expected)


def test_a_missing_mean_is_the_other_one_moved_by_the_average_distance():
    values = np.array([[5.0, 9.0, 2.0, 7.0], [1.0, 7.0, 4.0, 8.0]])
    inside = np.array([[True, True, False, True], [False, False, False, True]])
    # The first two samples have both sides, 4 and 2 apart: 3 on average.
    mean_in, mean_out = Panel(values, inside).means
    np.testing.assert_allclose(mean_in, [[5, 9, 3 + 3, 7.5]])
    np.testing.assert_allclose(mean_out, [[1, 7, 3, 7.5 - 3]])


def test_where_no_sample_has_both_sides_their_averages_tell_the_distance():
    mean_in, mean_out = Panel(np.array([[5.0, 7.0, 1.0]]), np.array([[True, True, False]])).means
    np.testing.assert_allclose(mean_in, [[5, 7, 6]])
    np.testing.assert_allclose(mean_out, [[0, 2, 1]])


def test_without_models_on_a_side_the_other_is_left_as_it_is():
    panel = Panel(np.array([[1.0, 2.0], [3.0, 5.0]]), np.zeros((2, 2), dtype=bool))
    np.testing.assert_allclose(panel.means[1], [[2, 3.5]])
    # Squares of 2 and 4.5 over one degree of freedom each; IN has none and takes OUT's.
    assert [v.item() for v in panel.fixed_variances()] == [3.25, 3.25]


def test_where_no_spread_can_be_told_it_is_one():
    panel = Panel(np.array([[1.0, 2.0]]), np.array([[True, False]]))
    assert [v.item() for v in panel.fixed_variances()] == [1.0, 1.0]


def test_models_that_happen_to_agree_prove_no_certainty():
    values = np.array([[1.0, 0.0], [1.0, 4.0]])
    _, var_out = Panel(values, np.zeros((2, 2), dtype=bool)).variances()
    # The fixed variance is (0 + 8) / 2.
    np.testing.assert_allclose(var_out, [[LEAST_SPREAD * 4, 8]])
    same = Panel(np.ones((3, 2)), np.zeros((3, 2), dtype=bool))
    assert all((variance > 0).all() for variance in same.variances())


def test_one_huge_value_does_not_drown_the_others():
    values = np.array([[1e15], [0.125], [0.5], [1.0]])
    panel = Panel(values, np.zeros((4, 1), dtype=bool), in_turn=True)
    assert panel.means[1][0, 0] == pytest.approx(np.mean([0.125, 0.5, 1.0]), rel=1e-12)
    expected = np.var([0.125, 0.5, 1.0], ddof=1)
    assert panel.variances()[1][0, 0] == pytest.approx(expected, rel=1e-9)
    logs = Panel(np.array([[0.0], [-800.0], [-801.0]]), np.zeros((3, 1), bool), in_turn=True)
    assert logs.log_means[1][0, 0] == pytest.approx(-800 + np.log((1 + np.exp(-1)) / 2))
