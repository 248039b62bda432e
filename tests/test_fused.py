"""The fused pass against torch's own modules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privet.dense_kernels import activate, deactivate, multiply, nonzeros, transposed
from privet.fit import seeded
from privet.fused import fused
from privet.models import FullyConnected


def sparse_rows(rows: int, width: int, *, density: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, width, generator=generator)
    return values * (torch.rand(rows, width, generator=generator) < density)


def network(*widths: int, dropout: float = 0.0) -> nn.Sequential:
    with seeded(3):
        return FullyConnected(widths[0], widths[1:-1], widths[-1], dropout=dropout).build()


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 33),
    st.sampled_from([0.0, 0.1, 0.2, 0.6, 1.0]),
    st.integers(1, 3),
)
def test_outputs_and_gradients_are_those_of_the_modules(rows, width, hidden, density, layers):
    inputs = sparse_rows(rows, width, density=density, seed=rows + width)
    labels = torch.arange(rows) % 3
    model = network(width, *[hidden] * layers, 3)
    expected = model(inputs)
    cross_entropy(expected, labels).backward()
    wanted = gradients(model)
    with fused(model, inputs) as forward:
        assert forward is not model
        outputs = forward(inputs)
        cross_entropy(outputs, labels).backward()
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-5)
    for ours, torchs in zip(gradients(model), wanted, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-5)


def test_gradients_of_a_loss_that_spreads_one_number():
    inputs, model = sparse_rows(6, 20, density=0.1), network(20, 8, 3)
    model(inputs).sum().backward()
    wanted = gradients(model)
    with fused(model, inputs) as forward:
        forward(inputs).sum().backward()
    for ours, torchs in zip(gradients(model), wanted, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_dropout_has_the_right_mean_and_its_gradient_the_same_mask(density):
    inputs = sparse_rows(200, 30, density=density).abs()
    model = nn.Sequential(nn.Linear(30, 400), nn.ReLU(), nn.Dropout(0.3), nn.Linear(400, 1))
    with torch.no_grad():
        model[0].weight.fill_(0)
        model[0].bias.fill_(1)
        model[3].weight.fill_(1)
        model[3].bias.fill_(0)
    with seeded(5), fused(model, inputs) as forward:
        outputs = forward(inputs)
        outputs.sum().backward()
    kept = outputs.detach() * 0.7  # how many of 400 units each row kept
    assert kept.mean() == pytest.approx(280, abs=4 * np.sqrt(400 * 0.21 / 200))
    assert kept.std() == pytest.approx(np.sqrt(400 * 0.21), rel=0.2)
    # A unit's bias gets a gradient of 1 / 0.7 from each row that kept it.
    of_units = model[0].bias.grad * 0.7
    assert of_units.sum() == pytest.approx(float(kept.sum()), rel=1e-4)
    assert of_units.std() == pytest.approx(np.sqrt(200 * 0.21), rel=0.2)


def test_dropout_comes_from_the_seed_and_differs_between_batches():
    inputs, model = sparse_rows(8, 20, density=0.1), network(20, 32, 3, dropout=0.5)
    with fused(model, inputs) as forward:
        with seeded(1):
            first, second = forward(inputs), forward(inputs)
        with seeded(1):
            again = forward(inputs)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_dropout_of_neighbors_and_of_later_batches_is_unrelated():
    keys = np.random.default_rng(0).integers(0, 2**32, (200, 2)).astype(np.uint32)
    masks = np.ones((200, 1000), np.float32)
    for mask, pair in zip(masks, keys, strict=True):
        activate(mask.reshape(1, -1), pair, np.float32(0.5))
    signs = np.where(masks > 0, 1.0, -1.0)
    bound = 5 / np.sqrt(signs.size)
    for step in (1, 2, 16, 32):
        assert abs(np.mean(signs[:, step:] * signs[:, :-step])) < bound
    assert abs(np.mean(signs[1:] * signs[:-1])) < bound
    assert np.all(np.abs(signs.mean(axis=0)) < 5 / np.sqrt(200))


def test_activation_keeps_a_nan_for_the_loss_to_show():
    values = np.array([[np.nan, -1, 2]], np.float32)
    activate(values, np.zeros(2, np.uint32), np.float32(1))
    np.testing.assert_array_equal(values, np.array([[np.nan, 0, 2]], np.float32))
    slope = np.ones((1, 3), np.float32)
    deactivate(slope, values, np.float32(1))
    np.testing.assert_array_equal(slope, [[1, 0, 1]])


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_entries_hold_the_matrix_and_its_transpose(density):
    matrix = sparse_rows(7, 11, density=density).numpy()
    for entries, wanted in (
        (nonzeros(matrix), matrix),
        (transposed(nonzeros(matrix), 11), matrix.T),
    ):
        np.testing.assert_array_equal(entries.counts, np.count_nonzero(wanted, axis=1))
        found = multiply(entries, np.eye(wanted.shape[1], dtype=np.float32), np.float32([0]))
        np.testing.assert_array_equal(found, wanted)


def test_weights_are_contiguous_again_afterwards_even_after_an_error():
    inputs, model = sparse_rows(6, 20, density=0.1), network(20, 8, 3)
    before = model[0].weight.detach().clone()
    with pytest.raises(IndexError), fused(model, inputs) as forward:
        interrupted(forward(inputs), model[0].weight)
    assert model[0].weight.is_contiguous()
    assert torch.equal(model[0].weight, before)


def interrupted(outputs: Tensor, weight: Tensor) -> None:
    assert not weight.is_contiguous()
    _ = outputs[len(outputs)]


def hooked() -> nn.Module:
    model = network(20, 8, 3)
    model[1].register_forward_hook(lambda *_: None)
    return model


def frozen() -> nn.Module:
    model = network(20, 8, 3)
    model[0].weight.requires_grad_(False)
    return model


class Renamed(nn.Sequential):
    """Its forward might be anything."""


OTHERS = {
    "hooked": hooked,
    "frozen": frozen,
    "subclass": lambda: Renamed(*network(20, 8, 3)),
    "no hidden layer": lambda: nn.Linear(20, 3),
    "without bias": lambda: nn.Sequential(nn.Linear(20, 8, bias=False), nn.ReLU(), nn.Linear(8, 3)),
    "another activation": lambda: nn.Sequential(nn.Linear(20, 8), nn.Tanh(), nn.Linear(8, 3)),
    "rates that differ": lambda: nn.Sequential(
        *(nn.Linear(20, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 8)),
        *(nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3)),
    ),
    "float64": lambda: network(20, 8, 3).double(),
    "sparse input": lambda: FullyConnected(20, (8,), 3, sparse_input=True).build(),
    "input dropout": lambda: FullyConnected(20, (8,), 3, input_dropout=0.2).build(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_fused_is_left_to_the_model(name):
    model = OTHERS[name]()
    with fused(model, sparse_rows(6, 20, density=0.1)) as forward:
        assert forward is model


def test_a_module_used_twice_is_left_to_the_model():
    layer, relu = nn.Linear(6, 6), nn.ReLU()
    model = nn.Sequential(layer, relu, layer, relu, nn.Linear(6, 3))
    with fused(model, torch.rand(8, 6)) as forward:
        assert forward is model
