from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from privet import memorization
from privet.errors import OptionError
from privet.fit import Setup, adam, seeded
from privet.memorization import fold_scores
from privet.metrics import auc
from privet.models import FullyConnected

NETWORK = FullyConnected(12, (32,), 3, sparse_input=False)


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


def test_mislabelled_samples_are_the_memorized_ones():
    setup, wrong = task()
    scores = fold_scores(setup, 0, build=NETWORK.build, epochs=40)
    assert auc(scores, wrong) > 0.9


def test_scores_span_zero_to_one():
    setup, _ = task(60, mislabelled=6)
    scores = fold_scores(setup, 1, build=NETWORK.build, epochs=5)
    assert scores.shape == (60,)
    assert scores.min() == 0
    assert scores.max() == 1


def test_scores_repeat_from_their_seed_and_leave_everything_else_alone():
    setup, _ = task(60, mislabelled=6)
    weights = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first = fold_scores(setup, 1, build=NETWORK.build, epochs=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(4)
    np.testing.assert_array_equal(fold_scores(setup, 1, build=NETWORK.build, epochs=3), first)
    assert not np.array_equal(fold_scores(setup, 2, build=NETWORK.build, epochs=3), first)
    assert all(torch.equal(weights[name], now) for name, now in setup.model.state_dict().items())


@pytest.mark.parametrize(("samples", "folds"), [(20, 5), (23, 5), (7, 2), (6, 6)])
def test_scores_follow_the_definition(monkeypatch, samples, folds):
    rng = np.random.default_rng(samples)
    labels = rng.integers(4, size=samples)
    tables = rng.normal(size=(folds, samples, 4)) * 3
    trained_on: list[np.ndarray] = []

    def note(part, seed, *, most):
        assert most == 9
        visited = torch.cat([each.indices for each in part.epoch_passes(0)])
        inside = part.inputs[visited, 0].long()
        assert torch.equal(part.labels[visited], torch.from_numpy(labels)[inside])
        trained_on.append(inside.numpy())

    monkeypatch.setattr(memorization, "fit", note)
    models = iter([Looked(table) for table in tables])
    scores = fold_scores(
        numbered(samples, labels), 0, build=lambda: next(models), epochs=9, folds=folds
    )

    sizes = [len(samples_of_fold) for samples_of_fold in trained_on]
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_array_equal(np.sort(np.concatenate(trained_on)), np.arange(samples))
    # float32: what models answer is read in single precision.
    powers = np.exp(tables.astype(np.float32).astype(np.float64))
    confidence = (powers / powers.sum(2, keepdims=True))[:, np.arange(samples), labels]
    raw = np.empty(samples)
    for fold, inside in enumerate(trained_on):
        others = np.delete(confidence, fold, axis=0)
        raw[inside] = confidence[fold, inside] - others[:, inside].mean(0)
    np.testing.assert_allclose(scores, (raw - raw.min()) / (raw.max() - raw.min()), atol=1e-12)


def test_models_that_agree_everywhere_find_nothing_memorized(monkeypatch):
    monkeypatch.setattr(memorization, "fit", lambda *_, **__: None)
    same = Looked(np.zeros((10, 2)))
    scores = fold_scores(
        numbered(10, np.zeros(10, np.int64)), 0, build=lambda: same, epochs=1, folds=2
    )
    np.testing.assert_array_equal(scores, 0)


@pytest.mark.parametrize("folds", [-1, 0, 1, 11])
def test_impossible_folds_are_named(folds):
    setup = numbered(10, np.zeros(10, np.int64))
    with pytest.raises(OptionError, match=rf"2\.\.10 for 10 samples; got {folds}"):
        fold_scores(setup, 0, build=NETWORK.build, epochs=1, folds=folds)


def test_sparse_inputs_score_like_dense_ones():
    dense, _ = task(60, mislabelled=6)
    records = sparse.csr_array(dense.inputs.relu().numpy())
    dense = replace(dense, inputs=dense.inputs.relu())
    network = replace(NETWORK, sparse_input=True)
    expected = fold_scores(dense, 0, build=NETWORK.build, epochs=3)
    scores = fold_scores(replace(dense, inputs=records), 0, build=network.build, epochs=3)
    np.testing.assert_allclose(scores, expected, atol=1e-2)
