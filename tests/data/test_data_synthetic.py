import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from privet.data.synthetic import synthetic_purchases, synthetic_ratings


@pytest.mark.parametrize("make", [synthetic_ratings, synthetic_purchases])
def test_generators_follow_their_seed(make) -> None:
    first, again, other = make(1), make(1), make(2)
    assert (first.inputs != again.inputs).sum() == 0
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.inputs != other.inputs).sum() > 0


def test_ratings_look_like_ratings() -> None:
    table = synthetic_ratings(1, users=300, features=200, classes=4)
    assert table.inputs.shape == (300, 200)
    assert table.test is not None
    assert table.test.inputs.shape == (75, 200)
    assert set(np.unique(table.inputs.data)) == set(np.array([0.2, 0.4, 0.6, 0.8, 1], np.float32))
    popularity = np.sort(np.diff(table.inputs.tocsc().indptr))[::-1]
    assert popularity[:20].sum() > 0.3 * popularity.sum()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_private_class_of_ratings_can_be_guessed(seed: int) -> None:
    table = synthetic_ratings(seed)
    assert table.test is not None
    guess = LogisticRegression(max_iter=200).fit(table.inputs, table.labels)
    assert 0.6 < guess.score(table.test.inputs, table.test.labels) < 0.8


@pytest.mark.parametrize("seed", [1, 2])
def test_a_network_overfits_purchases(seed: int) -> None:
    table = synthetic_purchases(seed)
    assert set(np.unique(table.inputs)) == {0, 1}
    members, others = slice(0, 2400), slice(3000, 6000)
    network = MLPClassifier((128,), max_iter=25, batch_size=128, random_state=0, tol=0)
    with pytest.warns(match="Maximum iterations"):
        network.fit(table.inputs[members], table.labels[members])
    assert network.score(table.inputs[members], table.labels[members]) > 0.97
    assert 0.55 < network.score(table.inputs[others], table.labels[others]) < 0.75
