from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from privet import memorization
from privet.errors import OptionError
from privet.fit import Setup, adam, seeded
from privet.memorization import memorization_scores, rescaled, scores, subsets
from privet.metrics import auc
from privet.models import FullyConnected

NETWORK = FullyConnected(12, (32,), 3, sparse_input=False)
ESTIMATES = ["folds", "subsampled"]


def task(samples: int = 240, *, mislabelled: int = 24) -> tuple[Setup, np.ndarray]:
    """Well separated classes; the first ``mislabelled`` samples carry a wrong label."""
    rng = np.random.default_rng(0)
    true = rng.integers(3, size=samples)
    inputs = rng.normal(size=(samples, 12)).astype(np.float32)
    inputs[np.arange(samples), true] += 4
    wrong = np.arange(samples) < mislabelled
    labels = torch.from_numpy((true + wrong) % 3)
    with seeded(0):
        model = NETWORK.build()
    return Setup(model, torch.from_numpy(inputs), labels, adam(0.01), batch_size=16), wrong


class Looked(nn.Module):
    """Answers sample number i with row i of a table; a stand-in for a trained network."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.table = torch.from_numpy(table)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.table[inputs[:, 0].long()]


def numbered(samples: int, labels: np.ndarray) -> Setup:
    inputs = torch.arange(samples, dtype=torch.float32)[:, None]
    return Setup(Looked(np.zeros((1, 2))), inputs, torch.from_numpy(labels), adam(0.1), 4)


class Memory(dict):
    """Remembers by name what was computed, and what was computed how often."""

    def __init__(self, *known) -> None:
        super().__init__(*known)
        self.computed: list[str] = []

    def __call__(self, name, compute):
        if name not in self:
            self[name] = compute()
            self.computed.append(name)
        return self[name]


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_mislabelled_samples_are_the_memorized_ones(estimate):
    setup, wrong = task()
    found = memorization_scores(
        setup, 0, build=NETWORK.build, epochs=40, estimate=estimate, models=6
    )
    assert auc(found, wrong) > 0.9


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_scores_repeat_from_their_seed_and_leave_everything_else_alone(estimate):
    setup, _ = task(60, mislabelled=6)
    given = {"build": NETWORK.build, "epochs": 3, "estimate": estimate, "models": 4}
    weights = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first = memorization_scores(setup, 1, **given)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(4)
    np.testing.assert_array_equal(memorization_scores(setup, 1, **given), first)
    assert not np.array_equal(memorization_scores(setup, 2, **given), first)
    assert all(torch.equal(weights[name], now) for name, now in setup.model.state_dict().items())
    assert (first.shape, first.min(), first.max()) == ((60,), 0, 1)


@given(st.integers(2, 60), st.integers(2, 8), st.integers(0, 2**31))
def test_folds_are_disjoint_balanced_and_hold_every_sample(samples, models, seed):
    if models > samples:
        return
    inside = subsets(samples, seed, estimate="folds", models=models)
    assert inside.shape == (models, samples)
    np.testing.assert_array_equal(inside.sum(0), 1)
    sizes = inside.sum(1)
    assert sizes.max() - sizes.min() <= 1


@given(st.integers(8, 60), st.integers(1, 4), st.integers(0, 2**31))
def test_halves_are_balanced_and_come_in_pairs(samples, pairs, seed):
    inside = subsets(samples, seed, estimate="subsampled", models=2 * pairs)
    np.testing.assert_array_equal(inside[::2], ~inside[1::2])
    assert set(inside.sum(1)) <= {samples // 2, (samples + 1) // 2}
    # Every sample has as many models on one side as on the other.
    np.testing.assert_array_equal(inside.sum(0), pairs)


def test_pairs_of_halves_differ_from_one_another_and_with_the_seed():
    inside = subsets(100, 1, estimate="subsampled", models=4)
    overlap = (inside[0] & inside[2]).sum()
    assert 15 <= overlap <= 35  # 25 if independent
    assert not np.array_equal(inside, subsets(100, 2, estimate="subsampled", models=4))


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize(("samples", "models"), [(20, 4), (23, 6), (7, 2), (6, 6)])
def test_scores_follow_the_definition(monkeypatch, estimate, samples, models):
    rng = np.random.default_rng(samples)
    labels = rng.integers(4, size=samples)
    tables = rng.normal(size=(models, samples, 4)) * 3
    trained_on: list[set[int]] = []

    def note(part, seed, *, most):
        assert most == 9
        visited = torch.cat([each.indices for each in part.epoch_passes(0)])
        assert len(visited.unique()) == len(visited)
        trained_on.append(set(part.inputs[visited, 0].long().tolist()))

    monkeypatch.setattr(memorization, "fit", note)
    made = iter([Looked(table) for table in tables])
    found = memorization_scores(
        numbered(samples, labels),
        0,
        build=lambda: next(made),
        epochs=9,
        estimate=estimate,
        models=models,
    )
    # float32: what models answer is read in single precision.
    powers = np.exp(tables.astype(np.float32).astype(np.float64))
    raw = []
    for i, label in enumerate(labels):
        p = [powers[m, i, label] / powers[m, i].sum() for m in range(models)]
        own = [p[m] for m in range(models) if i in trained_on[m]]
        others = [p[m] for m in range(models) if i not in trained_on[m]]
        raw.append(sum(own) / len(own) - sum(others) / len(others))
    expected = (np.array(raw) - min(raw)) / (max(raw) - min(raw))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_hand_computed_estimate():
    inside = np.array([[True, False], [False, True], [True, False], [False, True]])
    confidence = np.array([[0.9, 0.5], [0.2, 0.6], [0.7, 0.5], [0.4, 0.8]])
    # Raw: (0.9 + 0.7) / 2 - (0.2 + 0.4) / 2 = 0.5, and 0.7 - 0.5 = 0.2.
    np.testing.assert_allclose(scores(confidence, inside), [1, 0])
    np.testing.assert_allclose(rescaled(np.array([0.5, 0.2, 0.35])), [1, 0, 0.5])


def test_models_that_agree_everywhere_find_nothing_memorized(monkeypatch):
    monkeypatch.setattr(memorization, "fit", lambda *_, **__: None)
    same = Looked(np.zeros((10, 2)))
    setup = numbered(10, np.zeros(10, np.int64))
    found = memorization_scores(setup, 0, build=lambda: same, epochs=1, models=2)
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_a_resumed_estimate_is_identical_and_trains_no_model_twice(monkeypatch, estimate):
    setup, _ = task(60, mislabelled=6)
    given = {"build": NETWORK.build, "epochs": 3, "estimate": estimate, "models": 4}
    unbroken = memorization_scores(setup, 1, **given)
    memory, trained = Memory(), []
    fit = memorization.fit

    def interrupted(part, seed, *, most):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(seed)
        return fit(part, seed, most=most)

    with monkeypatch.context() as patch:
        patch.setattr(memorization, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            memorization_scores(setup, 1, **given, once=memory)
    assert memory.computed == ["score-model-0", "score-model-1"]
    resumed = Memory(memory)
    np.testing.assert_array_equal(memorization_scores(setup, 1, **given, once=resumed), unbroken)
    assert resumed.computed == ["score-model-2", "score-model-3"]


@pytest.mark.parametrize("models", [-1, 0, 1, 11])
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_impossible_numbers_of_models_are_named(models, estimate):
    setup = numbered(10, np.zeros(10, np.int64))
    with pytest.raises(OptionError, match=rf"2\.\.10 for 10 samples; got {models}"):
        memorization_scores(
            setup, 0, build=NETWORK.build, epochs=1, estimate=estimate, models=models
        )


def test_halves_take_an_even_number_of_models():
    with pytest.raises(OptionError, match="even number of models; got 5"):
        subsets(10, 0, estimate="subsampled", models=5)


def test_sparse_inputs_score_like_dense_ones():
    dense, _ = task(60, mislabelled=6)
    records = sparse.csr_array(dense.inputs.relu().numpy())
    dense = replace(dense, inputs=dense.inputs.relu())
    network = replace(NETWORK, sparse_input=True)
    expected = memorization_scores(dense, 0, build=NETWORK.build, epochs=3)
    found = memorization_scores(replace(dense, inputs=records), 0, build=network.build, epochs=3)
    np.testing.assert_allclose(found, expected, atol=1e-2)
