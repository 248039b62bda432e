import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from privet.defenses.adversarial import ADV, inference_loss
from privet.errors import OptionError
from privet.fit import Setup, Step, seeded, sgd


class Scaled(nn.Module):
    """A stand-in whose logits are its inputs times a weight: confident where inputs are large."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs):
        return inputs * self.weight


@pytest.fixture
def setup():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4
    members = one_hot(labels, 4) * 6.0
    nonmembers = torch.randn(20, 4, generator=generator)
    return Setup(
        model=Scaled(),
        inputs=members,
        labels=labels,
        optimizer=sgd(0.1),
        batch_size=40,
        dev=(nonmembers, labels[:20]),
    )


def step_of(setup, epoch=0):
    rows = torch.arange(len(setup.labels))
    return Step(setup.model, epoch, rows, setup.inputs, setup.labels, setup.model(setup.inputs))


def gain(defense, setup, *, steps=1):
    """The last of some losses of one round, less its cross-entropy."""
    started = defense.start(setup)
    with seeded(3):
        for _ in range(steps):
            step = step_of(setup)
            loss = started.loss(step)
    return (loss - cross_entropy(step.logits, step.labels)).item()


def test_the_inference_loss_is_what_a_plain_loop_gives(setup):
    step, attacker = step_of(setup), nn.Linear(8, 1)
    with seeded(5):
        loss = inference_loss(attacker, step, setup.dev).item()
    with seeded(5):
        drawn = torch.randint(20, (40,)).tolist()

    def odds(logits, label):
        posterior = np.exp(logits) / np.exp(logits).sum()
        return attacker(torch.tensor([*posterior, *np.eye(4)[label]]).float()).item()

    inside = [odds(row, y) for row, y in zip(setup.inputs.numpy(), setup.labels, strict=True)]
    outside = [odds(setup.dev[0][i].numpy(), setup.dev[1][i]) for i in drawn]
    log_likelihood = np.mean([-math.log1p(math.exp(-a)) for a in inside]) + np.mean(
        [-math.log1p(math.exp(a)) for a in outside]
    )
    assert loss == pytest.approx(-log_likelihood, rel=1e-4)


def test_the_classifier_descends_the_weighted_gain(setup):
    one, three = gain(ADV(weight=1), setup), gain(ADV(weight=3), setup)
    assert one < 0
    assert three == pytest.approx(3 * one, rel=1e-4)
    assert gain(ADV(weight=0), setup) == 0


def test_the_inference_network_learns_to_tell_members(setup):
    untrained, trained = gain(ADV(weight=1), setup), gain(ADV(weight=1), setup, steps=200)
    assert untrained == pytest.approx(math.log(0.5), abs=0.2)
    assert trained > math.log(0.8)


def test_the_gradient_makes_members_less_confident(setup):
    # The inputs are right already, so cross-entropy alone would scale the logits up.
    started = ADV(weight=50).start(setup)
    with seeded(0):
        for _ in range(200):
            loss = started.loss(step_of(setup))
    loss.backward()
    assert float(setup.model.weight.grad) > 0


def test_a_round_starts_from_a_network_of_its_own(setup):
    state = torch.get_rng_state()
    first, again = gain(ADV(), setup), gain(ADV(), setup)
    later = gain(ADV(), replace(setup, first_epoch=7))
    assert first == again != later
    assert torch.equal(torch.get_rng_state(), state)


def test_nonmembers_leave_batch_statistics_alone(setup):
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4))
    setup = replace(setup, model=model)
    started = ADV().start(setup)
    step = step_of(setup)
    seen = model[0].running_mean.clone()
    started.loss(step)
    assert torch.equal(model[0].running_mean, seen)
    assert model.training
    assert model[0].training


def test_no_gradient_reaches_the_classifier_through_the_inference_step(setup):
    step = step_of(setup)
    attacker = nn.Linear(8, 1)
    inference_loss(attacker, step, setup.dev).backward()
    assert setup.model.weight.grad is None
    assert attacker.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dev", [None, (torch.empty(0, 4), torch.empty(0, dtype=torch.long))])
def test_missing_nonmembers_are_named(setup, dev):
    with pytest.raises(OptionError, match=r"setup\.dev is missing"):
        ADV().start(replace(setup, dev=dev))


@pytest.mark.parametrize("options", [{"weight": -1.0}, {"inference_rate": 0.0}])
def test_impossible_options_are_named(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        ADV(**options)
