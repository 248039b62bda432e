import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array
from torch import nn

from models.model_cases import SMALL, halved, inputs_for
from privet.errors import DataError, OptionError
from privet.models import (
    FullyConnected,
    ResNet18,
    describe,
    from_description,
    linear_layers,
    load_weights,
    parameters,
    reinitialized,
)
from privet.pruning.structural import Structural
from privet.sparse import take


def pruned_and_dense() -> tuple[nn.Sequential, nn.Sequential]:
    """A structurally pruned network, and a dense one of the original shape."""
    torch.manual_seed(0)
    network, dense = (FullyConnected(6, (8, 7), 3).build() for _ in range(2))
    Structural().prune(network, {"0": 5, "2": 4}, torch.zeros(1, 6))
    return network, dense


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
    batch = take(csr_array(inputs.numpy()), torch.arange(5))
    torch.testing.assert_close(network(inputs), pruned(inputs))
    torch.testing.assert_close(network(batch), pruned(inputs))


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
    with pytest.raises(DataError, match=r"2 names, such as \['4\.weight', '9\.weight'\]"):
        load_weights(dense, state)
    assert all(torch.equal(before[name], now) for name, now in dense.state_dict().items())


@pytest.mark.parametrize("name", SMALL)
def test_a_pruned_network_reloads_from_a_file_and_its_description(name, tmp_path):
    torch.manual_seed(0)
    network, inputs = SMALL[name].build(), inputs_for(name)
    dense = parameters(network)
    for _ in range(2):
        network(inputs)  # running statistics that are no longer the initial ones
    halved(network, inputs)
    file = tmp_path / "pruned.safetensors"
    save_file(network.state_dict(), file)
    description = json.loads(json.dumps(describe(SMALL[name])))
    rebuilt = from_description(description).build()
    load_weights(rebuilt, load_file(file))
    assert parameters(rebuilt) == parameters(network) < 0.6 * dense
    assert torch.equal(rebuilt.eval()(inputs), network.eval()(inputs))
    # Representations hold the sizes that layers claim, groups included.
    assert str(rebuilt) == str(network)
    rebuilt.train()(inputs).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in rebuilt.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_fresh_copies_keep_nothing_that_was_learned(name):
    torch.manual_seed(0)
    network, inputs = SMALL[name].build(), inputs_for(name)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7.0)
    network(inputs)
    torch.manual_seed(3)
    fresh = reinitialized(network)
    assert not any((parameter == 7).any() for parameter in fresh.parameters())
    means = [value for name, value in fresh.state_dict().items() if "running_mean" in name]
    assert all((mean == 0).all() for mean in means)
    assert all((parameter == 7).all() for parameter in network.parameters())
    torch.manual_seed(3)
    again = reinitialized(network)
    assert torch.equal(fresh.eval()(inputs), again.eval()(inputs))


def test_torchs_own_attention_and_lstm_have_fresh_copies():
    network = nn.ModuleList([nn.MultiheadAttention(4, 2), nn.LSTM(3, 4)])
    learned = {name: value.clone() for name, value in network.named_parameters()}
    fresh = reinitialized(network)
    drawn = [name for name, value in fresh.named_parameters() if value.any()]
    assert len(drawn) > 4
    assert not any(torch.equal(learned[n], fresh.get_parameter(n)) for n in drawn)


def test_parameters_that_cannot_be_redrawn_are_named():
    network = nn.Sequential(nn.Linear(2, 2))
    network.token = nn.Parameter(torch.zeros(2))
    with pytest.raises(OptionError, match="token would keep"):
        reinitialized(network)


class Mixed(nn.Module):
    """Layers of every kind that structural pruning shrinks, ``units`` wide."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.rand(1, units))
        self.table = nn.Embedding(3, units)
        self.attention = nn.MultiheadAttention(units, 2, batch_first=True)
        self.layer_norm = nn.LayerNorm(units)
        self.group_norm = nn.GroupNorm(2, units)
        self.slope = nn.PReLU(units)
        self.up = nn.ConvTranspose1d(units, 2 * units, 2, groups=2)
        self.down = nn.Conv1d(2 * units, units, 2, groups=2)
        self.statistics = nn.BatchNorm1d(units, affine=False)
        self.memory = nn.LSTM(units, 4, batch_first=True)

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        rows = self.layer_norm(self.table(indices) + self.token)
        rows = rows + self.attention(rows, rows, rows)[0]
        columns = self.slope(self.group_norm(rows.transpose(1, 2)))
        columns = self.statistics(self.down(self.up(columns)))
        return self.memory(columns.transpose(1, 2))[0]


def test_layers_of_every_kind_shrink_and_tell_their_sizes():
    torch.manual_seed(0)
    pruned, network = Mixed(4), Mixed(8)
    indices = torch.tensor([[0, 1, 2], [2, 1, 0]])
    pruned(indices)
    load_weights(network, pruned.state_dict())
    assert torch.equal(network.eval()(indices), pruned.eval()(indices))
    assert str(network) == str(pruned)
    assert (network.attention.embed_dim, network.attention.head_dim) == (4, 2)


def test_a_depthwise_convolution_loses_groups():
    pruned = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3))
    network = nn.Sequential(nn.Conv2d(5, 5, 3, groups=5))
    load_weights(network, pruned.state_dict())
    inputs = torch.rand(2, 3, 4, 4)
    assert torch.equal(network(inputs), pruned(inputs))
    assert (network[0].groups, network[0].in_channels, network[0].out_channels) == (3, 3, 3)


def test_frozen_parameters_and_the_kind_of_number_stay_when_shrinking():
    network = nn.Sequential(nn.Linear(4, 3))
    network[0].weight.requires_grad_(False)
    load_weights(network, nn.Sequential(nn.Linear(4, 2)).double().state_dict())
    assert not network[0].weight.requires_grad
    assert network[0].bias.requires_grad
    assert network[0].weight.dtype == network[0].bias.dtype == torch.float32


def test_nan_is_loaded():
    network = FullyConnected(4, (3,), 2).build()
    state = {
        name: torch.full_like(value, torch.nan) for name, value in network.state_dict().items()
    }
    load_weights(network, state)
    assert all(parameter.isnan().all() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "hostile", "message"),
    [
        ("0.weight", torch.zeros(9, 3, 3, 3), "only shrinks"),
        ("0.weight", torch.zeros(8, 3, 3, 4), "only shrinks"),
        ("0.weight", torch.zeros(8, 3, 9), "only shrinks"),
        ("0.weight", torch.zeros(0, 3, 3, 3), "only shrinks"),
        ("0.weight", torch.zeros(8, 3, 2, 2), r"layer 0 contradict .* \(8, 3, 2, 2\)"),
        ("1.running_var", torch.zeros(7), r"layer 1 contradict .* running_var \(7,\)"),
        ("1.num_batches_tracked", torch.zeros(1, dtype=torch.int64), "only shrinks"),
        ("13.weight", torch.zeros(4, 64), r"layer 13 contradict .* bias \(5,\)"),
        ("13.weight", torch.zeros(5, 64, dtype=torch.int64), r"int64, not torch\.float32"),
        ("13.bias", torch.tensor(1.0), "only shrinks"),
    ],
)
def test_shapes_that_pruning_cannot_leave_are_refused_and_nothing_is_loaded(name, hostile, message):
    network = ResNet18(5, 8).build()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    # Another layer that could be loaded must not be.
    state = {key: value + 1 for key, value in before.items()}
    with pytest.raises(DataError, match=message) as caught:
        load_weights(network, {**state, name: hostile})
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
