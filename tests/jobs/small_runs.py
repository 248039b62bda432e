"""Small networks on digits, pruned within a moment."""

import torch
from torch import nn

from privet.data.registry import load
from privet.jobs.settings import recommended


def quick(defense="none", options=None, **changes):
    """Settings of a run that takes no time: two rounds, two epochs each, no dense training."""
    usual = {"rounds": 2, "dense_epochs": 0, "epochs": 2, "patience": 2, "score_epochs": 2}
    return recommended(defense, options, **{**usual, **changes})


def network(inputs=64, outputs=10, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def part(start, stop):
    digits = load("digits")
    return digits.inputs[start:stop], digits.labels[start:stop]


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
