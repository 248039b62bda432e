import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from privet.errors import OptionError
from privet.models import FullyConnected, linear_layers, macs, multiply_accumulates, parameters
from privet.sparse import SparseDropout, SparseInputLinear

WIDTHS = st.integers(1, 30)


def kinds(network: nn.Sequential) -> list[type[nn.Module]]:
    return [type(module) for module in network]


@settings(max_examples=30, deadline=None)
@given(WIDTHS, st.lists(WIDTHS, min_size=1, max_size=3), WIDTHS)
def test_layers_chain_from_inputs_to_outputs(inputs, hidden, outputs):
    network = FullyConnected(inputs, tuple(hidden), outputs).build()
    widths = [inputs, *hidden, outputs]
    layers = linear_layers(network)
    assert [(one.in_features, one.out_features) for one in layers] == [
        (widths[i], widths[i + 1]) for i in range(len(widths) - 1)
    ]
    assert network(torch.rand(3, inputs)).shape == (3, outputs)
    assert macs(widths) == sum(one.weight.numel() for one in layers)
    assert multiply_accumulates(network, torch.rand(2, inputs)) == macs(widths)
    assert parameters(network) == macs(widths) + sum(widths[1:])


def test_macs_of_the_published_networks():
    assert macs([10_000, 4000, 25]) == 40_100_000
    assert macs([30, 256, 128, 64, 1]) == 7680 + 32_768 + 8192 + 64


def test_plain_networks_alternate_linear_and_relu():
    network = FullyConnected(4, (5, 6), 2).build()
    assert kinds(network) == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_dropout_follows_each_hidden_layer_and_never_the_output():
    network = FullyConnected(4, (5, 6), 2, dropout=0.3).build()
    block = [nn.Linear, nn.ReLU, nn.Dropout]
    assert kinds(network) == [*block, *block, nn.Linear]
    assert [module.p for module in network if isinstance(module, nn.Dropout)] == [0.3, 0.3]


def test_input_dropout_comes_first():
    network = FullyConnected(4, (5,), 2, input_dropout=0.2).build()
    assert kinds(network) == [SparseDropout, nn.Linear, nn.ReLU, nn.Linear]
    assert network[0].p == 0.2


def test_only_the_first_layer_takes_sparse_batches():
    network = FullyConnected(4, (5, 6), 2, sparse_input=True).build()
    assert [type(layer) for layer in linear_layers(network)] == [
        SparseInputLinear,
        nn.Linear,
        nn.Linear,
    ]


def test_initial_weights_come_from_torchs_generator():
    def built(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return FullyConnected(4, (5,), 2).build()[0].weight.detach()

    assert torch.equal(built(3), built(3))
    assert not torch.equal(built(3), built(4))


@pytest.mark.parametrize(
    "shape", [(0, (3,), 2), (4, (), 2), (4, (3, 0), 2), (4, (3,), 0), (-1, (3,), 2)]
)
def test_impossible_widths_are_named(shape):
    with pytest.raises(OptionError, match="positive widths and a hidden layer") as caught:
        FullyConnected(*shape)
    assert f"{shape[0]}-{shape[1]}-{shape[2]}" in str(caught.value)


@pytest.mark.parametrize("option", ["dropout", "input_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0, float("nan")])
def test_impossible_dropout_is_named(option, rate):
    with pytest.raises(OptionError, match=rf"\[0, 1\); got {rate}"):
        FullyConnected(4, (3,), 2, **{option: rate})
