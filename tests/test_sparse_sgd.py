"""Sparse descent moves what dense descent moves, in the loop and out of it."""

import copy
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse
from torch import nn
from torch.nn.functional import cross_entropy

from privet.errors import OptionError
from privet.fit import Setup, adam, fit, sgd
from privet.models import FullyConnected
from privet.sparse import SparseInputLinear, take
from privet.sparse_sgd import SparseSGD

FEATURES, HIDDEN, CLASSES, SAMPLES = 60, 24, 5, 320
NEVER = slice(50, 60)


@pytest.fixture
def task():
    rng = np.random.default_rng(7)
    mask = rng.random((SAMPLES, FEATURES)) < 0.1
    records = (mask * rng.uniform(0.2, 1, mask.shape)).astype("f4")
    records[:, NEVER] = 0
    return sparse.csr_array(records), torch.from_numpy(rng.integers(0, CLASSES, SAMPLES))


def net(first=SparseInputLinear, **options):
    torch.manual_seed(3)
    return nn.Sequential(first(FEATURES, HIDDEN, **options), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))


def train(model, optimizer, *, inputs, labels, passes=1, steps=40):
    """Step after every so many passes, whose gradients add up."""
    batches = np.array_split(np.arange(SAMPLES), steps * passes)
    for number, batch in enumerate(batches):
        if number % passes == 0:
            optimizer.zero_grad()
        cross_entropy(model(take(inputs, batch)), labels[batch]).backward()
        if number % passes == passes - 1:
            optimizer.step()


def assert_same_weights(ours, torchs, *, rtol=1e-5, atol=1e-6):
    for mine, theirs in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert_allclose(mine.detach(), theirs.detach(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("passes", [1, 2])
def test_training_equals_dense_sgd(bias, passes, task):
    records, labels = task
    ours, torchs = net(bias=bias), net(nn.Linear, bias=bias)
    whole = torch.from_numpy(records.toarray())
    train(ours, SparseSGD(ours, lr=0.5), inputs=records, labels=labels, passes=passes)
    dense = torch.optim.SGD(torchs.parameters(), lr=0.5)
    train(torchs, dense, inputs=whole, labels=labels, passes=passes)
    assert_same_weights(ours, torchs)
    assert not torch.allclose(ours[0].weight, net(bias=bias)[0].weight, atol=0.01)
    assert torch.equal(ours[0].weight[:, NEVER], net(bias=bias)[0].weight[:, NEVER])


def test_dense_batches_and_changing_rates_are_dense_sgd_too(task):
    records, labels = task
    ours, torchs = net(), net(nn.Linear)
    whole = torch.from_numpy(records.toarray())
    optimizers = SparseSGD(ours, lr=0.5), torch.optim.SGD(torchs.parameters(), lr=0.5)
    for rate, inputs in ((0.5, records), (0.1, whole), (1.0, records)):
        for model, optimizer, seen in zip((ours, torchs), optimizers, (inputs, whole), strict=True):
            optimizer.param_groups[0]["lr"] = rate
            train(model, optimizer, inputs=seen, labels=labels, steps=5)
    assert_same_weights(ours, torchs)


def test_the_loop_trains_a_sparse_layer_as_a_dense_one(task):
    records, labels = task
    trained = []
    for inputs, is_sparse in ((records, True), (torch.from_numpy(records.toarray()), False)):
        torch.manual_seed(3)
        model = FullyConnected(FEATURES, (HIDDEN,), CLASSES, sparse_input=is_sparse).build()
        setup = Setup(model, inputs, labels, optimizer=sgd(0.3), batch_size=20)
        fit(setup, 5, most=4)
        trained.append(model)
    assert_same_weights(*trained)
    assert trained[0][0].keeper is None


def test_another_optimizer_may_follow(task):
    records, labels = task
    model = net()
    setup = Setup(model, records, labels, optimizer=sgd(0.3), batch_size=20)
    fit(setup, 5, most=1)
    before = copy.deepcopy(model)
    fit(Setup(model, records, labels, optimizer=adam(1e-2), batch_size=20), 5, most=1)
    assert not torch.equal(before[0].weight, model[0].weight)


def test_zero_grad_forgets(task):
    records, labels = task
    model = net()
    optimizer = SparseSGD(model, lr=0.5)
    cross_entropy(model(take(records, np.arange(9))), labels[:9]).backward()
    optimizer.zero_grad()
    optimizer.step()
    assert_same_weights(model, net(), rtol=0, atol=0)


def test_it_applies_to_sparse_layers_in_float32():
    assert SparseSGD.applies_to(net())
    assert not SparseSGD.applies_to(net(nn.Linear))
    assert not SparseSGD.applies_to(net().double())
    assert type(sgd(0.1)(net())) is SparseSGD
    assert type(sgd(0.1)(net(nn.Linear))) is torch.optim.SGD


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
def test_learning_rates_out_of_range_are_named(lr):
    with pytest.raises(OptionError, match=str(lr)):
        SparseSGD(net(), lr=lr)


def test_weight_decay_is_refused_when_stepping(task):
    model = net()
    optimizer = SparseSGD(model, lr=0.1)
    optimizer.param_groups[0]["weight_decay"] = 0.1
    with pytest.raises(OptionError, match=r"weight_decay must be 0.*0\.1"):
        optimizer.step()


def test_a_finished_optimizer_is_spent(task):
    model = net()
    optimizer = SparseSGD(model, lr=0.1)
    optimizer.finish()
    with pytest.raises(OptionError, match="make a new one"):
        optimizer.step()
