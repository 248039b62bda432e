"""Weights averaged over epochs, and weight decay of wide first layers."""

import itertools
from dataclasses import replace

import pytest
import torch
from scipy import sparse
from torch import nn

from privet import query
from privet.errors import OptionError
from privet.fit import Setup, adam, epochs, fit, seeded, sgd
from privet.models import FullyConnected

SAMPLES, FEATURES, CLASSES = 60, 10, 3


def setup_of(*, sparse_input: bool = False, optimizer=adam(0.01)) -> Setup:  # noqa: B008
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) % CLASSES
    inputs = torch.rand(SAMPLES, FEATURES, generator=generator)
    inputs[inputs < 0.8] = 0
    inputs[torch.arange(SAMPLES), labels] = 1
    with seeded(1):
        model = FullyConnected(FEATURES, (8,), CLASSES, sparse_input=sparse_input).build()
    rows = sparse.csr_array(inputs.numpy()) if sparse_input else inputs
    return Setup(model, rows, labels, optimizer, batch_size=7)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in model.state_dict().values()]).clone()


def by_epoch(count, **options):
    setup = setup_of(**options)
    return torch.stack([weights(setup.model) for _ in itertools.islice(epochs(setup, 4), count)])


@pytest.mark.parametrize("sparse_input", [False, True])
@pytest.mark.parametrize(("averaged", "first"), [(2, 3), (3, 2), (5, 0), (9, 0)])
def test_the_mean_of_the_last_epochs_remains(averaged, first, sparse_input):
    setup = setup_of(sparse_input=sparse_input)
    fitted = fit(setup, 4, most=5, averaged=averaged)
    expected = by_epoch(5, sparse_input=sparse_input)[first:].mean(0)
    torch.testing.assert_close(weights(setup.model), expected)
    assert (fitted.epochs, fitted.kept) == (5, 4)
    assert getattr(setup.model[0], "keeper", None) is None


def test_the_mean_is_judged_and_the_best_mean_remains(monkeypatch):
    seen, script = [], [0.1, 0.5, 0.8, 0.4, 0.6]

    def read(model, *_):
        seen.append(weights(model))
        return script[len(seen) - 1]

    monkeypatch.setattr(query, "accuracy", read)
    setup = setup_of()
    dev = (setup.inputs, setup.labels)
    fitted = fit(setup, 4, most=9, dev=dev, patience=2, averaged=2)
    assert (fitted.epochs, fitted.kept) == (5, 2)
    # Training went on as without averages.
    each = by_epoch(5)
    means = torch.cat([each[:1], (each[1:] + each[:-1]) / 2])
    torch.testing.assert_close(torch.stack(seen), means)
    assert torch.equal(weights(setup.model), seen[2])


def test_the_last_mean_can_be_kept_whatever_its_accuracy():
    setup = setup_of()
    fit(setup, 4, most=4, dev=(setup.inputs, setup.labels), keep="last", averaged=3)
    torch.testing.assert_close(weights(setup.model), by_epoch(4)[1:].mean(0))


def test_counters_are_not_averaged():
    setup = setup_of()
    model = nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.BatchNorm1d(CLASSES))
    fit(replace(setup, model=model), 4, most=3, averaged=2)
    assert model[1].num_batches_tracked == 3 * 9


@pytest.mark.parametrize("averaged", [0, -1])
def test_an_average_of_nothing_is_refused_before_training(averaged):
    setup = setup_of()
    before = weights(setup.model)
    with pytest.raises(OptionError, match=str(averaged)):
        fit(setup, 4, most=3, averaged=averaged)
    assert torch.equal(weights(setup.model), before)


@pytest.mark.parametrize("optimizer", [adam, sgd])
def test_decay_moves_every_weight_of_a_sparse_first_layer_as_of_a_dense_one(optimizer):
    rule = optimizer(0.01, lazy=False)
    dense, wide = (setup_of(sparse_input=each, optimizer=rule) for each in (False, True))
    for setup in (dense, wide):
        fit(replace(setup, weight_decay=0.1), 4, most=4)
    torch.testing.assert_close(weights(wide.model), weights(dense.model), rtol=1e-3, atol=1e-4)
    still = setup_of(optimizer=rule)
    fit(still, 4, most=4)
    assert weights(dense.model).norm() < 0.99 * weights(still.model).norm()


@pytest.mark.parametrize("optimizer", [adam, sgd])
def test_lazy_optimizers_refuse_decay(optimizer):
    setup = setup_of(sparse_input=True, optimizer=optimizer(0.01))
    with pytest.raises(OptionError, match="decay"):
        fit(replace(setup, weight_decay=0.1), 4, most=1)
