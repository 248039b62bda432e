"""What holds for every registered defense."""

import numpy as np
import pytest
import torch

from privet.defenses import DEFENSES
from privet.errors import OptionError
from privet.fit import Setup, adam, fit
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
        scores=np.random.default_rng(0).random(120),
    )


def test_it_cites_its_paper(defense):
    assert defense.paper


def test_training_still_learns(defense, setup):
    fit(defense.start(setup), 0, most=30)
    assert accuracy(setup.model, setup.inputs, setup.labels) > 0.7


def test_training_repeats_exactly_from_its_seed(defense, setup):
    def trained() -> torch.Tensor:
        torch.manual_seed(2)
        model = FullyConnected(8, (16,), 4, dropout=0.2).build()
        from dataclasses import replace

        fit(defense.start(replace(setup, model=model)), 5, most=3)
        return torch.cat([p.flatten() for p in model.parameters()])

    torch.testing.assert_close(trained(), trained(), rtol=0, atol=0)


def test_only_samples_of_the_training_set_are_visited(defense, setup):
    started = defense.start(setup)
    for epoch in (0, 1, 7, 500):
        for each in started.epoch_passes(epoch):
            assert ((each.indices >= 0) & (each.indices < 120)).all()
            assert each.weight_decay >= 0


def test_the_setup_handed_in_stays_as_it_was(defense, setup):
    before = setup.epoch_passes(0)[0].indices.clone()
    defense.start(setup)
    assert setup.passes is None
    assert torch.equal(setup.epoch_passes(0)[0].indices, before)


def test_missing_scores_are_named(defense, setup):
    from dataclasses import replace

    if defense.needs_scores:
        with pytest.raises(OptionError, match="scores is missing"):
            defense.start(replace(setup, scores=None))
    else:
        assert defense.start(replace(setup, scores=None)) is not None
