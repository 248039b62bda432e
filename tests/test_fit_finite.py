"""A run may not end with weights that are not finite."""

from dataclasses import replace

import pytest
import torch

from privet.errors import OptionError
from privet.fit import Setup, fit, sgd
from privet.models import FullyConnected


def make_setup(rate: float) -> Setup:
    torch.manual_seed(0)
    inputs, model = torch.randn(20, 4), FullyConnected(4, (5,), 3).build()
    return Setup(model, inputs, torch.arange(20) % 3, sgd(rate), batch_size=20)


def test_weights_that_the_last_step_made_infinite_are_refused():
    # One step only: its loss, of the first weights, is still finite.
    setup = make_setup(torch.inf)
    with pytest.raises(OptionError, match=r"left 0\.weight not finite; lower the learning rate"):
        fit(setup, 0, most=1)


def test_an_earlier_epoch_that_remains_is_not_blamed_for_a_later_one():
    setup = make_setup(1.0)
    setup = replace(setup, rate=lambda epoch: torch.inf if epoch >= 1 else 1.0)
    fitted = fit(setup, 0, most=2, dev=(setup.inputs, setup.labels))
    assert (fitted.epochs, fitted.kept) == (2, 0)
    assert all(parameter.isfinite().all() for parameter in setup.model.parameters())
