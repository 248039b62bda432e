import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from privet import query
from privet.errors import DataError
from privet.models import FullyConnected
from privet.query import accuracy, evaluating, logits, signals

INPUTS = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


class Spy(nn.Module):
    """Passes inputs through and notes the circumstances."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, bool, bool]] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls.append((len(inputs), self.training, torch.is_grad_enabled()))
        return inputs


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored(model, training):
    model.train(training)
    logits(model, INPUTS)
    assert all(module.training == training for module in model.modules())

    def interrupted():
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(module.training == training for module in model.modules())


def test_a_part_frozen_in_evaluation_mode_stays_frozen(model):
    model.train()
    model[1].eval()
    logits(model, INPUTS)
    assert [module.training for module in model] == [True, False, True, True, True]


def test_scoring_has_no_dropout_and_no_side_effects(model):
    model.train()
    statistics = {name: tensor.clone() for name, tensor in model.named_buffers()}
    state = torch.random.get_rng_state()
    first = logits(model, INPUTS)
    assert torch.equal(logits(model, INPUTS), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(statistics[name], now) for name, now in model.named_buffers())
    hidden = torch.relu(model[0](INPUTS) / (1 + model[1].eps) ** 0.5)
    torch.testing.assert_close(first, model[4](hidden).detach())


def test_scoring_needs_no_gradients(model):
    assert not logits(model, INPUTS).requires_grad
    assert torch.is_grad_enabled()


def test_blocks_give_what_one_pass_gives(model, monkeypatch):
    whole = logits(model, INPUTS)
    monkeypatch.setattr(query, "BLOCK", 3)
    spy = Spy()
    torch.testing.assert_close(logits(nn.Sequential(spy, model), INPUTS), whole)
    assert spy.calls == [(size, False, False) for size in (3, 3, 3, 1)]


def test_sparse_inputs_are_scored_in_blocks_too(monkeypatch):
    network = FullyConnected(4, (8,), 3, input_dropout=0.5, sparse_input=True).build()
    records = sparse.csr_array(INPUTS.relu().numpy())
    expected = logits(network, INPUTS.relu())
    monkeypatch.setattr(query, "BLOCK", 4)
    torch.testing.assert_close(logits(network, records), expected)


def test_logits_come_in_single_precision():
    assert logits(nn.Linear(4, 2).double(), INPUTS.double()).dtype == torch.float32


def test_accuracy_of_several_classes():
    scores = torch.tensor([[3.0, 1, 2], [0, 5, 1], [1, 0, 2], [9, 8, 7]])
    assert accuracy(nn.Identity(), scores, torch.tensor([0, 1, 2, 0])) == 1
    assert accuracy(nn.Identity(), scores, torch.tensor([0, 1, 0, 1])) == 0.5
    assert accuracy(nn.Identity(), scores, torch.tensor([1, 0, 0, 1])) == 0


def test_accuracy_of_a_binary_logit():
    scores = torch.tensor([[2.0], [-2.0], [0.5], [0.0]])
    assert accuracy(nn.Identity(), scores, torch.tensor([1, 0, 1, 0])) == 1
    assert accuracy(nn.Identity(), scores, torch.tensor([1.0, 1.0, 1.0, 1.0])) == 0.5
    assert accuracy(nn.Identity(), scores, torch.tensor([0, 0, 0, 0])) == 0.5


def test_signals_stack_the_models_in_order(model):
    labels = np.arange(10) % 3
    other = nn.Linear(4, 3)
    found = signals([model, other], INPUTS, labels)
    assert found.logits.shape == (2, 10, 3)
    np.testing.assert_array_equal(found.logits[0], logits(model, INPUTS).numpy())
    np.testing.assert_array_equal(found.logits[1], other(INPUTS).detach().numpy())
    np.testing.assert_array_equal(found.labels, labels)


def linear(weight):
    model = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(weight))
    return model


def test_sensitivity_is_the_mean_size_of_the_derivative():
    """Of p = sigmoid(w x) along Gaussian noise: p (1 - p) |w| sqrt(2 / pi) on average."""
    model = linear([[3.0], [0.0]])
    inputs = torch.tensor([[0.0], [1.0], [-2.0]])
    found = query.sensitivity(model, inputs, seed=0, draws=4000)
    p = torch.sigmoid(3 * inputs[:, 0]).numpy()
    expected = p * (1 - p) * 3 * np.sqrt(2 / np.pi)
    np.testing.assert_allclose(found, np.stack([expected, expected], axis=1), rtol=0.05)


def test_a_model_that_ignores_its_input_is_not_sensitive_and_always_robust():
    model = nn.Sequential(nn.Flatten(), linear([[0.0] * 4, [0.0] * 4]))
    assert (query.sensitivity(model, INPUTS, seed=0) == 0).all()
    right, wrong = (np.full(10, label) for label in (0, 1))
    assert (query.robustness(model, INPUTS, right, seed=0) == 1).all()
    assert (query.robustness(model, INPUTS, wrong, seed=0) == 0).all()


def test_robustness_grows_with_the_distance_to_the_boundary():
    model = linear([[1.0], [-1.0]])
    inputs = torch.tensor([[0.05], [1.0], [2.0], [8.0]])
    found = query.robustness(model, inputs, np.zeros(4, dtype=int), seed=0, draws=200)
    assert (np.diff(found) > 0.05).all()
    # Right without noise, and half the time under noise that is far larger than the distance.
    assert found[0] == pytest.approx(0.5, abs=0.05)


def test_every_model_meets_the_same_noise(model):
    twice = signals([model, model], INPUTS, np.zeros(10, dtype=int), noisy=True, seed=3)
    np.testing.assert_array_equal(twice.sensitivity[0], twice.sensitivity[1])
    np.testing.assert_array_equal(twice.robustness[0], twice.robustness[1])
    other = signals([model], INPUTS, np.zeros(10, dtype=int), noisy=True, seed=4)
    assert not np.array_equal(twice.sensitivity[0], other.sensitivity[0])


def test_models_of_any_make_can_be_queried():
    asked = []

    def predict(inputs):
        asked.append(type(inputs))
        return np.stack([inputs[:, 0], np.full(len(inputs), -np.inf)], axis=1)

    found = logits(query.as_module(predict), INPUTS)
    assert asked == [np.ndarray]
    torch.testing.assert_close(found[:, 0], INPUTS[:, 0])
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("shape", [(10,), (9, 2), (10, 2, 1)])
def test_answers_of_another_shape_are_refused(shape):
    with pytest.raises(DataError, match="row of logits"):
        logits(query.as_module(lambda inputs: np.zeros(shape)), INPUTS)
