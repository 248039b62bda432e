import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.model_cases import REPARAMETRIZED
from privet.errors import OptionError
from privet.models import LSTM, VGG16, DenseNet121, FullyConnected, ResNet18, ViT
from privet.pruning.base import output_layer, prunable
from privet.pruning.magnitude import Magnitude

EXAMPLE = torch.zeros(1, 6)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return FullyConnected(6, (8, 5), 3).build()


def brute_force(model: nn.Module, names: list[str], total: int) -> dict[str, set[int]]:
    """Return the places of the largest weights of all layers, the largest of each among them."""
    values = {name: model.get_parameter(name).detach().flatten().abs().tolist() for name in names}
    kept = {name: {each.index(max(each))} for name, each in values.items()}
    rest = sorted(
        (-value, names.index(name), place)
        for name, each in values.items()
        for place, value in enumerate(each)
        if place not in kept[name]
    )
    for _, layer, place in rest[: total - len(names)]:
        kept[names[layer]].add(place)
    return kept


@given(st.integers(0, 10), st.floats(0, 0.99), st.floats(0.01, 100), st.booleans())
def test_global_pruning_keeps_what_a_sort_of_all_weights_keeps(seed, sparsity, scale, ties):
    model = network(seed)
    with torch.no_grad():
        model[0].weight.mul_(scale)
        if ties:
            model[2].weight.mul_(4).round_()
    pruner = Magnitude("global")
    sizes = pruner.sizes(model, EXAMPLE)
    assert sizes == {"0.weight": 48, "2.weight": 40}
    expected = brute_force(model, list(sizes), max(2, round(88 * (1 - sparsity))))
    dense = {name: model.get_parameter(name).detach().clone() for name in sizes}
    keep = pruner.allot(model, sizes, sparsity)
    pruner.prune(model, keep, EXAMPLE)
    assert keep == {name: len(places) for name, places in expected.items()}
    for name, places in expected.items():
        mask = torch.zeros(sizes[name], dtype=torch.bool)
        mask[list(places)] = True
        now = model.get_parameter(name)
        assert torch.equal(now, dense[name] * mask.view_as(now))


def test_global_pruning_leaves_each_layer_a_weight():
    model = network()
    with torch.no_grad():
        model[0].weight.mul_(1e-9)
    keep = Magnitude("global").allot(model, {"0.weight": 48, "2.weight": 40}, 0.9)
    assert keep == {"0.weight": 1, "2.weight": 8}
    keep = Magnitude("global").allot(model, {"0.weight": 48, "2.weight": 40}, 0.999)
    assert keep == {"0.weight": 1, "2.weight": 1}


def test_global_rounds_never_revive_a_weight():
    model = network()
    pruner = Magnitude("global")
    sizes = pruner.sizes(model, EXAMPLE)
    gone = {name: torch.zeros_like(model.get_parameter(name)).bool() for name in sizes}
    for sparsity in (0.3, 0.6, 0.6, 0.8):
        keep = pruner.allot(model, sizes, sparsity)
        assert sum(keep.values()) == round(88 * (1 - sparsity))
        hold = pruner.prune(model, keep, EXAMPLE)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        hold()
        for name in sizes:
            zero = model.get_parameter(name) == 0
            assert zero[gone[name]].all()
            gone[name] = zero
    assert sum(int(each.sum()) for each in gone.values()) == 88 - round(88 * 0.2)


def test_masks_write_in_place_since_optimizers_hold_the_parameters():
    model = network()
    before = list(model.parameters())
    Magnitude().prune(model, {"0.weight": 5, "2.weight": 5}, EXAMPLE)
    assert all(one is other for one, other in zip(model.parameters(), before, strict=True))


class Odd(nn.Module):
    """Modules in any order, shared and unused ones among them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(3, 3)
        self.words = nn.Embedding(9, 4)
        self.shared = nn.Linear(4, 4)
        self.again = self.shared
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.shared.weight
        self.norm = nn.LayerNorm(4)
        self.memory = nn.GRU(4, 4, bidirectional=True)
        self.cell = nn.RNNCell(8, 4)
        self.attention = nn.MultiheadAttention(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        rows = self.norm(self.tied(self.again(self.shared(self.words(rows)))))
        rows = self.attention(rows, rows, rows)[0]
        return self.head(self.cell(self.memory(rows)[0].mean(1)))


def test_weights_of_every_kind_are_prunable_once():
    model = Odd()
    tokens = torch.zeros(1, 3, dtype=torch.long)
    assert output_layer(model, tokens) is model.head
    assert list(prunable(model, tokens)) == [
        "unused.weight",
        "shared.weight",
        "memory.weight_ih_l0",
        "memory.weight_hh_l0",
        "memory.weight_ih_l0_reverse",
        "memory.weight_hh_l0_reverse",
        "cell.weight_ih",
        "cell.weight_hh",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    ]


def test_a_weight_tied_to_the_output_layer_stays_whole():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].weight = model[2].weight
    assert list(prunable(model, torch.zeros(1, 4))) == ["1.weight"]


IMAGES = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("architecture", "example"),
    [
        (ResNet18(5, width=4), IMAGES),
        (VGG16(5, width=4), IMAGES),
        (DenseNet121(5, width=4), IMAGES),
        (ViT(5, width=8, depth=2, heads=2), IMAGES),
        (LSTM(3, 5, hidden=8), torch.zeros(1, 9)),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_half_of_every_architecture_can_be_pruned(architecture, example, scope):
    torch.manual_seed(0)
    model = architecture.build()
    pruner = Magnitude(scope)
    sizes = pruner.sizes(model, example)
    hold = pruner.prune(model, pruner.allot(model, sizes, 0.5), example)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(torch.rand(4, *example.shape[1:])).square().mean().backward()
    optimizer.step()
    hold()
    total = sum(sizes.values())
    zeros = sum(int((model.get_parameter(name) == 0).sum()) for name in sizes)
    assert zeros == pytest.approx(total / 2, abs=len(sizes))
    last = list(model.parameters())[-2]
    assert last.shape[0] == 5
    assert last.count_nonzero() == last.numel()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", REPARAMETRIZED)
def test_layers_whose_weight_is_computed_are_refused_by_name(kind):
    wrap = REPARAMETRIZED[kind]
    model = nn.Sequential(nn.Linear(6, 4), wrap(nn.Linear(4, 4)), nn.Linear(4, 3))
    with pytest.raises(OptionError, match=r"other parameters: 1; undo that first.*remove_"):
        Magnitude().sizes(model, EXAMPLE)
    # The output layer stays whole in any case.
    model = nn.Sequential(nn.Linear(6, 4), wrap(nn.Linear(4, 3)))
    assert list(Magnitude().sizes(model, EXAMPLE)) == ["0.weight"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_recurrent_layers_whose_weight_is_computed_are_refused_too():
    model = nn.Sequential(nn.RNNCell(6, 4), nn.Linear(4, 3))
    nn.utils.weight_norm(model[0], "weight_hh")
    with pytest.raises(OptionError, match="other parameters: 0; undo"):
        prunable(model, EXAMPLE)


def test_a_parametrized_bias_leaves_the_weight_prunable():
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
    parametrize.register_parametrization(model[0], "bias", nn.Identity())
    assert list(prunable(model, EXAMPLE)) == ["0.weight"]
