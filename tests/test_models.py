import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from privet.errors import DataError, OptionError
from privet.models import FullyConnected, linear_layers, load_weights, macs, parameters
from privet.pruning.structural import Structural
from privet.sparse import SparseDropout, SparseInputLinear

WIDTHS = st.integers(1, 30)


def kinds(network: nn.Sequential) -> list[type[nn.Module]]:
    return [type(module) for module in network]


def pruned_and_dense() -> tuple[nn.Sequential, nn.Sequential]:
    """A structurally pruned network, and a dense one of the original shape."""
    torch.manual_seed(0)
    network, dense = (FullyConnected(6, (8, 7), 3).build() for _ in range(2))
    Structural().prune(network, {"0": 5, "2": 4}, torch.zeros(1, 6))
    return network, dense


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


def test_loading_shrinks_layers_to_the_pruned_shapes():
    pruned, dense = pruned_and_dense()
    load_weights(dense, pruned.state_dict())
    inputs = torch.rand(5, 6)
    assert torch.equal(dense(inputs), pruned(inputs))
    assert [(one.in_features, one.out_features) for one in linear_layers(dense)] == [
        (6, 5),
        (5, 4),
        (4, 3),
    ]
    assert all(isinstance(parameter, nn.Parameter) for parameter in dense.parameters())
    assert all(parameter.requires_grad for parameter in dense.parameters())


def test_loaded_weights_are_a_copy():
    pruned, dense = pruned_and_dense()
    state = {name: tensor.clone() for name, tensor in pruned.state_dict().items()}
    load_weights(dense, state)
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter += 1
    assert all(torch.equal(tensor, pruned.state_dict()[name]) for name, tensor in state.items())


def test_loading_keeps_parameters_whose_shape_stays():
    network, other = (FullyConnected(6, (8,), 3).build() for _ in range(2))
    before = list(network.parameters())
    load_weights(network, other.state_dict())
    assert all(now is then for now, then in zip(network.parameters(), before, strict=True))
    assert torch.equal(network[0].weight, other[0].weight)


def test_a_shrunk_sparse_layer_still_takes_both_kinds_of_batch():
    pruned, _ = pruned_and_dense()
    network = FullyConnected(6, (8, 7), 3, sparse_input=True).build()
    load_weights(network, pruned.state_dict())
    inputs = torch.rand(5, 6).round()
    torch.testing.assert_close(network(inputs), pruned(inputs))
    torch.testing.assert_close(network(inputs.to_sparse_csr()), pruned(inputs))


def test_running_statistics_are_loaded_too():
    first, second = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    first(torch.rand(20, 3))
    load_weights(second, first.state_dict())
    assert torch.equal(second[1].running_mean, first[1].running_mean)


def test_names_that_do_not_fit_are_listed_and_nothing_is_loaded():
    pruned, dense = pruned_and_dense()
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    state = dict(pruned.state_dict())
    state["9.weight"] = state.pop("4.weight")
    with pytest.raises(DataError, match=r"'4\.weight', '9\.weight'"):
        load_weights(dense, state)
    assert all(torch.equal(before[name], now) for name, now in dense.state_dict().items())
