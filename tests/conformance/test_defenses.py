"""What holds for every registered defense."""

import json
import pickle
from copy import deepcopy
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from privet import query
from privet.defenses import DEFENSES, NEEDS, Guarantees, Serves, choose
from privet.errors import OptionError
from privet.fit import Setup, adam, fit
from privet.jobs.settings import PruneSettings
from privet.models import FullyConnected
from privet.query import accuracy


@pytest.fixture(params=sorted(DEFENSES))
def defense(request):
    return DEFENSES[request.param]


@pytest.fixture
def setup():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 4
    inputs = torch.randn(120, 8, generator=generator)
    inputs[torch.arange(120), labels] += 3
    torch.manual_seed(1)
    return Setup(
        model=FullyConnected(8, (16,), 4).build(),
        inputs=inputs,
        labels=labels,
        optimizer=adam(0.01),
        batch_size=16,
        dev=(inputs[:40] + 0.1, labels[:40]),
        dense=FullyConnected(8, (16,), 4).build(),
        scores=np.random.default_rng(0).random(120),
        soft_labels=torch.eye(4)[labels] * 0.6 + 0.1,
    )


def test_it_cites_its_paper(defense):
    assert defense.paper


def test_what_it_declares_is_known(defense):
    assert defense.needs <= set(NEEDS)
    assert set(defense.settings) <= set(PruneSettings.__dataclass_fields__)
    assert isinstance(defense.whole, bool)


def test_its_options_are_plain_values_that_choose_takes_back(defense):
    name = next(name for name, each in DEFENSES.items() if each is defense)
    options = asdict(defense)
    assert json.loads(json.dumps(options, allow_nan=False)) == options
    assert choose(name, options) == defense


def test_training_still_learns(defense, setup):
    fit(defense.start(setup), 0, most=30)
    assert accuracy(setup.model, setup.inputs, setup.labels) > 0.7


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_training_repeats_exactly_from_its_seed(defense, setup):
    def trained(seed=5):
        torch.manual_seed(2)
        model = FullyConnected(8, (16,), 4, dropout=0.2).build()
        torch.manual_seed(seed)  # what happens to be there must not matter
        started = defense.start(replace(setup, model=model, first_epoch=4))
        fit(started, seed, most=3)
        return flat(model)

    torch.testing.assert_close(trained(), trained(), rtol=0, atol=0)
    assert not torch.equal(trained(), trained(seed=6))


def test_the_trained_network_is_an_ordinary_one(defense, setup):
    names, attributes = list(setup.model.state_dict()), set(dir(setup.model))
    fit(defense.start(setup), 0, most=2)
    assert list(setup.model.state_dict()) == names
    assert set(dir(setup.model)) == attributes
    assert torch.isfinite(flat(setup.model)).all()
    assert not any(vars(parameter) for parameter in setup.model.parameters())
    answers = query.logits(setup.model, setup.inputs)
    copies = deepcopy(setup.model), pickle.loads(pickle.dumps(setup.model))  # noqa: S301
    for copy in copies:
        assert torch.equal(query.logits(copy, setup.inputs), answers)
    for module in setup.model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks


def test_what_is_held_at_zero_stays_there(defense, setup):
    weight = setup.model[0].weight
    kept = torch.arange(weight.numel()).view_as(weight) % 3 == 0

    @torch.no_grad()
    def hold():
        weight.mul_(kept)

    hold()
    before = weight.detach().clone()
    fit(defense.start(replace(setup, after_step=hold)), 0, most=2)
    assert not weight[~kept].any()
    assert (weight[kept] != before[kept]).any()


def test_networks_with_batch_normalization_train_or_are_refused_by_name(defense, setup):
    torch.manual_seed(0)
    layers = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)
    # One sample more than whole batches, which batch statistics cannot take alone.
    rows = slice(0, 113)
    setup = replace(
        setup,
        model=nn.Sequential(*layers),
        inputs=setup.inputs[rows],
        labels=setup.labels[rows],
        scores=setup.scores[rows],
        soft_labels=setup.soft_labels[rows],
        dense=deepcopy(nn.Sequential(*layers)),
    )
    if defense is DEFENSES["dp"]:
        with pytest.raises(OptionError, match=r"layer 1.*GroupNorm"):
            defense.start(setup)
    else:
        fit(defense.start(setup), 0, most=3)
        assert torch.isfinite(query.logits(setup.model, setup.inputs)).all()


def test_batches_of_one_sample_train(defense, setup):
    fit(defense.start(replace(setup, batch_size=1)), 0, most=1)
    assert torch.isfinite(flat(setup.model)).all()


def test_only_samples_of_the_training_set_are_visited(defense, setup):
    started = defense.start(setup)
    for epoch in (0, 1, 7, 500):
        for each in started.epoch_passes(epoch):
            assert ((each.indices >= 0) & (each.indices < 120)).all()
            assert each.weight_decay >= 0


def test_the_setup_handed_in_stays_as_it_was(defense, setup):
    before = setup.epoch_passes(0)[0].indices.clone()
    weights, state = flat(setup.model).clone(), torch.get_rng_state()
    defense.start(setup)
    assert setup.passes is None
    assert torch.equal(setup.epoch_passes(0)[0].indices, before)
    assert torch.equal(flat(setup.model), weights)
    assert setup.model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_missing_scores_are_named(defense, setup):
    if "scores" in defense.needs:
        with pytest.raises(OptionError, match="scores is missing"):
            defense.start(replace(setup, scores=None))
    else:
        assert defense.start(replace(setup, scores=None)) is not None


def test_a_guarantee_is_ready_for_json(defense):
    if isinstance(defense, Guarantees):
        told = defense.guarantee(samples=120, batch_size=16, epochs=3)
        assert json.loads(json.dumps(told, allow_nan=False)) == told
        assert told["covers"]


def test_a_served_network_predicts_the_same_classes(defense, setup):
    if isinstance(defense, Serves):
        plain = query.logits(setup.model, setup.inputs)
        served = defense.serve(setup.model)
        assert torch.equal(query.logits(served, setup.inputs).argmax(1), plain.argmax(1))
        assert torch.equal(query.logits(setup.model, setup.inputs), plain)
