"""What a fresh copy must not carry over, and from which draws it is made."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from models.model_cases import REPARAMETRIZED, SMALL
from privet.errors import OptionError
from privet.models import reinitialized


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", REPARAMETRIZED)
def test_weights_behind_a_reparametrization_are_not_called_fresh(kind):
    network = nn.Sequential(nn.Linear(4, 4), REPARAMETRIZED[kind](nn.Linear(4, 4)))
    with torch.no_grad():
        network(torch.rand(2, 4))
    named = r"network: 1\.(weight_|parametrizations\.weight\.original).*undo weight norm"
    with pytest.raises(OptionError, match=named) as caught:
        reinitialized(network)
    assert "0.weight" not in str(caught.value)


class Half(nn.Module):
    """A module that resets one parameter, and some entries of another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Parameter(torch.zeros(3)) for _ in range(3))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.first)
        nn.init.normal_(self.second[:2])


def test_what_a_reset_forgets_is_named():
    with pytest.raises(OptionError, match="network: second, third would keep"):
        reinitialized(Half())


class Shrunk(nn.Linear):
    """A layer whose reset scales what is there."""

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.mul_(0.5)
            self.bias.zero_()


def test_scaling_what_was_learned_is_no_reset():
    with pytest.raises(OptionError, match=r"network: weight would keep"):
        reinitialized(Shrunk(2, 2))


def with_buffer(buffer, *, persistent):
    network = nn.Sequential(nn.Linear(4, 4))
    network.register_buffer("bank", buffer, persistent=persistent)
    return network


@pytest.mark.parametrize("buffer", [torch.rand(5, 4), torch.arange(5), torch.ones(3).bool()])
def test_a_buffer_that_may_hold_training_rows_stays_and_is_named(buffer, caplog):
    fresh = reinitialized(with_buffer(buffer.clone(), persistent=True))
    assert torch.equal(fresh.bank, buffer)
    (said,) = caplog.messages
    assert "keep its buffers bank;" in said


def test_a_constant_outside_the_state_dict_stays_without_a_word(caplog):
    table = torch.rand(5, 4)
    fresh = reinitialized(with_buffer(table.clone(), persistent=False))
    assert torch.equal(fresh.bank, table)
    assert not caplog.messages


class Positions(nn.Module):
    """A table of positions, and the mask of a sequence, that a reset computes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.empty(4))
        self.register_buffer("mask", torch.empty(4, dtype=torch.bool))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.table = torch.linspace(0, 1, 4)
        self.mask.fill_(True)


def test_buffers_that_a_reset_computes_stay():
    network = Positions()
    fresh = reinitialized(network)
    assert torch.equal(fresh.table, network.table)
    assert torch.equal(fresh.mask, network.mask)


def test_a_module_has_the_last_word_on_those_inside_it():
    torch.manual_seed(0)
    fresh = reinitialized(nn.MultiheadAttention(8, 2))
    assert not fresh.out_proj.bias.any()
    assert not fresh.in_proj_bias.any()
    assert fresh.out_proj.weight.all()


@pytest.mark.parametrize("name", SMALL)
def test_fresh_weights_are_drawn_layer_by_layer_in_order(name):
    network = SMALL[name].build()
    expected = deepcopy(network)
    torch.manual_seed(3)
    for module in expected.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    torch.manual_seed(3)
    fresh = reinitialized(network).state_dict()
    assert all(torch.equal(fresh[key], value) for key, value in expected.state_dict().items())


class Asking(nn.Linear):
    """A layer whose reset takes an argument once it is made."""

    ready = False

    def reset_parameters(self, gain=None) -> None:
        if self.ready and gain is None:
            raise TypeError("missing 'gain'")
        super().reset_parameters()


def test_a_reset_that_fails_is_named():
    network = nn.Sequential(Asking(2, 2))
    network[0].ready = True
    with pytest.raises(OptionError, match=r"Asking raised TypeError \(missing 'gain'\)"):
        reinitialized(network)
