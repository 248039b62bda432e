import copy

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from privet.errors import OptionError
from privet.models import (
    LSTM,
    VGG16,
    DenseNet121,
    FullyConnected,
    ResNet18,
    ViT,
    load_weights,
    parameters,
)
from privet.pruning.channels import find, mask
from privet.pruning.structural import Structural
from privet.pruning.trial import cuttable

IMAGES = torch.zeros(1, 2, 6, 6)
STREAM = {
    "outputs": ("stem.0", "stem.1", "body.3", "body.4"),
    "inputs": ("body.0", "head"),
}
INNER = {"outputs": ("body.0", "body.1"), "inputs": ("body.3",)}


class Residual(nn.Module):
    """A stream of six channels that two convolutions add to, and an inner width of five."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.body = nn.Sequential(
            nn.Conv2d(6, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.Sigmoid(),  # of zero, it is not zero
            nn.Conv2d(5, 6, 3, padding=1),
            nn.BatchNorm2d(6),
        )
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        stream = self.stem(images).relu()
        return self.head((stream + self.body(stream)).relu().mean((2, 3)))


def residual(seed: int = 0) -> Residual:
    torch.manual_seed(seed)
    model = Residual()
    model(torch.rand(32, 2, 6, 6))  # statistics of each channel's own
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5 if "weight" in name else 0.7)
    return model.eval()


def by_hand(model: nn.Module, group: dict[str, tuple[str, ...]], value) -> Tensor:
    """Return the importance of a group's channels: ``value`` summed over all its weights."""
    total = torch.zeros(())
    for axis, layers in enumerate(group.values()):
        for name in layers:
            layer = model.get_submodule(name)
            if value(layer) is not None:
                total = total + value(layer).movedim(axis, 0).flatten(1).sum(1)
    return total.detach()


def without(model: nn.Module, group: dict[str, tuple[str, ...]], gone: list[int]) -> nn.Module:
    """Return a copy in which nothing enters or leaves some channels."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for axis, layers in enumerate(group.values()):
            for name in layers:
                layer = copied.get_submodule(name)
                layer.weight.index_fill_(axis, torch.tensor(gone), 0)
                if axis == 0:
                    layer.bias[gone] = 0
    return copied


def column(layer: nn.Module, tensor: Tensor) -> Tensor:
    return tensor[:, None] if isinstance(layer, nn.BatchNorm2d) else tensor


VALUES = {
    "l1": lambda layer: column(layer, layer.weight.abs()),
    "l2": lambda layer: column(layer, layer.weight.square()),
    "lamp": lambda layer: column(layer, layer.weight.square()),
    "taylor": lambda layer: column(layer, (layer.weight * layer.weight.grad).abs()),
    "bn-scale": lambda layer: (
        column(layer, layer.weight.abs()) if isinstance(layer, nn.BatchNorm2d) else None
    ),
}


@pytest.mark.parametrize("importance", VALUES)
@pytest.mark.parametrize("seed", range(3))
def test_pruning_is_masking_the_least_important_channels(importance, seed):
    model, images = residual(seed), torch.rand(4, 2, 6, 6)
    model(images).square().sum().backward()
    pruner = Structural(importance)
    assert pruner.sizes(model, IMAGES) == {"body.0": 5, "body.3": 6}
    inner = by_hand(model, INNER, VALUES[importance]).argsort()[:2].tolist()
    masked = without(model, INNER, inner)
    # Gradients of what is left, and weights without what has gone.
    for name, parameter in masked.named_parameters():
        parameter.grad = model.get_parameter(name).grad
    stream = by_hand(masked, STREAM, VALUES[importance]).argsort()[:3].tolist()
    masked = without(masked, STREAM, stream)

    pruner.prune(model, {"body.0": 3, "body.3": 3}, IMAGES)
    torch.testing.assert_close(model(images), masked(images))
    assert not torch.allclose(model(images), residual(seed)(images), rtol=0.01)
    assert [layer.weight.shape[0] for layer in (model.stem[0], model.body[0])] == [3, 3]


@pytest.mark.parametrize(
    ("importance", "theirs"),
    [
        ("l1", tp.importance.MagnitudeImportance(p=1, normalizer=None)),
        ("l2", tp.importance.MagnitudeImportance(p=2)),
        ("lamp", tp.importance.LAMPImportance()),
        # Its Taylor importance forgets batch normalization; ours is held against the formula.
        ("bn-scale", tp.importance.BNScaleImportance()),
    ],
)
def test_one_group_is_ranked_as_the_library_ranks_it(importance, theirs):
    for seed in range(3):
        model = residual(seed)
        graph = tp.DependencyGraph().build_dependency(model, (IMAGES,), verbose=False)
        for group in graph.get_all_groups([model.head], [nn.Conv2d, nn.Linear]):
            name = next(n for n, m in model.named_modules() if m is group[0].dep.layer)
            units = len(group[0].idxs)
            order = theirs(group).argsort().tolist()
            for kept in range(1, units):
                pruned = copy.deepcopy(model)
                Structural(importance).prune(pruned, {name: kept}, IMAGES)
                left = pruned.get_submodule(name).bias
                dense = model.get_submodule(name).bias
                assert torch.equal(left, dense[sorted(order[units - kept :])])


def test_fpgm_removes_the_channel_nearest_to_the_others():
    model = nn.Sequential(nn.Linear(1, 4, bias=False), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[9.0], [-10.0], [1.0], [2.0]]))
        model[1].weight.zero_()
    # Sums of distances: 9 -> 34, -10 -> 42, 1 -> 20, 2 -> 20, less in ties by place.
    Structural("fpgm").prune(model, {"0": 3}, torch.zeros(1, 1))
    assert model[0].weight.flatten().tolist() == [9, -10, 2]
    Structural("l1").prune(model, {"0": 2}, torch.zeros(1, 1))
    assert model[0].weight.flatten().tolist() == [9, -10]


def test_a_random_ranking_repeats_from_its_seed():
    def pruned(pruner: Structural) -> list[float]:
        model = residual()
        pruner.prune(model, {"body.0": 3, "body.3": 3}, IMAGES)
        return model.stem[0].bias.tolist() + model.body[0].bias.tolist()

    one = pruned(Structural(seed=1))
    assert one == pruned(Structural(seed=1))
    assert one == pruned(Structural("random", seed=1))
    assert one != pruned(Structural(seed=2))
    assert pruned(Structural("random")) == pruned(Structural(seed=0)) != pruned(Structural())


def test_taylor_importance_needs_gradients():
    model = residual()
    assert Structural("taylor").needs_gradients
    assert not Structural("taylor", seed=1).needs_gradients
    assert Structural("taylor").sizes(model, IMAGES) == {"body.0": 5, "body.3": 6}
    with pytest.raises(OptionError, match=r"Taylor importance needs the gradients .* run backward"):
        Structural("taylor").prune(model, {"body.0": 3}, IMAGES)


def test_scales_rank_only_groups_that_have_them():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 2)
    )
    assert Structural().sizes(model, IMAGES) == {"0": 4, "3": 5}
    assert Structural("bn-scale").sizes(model, IMAGES) == {"0": 4}
    with pytest.raises(OptionError, match="no channels that can be cut"):
        Structural("bn-scale").sizes(FullyConnected(3, (4,), 2).build(), torch.zeros(1, 3))


class Heads(nn.Module):
    """Self-attention from one linear layer, whose heads have a fixed shape."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed, self.merge = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, rows: Tensor) -> Tensor:
        batch, steps, _ = rows.shape
        query, key, value = self.mixed(rows).view(batch, steps, 3, 2, -1).permute(2, 0, 3, 1, 4)
        attended = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        return self.merge(attended.transpose(1, 2).flatten(2))


class Positions(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 3, width))

    def forward(self, rows: Tensor) -> Tensor:
        return rows + self.table


class Last(nn.Module):
    def forward(self, answer: tuple[Tensor, Tensor]) -> Tensor:
        return answer[0]


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, rows: Tensor) -> Tensor:
        return self.function(rows)


def tied() -> list[nn.Module]:
    one, other = nn.Linear(8, 8), nn.Linear(8, 8)
    one.weight = other.weight
    return [one, nn.ReLU(), other]


# What takes the 8 units of the layer before.
WHOLE = {
    "a table of positions": lambda: [Positions(8)],
    "torch's attention": lambda: [nn.TransformerEncoderLayer(8, 2, 6, batch_first=True)],
    "attention of fixed heads": lambda: [Heads()],
    "recurrence": lambda: [nn.GRU(8, 8, batch_first=True), Last()],
    "the fused LSTM": lambda: [nn.LSTM(8, 8, batch_first=True), Last()],
    "softmax over units": lambda: [nn.Softmax(-1)],
    "a mean over units": lambda: [Function(lambda rows: rows - rows.mean(-1, keepdim=True))],
    "units in reverse": lambda: [Function(lambda rows: rows + rows.flip(-1))],
    "tied weights": tied,
    "reshaping to pairs": lambda: [
        Function(lambda rows: rows.view(*rows.shape[:2], 4, 2).amax(-1).repeat(1, 1, 2))
    ],
    "weight normalization": lambda: [nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))],
    "unknown scales": lambda: [nn.RMSNorm(8)],
}
CUT = {
    "torch's attention": {"1.linear1": 6},
    "attention of fixed heads": {"0": 8, "1.merge": 8},
}
"""What around them can be cut all the same."""


@pytest.mark.parametrize("name", WHOLE)
def test_what_cannot_be_cut_safely_stays_whole(name):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), *WHOLE[name](), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 2)
    )
    example = torch.zeros(1, 3, 4)
    sizes = Structural().sizes(model, example)
    assert sizes == {**CUT.get(name, {}), f"{len(model) - 3}": 7}
    Structural().prune(model, dict.fromkeys(sizes, 2), example)
    assert model(torch.rand(5, 3, 4)).shape == (5, 3, 2)


# Between a convolution with 8 channels and one that reads them.
CHANNELS = {
    "group convolution": (False, lambda: [nn.Conv2d(8, 8, 1, groups=4)]),
    "normalization of groups": (False, lambda: [nn.GroupNorm(4, 8)]),
    "shuffled pixels": (False, lambda: [nn.PixelShuffle(2), nn.PixelUnshuffle(2)]),
    "softmax over channels": (False, lambda: [nn.Softmax(1)]),
    "normalization of all": (True, lambda: [nn.GroupNorm(1, 8)]),
    "normalization of each": (True, lambda: [nn.InstanceNorm2d(8, affine=True)]),
    "scales of batches": (True, lambda: [nn.BatchNorm2d(8), nn.PReLU(8)]),
    "one slope": (True, lambda: [nn.PReLU()]),
    "depthwise convolution": (True, lambda: [nn.Conv2d(8, 8, 3, groups=8)]),
    "transposed depthwise": (True, lambda: [nn.ConvTranspose2d(8, 8, 3, groups=8)]),
    "the same twice": (
        True,
        lambda: [
            Function(lambda images: torch.cat([images, images], 1)),
            nn.Conv2d(16, 8, 1),
        ],
    ),
    "transposed convolution": (True, lambda: [nn.ConvTranspose2d(8, 8, 3)]),
    "scales of zero": (True, lambda: [zeroed(nn.BatchNorm2d(8))]),
}


def zeroed(layer: nn.Module) -> nn.Module:
    nn.init.zeros_(layer.weight)
    return layer


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_are_cut_where_layers_take_it(name):
    torch.manual_seed(0)
    cuttable, between = CHANNELS[name]
    model = nn.Sequential(
        nn.Conv2d(2, 8, 1),
        *between(),
        nn.Conv2d(8, 5, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 2),
    )
    sizes = Structural().sizes(model, IMAGES)
    last = f"{len(model) - 5}"
    assert sizes[last] == 5
    assert (len(sizes) > 1) is cuttable
    Structural().prune(model, dict.fromkeys(sizes, 1), IMAGES)
    answer = model(torch.rand(3, 2, 6, 6))
    answer.sum().backward()
    assert answer.shape == (3, 2)
    assert model[-1].in_features == 4  # a channel is four of the flattened inputs
    assert model[0].out_channels == (1 if cuttable else 8)


def test_layers_normalized_together_are_cut_and_normalize_the_rest():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 100), nn.LayerNorm(100), nn.ReLU(), nn.Linear(100, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(100.0))
        model[0].weight[:90] *= 1e-3
    dense = copy.deepcopy(model)
    Structural("l2").prune(model, Structural("l2").allot(model, {"0": 100}, 0.9), torch.ones(1, 4))
    assert model[1].normalized_shape == (10,)
    assert model[1].weight.tolist() == list(range(90, 100))
    inputs = torch.rand(5, 4)
    hidden = (dense[0](inputs)[:, 90:] - dense[0](inputs)[:, 90:].mean(1, keepdim=True)).detach()
    hidden /= (hidden.square().mean(1, keepdim=True) + 1e-5).sqrt()
    expected = dense[3].weight[:, 90:] @ (hidden * torch.arange(90.0, 100)).relu().T
    torch.testing.assert_close(model(inputs), expected.T + dense[3].bias)


def test_a_layer_under_two_names_is_cut_under_both():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.step, self.head = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.again = self.step

        def forward(self, rows: Tensor) -> Tensor:
            return self.head(self.again(self.step(self.enter(rows)).tanh()).tanh())

    model = Shared()
    (name,) = sizes = Structural().sizes(model, torch.zeros(1, 3))
    assert sizes[name] == 6
    Structural().prune(model, {name: 4}, torch.zeros(1, 3))
    assert model.step is model.again
    assert model.step.weight.shape == (4, 4)
    assert model(torch.rand(2, 3)).shape == (2, 2)


def test_token_numbers_are_an_example_too():
    model = nn.Sequential(
        nn.Embedding(9, 4), nn.Linear(4, 6), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)
    )
    example = torch.zeros(1, 3, dtype=torch.long)
    # Flattening mixes steps and units in an order that DepGraph does not follow.
    with pytest.raises(OptionError, match="no channels"):
        Structural().sizes(model, example)
    model[3], model[4] = Function(lambda rows: rows.mean(1)), nn.Linear(6, 2)
    assert Structural().sizes(model, example) == {"1": 6}
    Structural().prune(model, {"1": 2}, example)
    assert model(torch.tensor([[1, 5, 8]])).shape == (1, 2)


PHOTOS = torch.zeros(1, 3, 8, 8)
ARCHITECTURES = [
    (ResNet18(5, width=4), PHOTOS),
    (VGG16(5, width=4), PHOTOS),
    (DenseNet121(5, width=4), PHOTOS),
    (ViT(5, width=8, depth=2, heads=2), PHOTOS),
    (LSTM(3, 5, hidden=8), torch.zeros(1, 9)),
    (FullyConnected(9, (8, 6), 5, sparse_input=True), torch.zeros(1, 9)),
]


@pytest.mark.parametrize(("architecture", "example"), ARCHITECTURES, ids=lambda x: type(x).__name__)
def test_half_of_every_architecture_can_be_cut(architecture, example):
    torch.manual_seed(0)
    model = architecture.build()
    pruner = Structural()
    sizes = pruner.sizes(model, example)
    before = parameters(model)
    keep = pruner.allot(model, sizes, 0.5)
    pruner.prune(model, keep, example)
    assert {name: group.channels for name, group in find(model, example).items()} == keep
    assert parameters(model) < 0.55 * before
    answer = model(torch.rand(4, *example.shape[1:]))
    answer.square().sum().backward()
    assert answer.shape == (4, 5)
    assert all(each.grad.shape == each.shape for each in model.parameters())
    again = architecture.build()
    load_weights(again, model.state_dict())
    inputs = torch.rand(4, *example.shape[1:])
    torch.testing.assert_close(again.eval()(inputs), model.eval()(inputs))


@pytest.mark.parametrize(
    ("architecture", "example"),
    [each for each in ARCHITECTURES if not isinstance(each[0], ViT)],
    ids=lambda x: type(x).__name__,
)
def test_cutting_zeros_out_changes_nothing(architecture, example):
    torch.manual_seed(0)
    model = architecture.build().eval()
    groups = cuttable(model, example)
    for group in groups.values():
        mask(model, (group, torch.arange(group.channels) % 3 == 1))
    inputs = torch.rand(4, *example.shape[1:])
    before = model(inputs)
    kept = {name: group.channels - (group.channels + 1) // 3 for name, group in groups.items()}
    Structural().prune(model, kept, example)
    torch.testing.assert_close(model(inputs), before)
