"""What holds for every registered pruner, on networks of every kind."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from privet.errors import OptionError
from privet.models import FullyConnected, load_weights, nonzero, parameters
from privet.pruning import PRUNERS, choose


class Residual(nn.Module):
    """Convolutions with batch normalization, two of which add up."""

    def __init__(self) -> None:
        super().__init__()
        # Registered first, run last: order of registration says nothing.
        self.head = nn.Linear(8, 3)
        self.stem = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.body = nn.Sequential(
            nn.Conv2d(8, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.BatchNorm2d(8),
        )

    def forward(self, images: Tensor) -> Tensor:
        stream = self.stem(images).relu()
        return self.head((stream + self.body(stream)).relu().mean((2, 3)))


class Recurrent(nn.Module):
    """torch's fused LSTM, with a hidden layer on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 7, batch_first=True)
        self.hidden = nn.Linear(7, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.hidden(self.lstm(rows)[0][:, -1]).relu())


class Attentive(nn.Module):
    """torch's encoder layer, whose attention heads structural pruning leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.encoder(rows).mean(1))


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    structural: tuple[str, ...]
    """Layers that structural pruning may cut."""

    @property
    def example(self) -> Tensor:
        return torch.zeros(1, *self.shape)

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build()

    def inputs(self, count: int = 4) -> Tensor:
        return torch.rand(count, *self.shape, generator=torch.Generator().manual_seed(1))


CASES = {
    "connected": Case(FullyConnected(12, (20, 10), 3, dropout=0.1).build, (12,), ("0", "3")),
    "residual": Case(Residual, (2, 6, 6), ("body.0", "body.3")),
    "recurrent": Case(Recurrent, (5, 4), ("hidden",)),
    "attentive": Case(Attentive, (5, 8), ("encoder.linear1",)),
}


@pytest.fixture(params=sorted(PRUNERS))
def pruner(request):
    return PRUNERS[request.param]


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def remaining(pruner, model, example):
    if pruner is PRUNERS["structural"]:
        return pruner.sizes(model, example)
    sizes = pruner.sizes(model, example)
    return {name: int(model.get_parameter(name).count_nonzero()) for name in sizes}


def prune(pruner, model, *, case, sparsity, sizes=None):
    keep = pruner.allot(model, sizes or pruner.sizes(model, case.example), sparsity)
    return keep, pruner.prune(model, keep, case.example)


def test_exactly_as_much_remains_as_asked(pruner, case):
    model = case.model()
    sizes = pruner.sizes(model, case.example)
    keep, _ = prune(pruner, model, case=case, sparsity=0.6)
    assert keep == {name: round(0.4 * size) for name, size in sizes.items()}
    assert remaining(pruner, model, case.example) == keep
    assert model(case.inputs()).shape == (4, 3)


def test_everything_but_the_output_layer_may_be_pruned():
    for case in CASES.values():
        model = case.model()
        weights = {
            name
            for name, parameter in model.named_parameters()
            if parameter.ndim > 1 and "norm" not in name
        }
        last = f"{len(model) - 1}" if isinstance(model, nn.Sequential) else "head"
        assert set(PRUNERS["magnitude"].sizes(model, case.example)) == weights - {f"{last}.weight"}
        assert tuple(PRUNERS["structural"].sizes(model, case.example)) == case.structural


def test_sparsity_zero_changes_nothing(pruner, case):
    model = case.model().eval()
    before = model(case.inputs())
    parameters = list(model.parameters())
    prune(pruner, model, case=case, sparsity=0.0)
    assert torch.equal(model(case.inputs()), before)
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_pruning_leaves_no_other_trace(pruner, case, training):
    model = case.model()
    model.train(training)
    next(iter(model.parameters())).requires_grad_(False)
    other = list(model.modules())[-1].train(not training)
    modes = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sizes = pruner.sizes(model, case.example)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    with torch.no_grad():  # as a caller may well be
        prune(pruner, model, case=case, sparsity=0.5, sizes=sizes)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert other.training is not training
    fixed = [not parameter.requires_grad for parameter in model.parameters()]
    assert fixed == [True] + [False] * (len(fixed) - 1)
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_stay_with_their_weights(pruner, case):
    model = case.model()
    model(case.inputs()).square().sum().backward()
    pairs = {
        pair
        for parameter in model.parameters()
        for pair in zip(
            parameter.flatten().tolist(), parameter.grad.flatten().tolist(), strict=True
        )
    }
    prune(pruner, model, case=case, sparsity=0.5)
    for parameter in model.parameters():
        assert parameter.grad is not None
        alive = parameter != 0
        left = zip(parameter[alive].tolist(), parameter.grad[alive].tolist(), strict=True)
        assert all(pair in pairs for pair in left)


def test_what_is_removed_stays_removed_through_training(pruner, case):
    model = case.model()
    _, hold = prune(pruner, model, case=case, sparsity=0.5)
    pruned = remaining(pruner, model, case.example)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        model(case.inputs(8)).square().sum().backward()
        optimizer.step()
        hold()
    after = remaining(pruner, model, case.example)
    assert after.keys() == pruned.keys()
    assert all(after[name] <= pruned[name] for name in pruned)


def test_rounds_only_ever_remove(pruner, case):
    model = case.model()
    sizes = pruner.sizes(model, case.example)
    kept = [set(alive(model))]
    for sparsity in (0.2, 0.5, 0.8):
        keep, _ = prune(pruner, model, case=case, sparsity=sparsity, sizes=sizes)
        assert remaining(pruner, model, case.example) == keep
        kept.append(set(alive(model)))
    assert all(later < earlier for earlier, later in itertools.pairwise(kept))


def alive(model):
    """Values of the weights that are not zero: weights do not change without training."""
    weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim >= 2])
    return weights[weights != 0].tolist()


def test_the_least_important_goes_first(pruner):
    model = CASES["connected"].model()
    with torch.no_grad():
        model[0].weight[:7] *= 1e-3
        model[3].weight[:, :7] *= 1e-3
    sparse = {"0.weight": 130, "3.weight": 60}
    keep = sparse if pruner is PRUNERS["magnitude"] else {"0": 13, "3": 5}
    pruner.prune(model, keep, CASES["connected"].example)
    left = model[0].weight.detach()
    assert left[left != 0].abs().min() > 2e-4


def test_pruned_weights_load_into_a_dense_network(pruner, case):
    model = case.model()
    prune(pruner, model, case=case, sparsity=0.6)
    dense = case.build()
    load_weights(dense, model.state_dict())
    inputs = case.inputs()
    torch.testing.assert_close(dense.eval()(inputs), model.eval()(inputs))
    assert parameters(dense) == parameters(model)
    assert nonzero(dense) == nonzero(model)


def test_pruning_goes_on_from_a_loaded_network(pruner, case):
    """A resumed run has the dense model's sizes and the weights of its last round, no more."""
    model, resumed = case.model(), case.model()
    sizes = pruner.sizes(model, case.example)
    prune(pruner, model, case=case, sparsity=0.4, sizes=sizes)
    load_weights(resumed, model.state_dict())
    for each in (model, resumed):
        prune(pruner, each, case=case, sparsity=0.7, sizes=sizes)
    last = resumed.state_dict()
    assert all(torch.equal(last[name], tensor) for name, tensor in model.state_dict().items())


def test_a_network_with_nothing_to_prune_is_refused(pruner):
    with pytest.raises(OptionError, match=r"hidden layer|channels"):
        pruner.sizes(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), torch.zeros(1, 2, 3))
    with pytest.raises(OptionError, match=r"hidden layer|channels"):
        pruner.sizes(nn.Sequential(nn.Flatten()), torch.zeros(1, 2, 3))


@pytest.mark.parametrize("kept", [0, -1, 10_000])
def test_impossible_amounts_are_refused_before_anything_is_pruned(pruner, kept):
    case = CASES["connected"]
    model = case.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, last = pruner.sizes(model, case.example)
    with pytest.raises(OptionError, match=f"cannot keep {kept} of .* {last}"):
        pruner.prune(model, {first: 1, last: kept}, case.example)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_parts_that_are_not_named_stay_whole(pruner):
    case = CASES["connected"]
    model = case.model()
    sizes = pruner.sizes(model, case.example)
    name = list(sizes)[-1]
    pruner.prune(model, {name: 3}, case.example)
    assert remaining(pruner, model, case.example) == {**sizes, name: 3}


def test_pruners_are_chosen_by_name():
    for name, pruner in PRUNERS.items():
        assert choose(name, {}) == pruner
    assert choose("magnitude", {"scope": "global"}).scope == "global"
    assert choose("structural", {"importance": "random", "seed": 3}).seed == 3
    assert choose("structural", {"importance": "taylor"}).needs_gradients
    assert not any(pruner.needs_gradients for pruner in PRUNERS.values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("snip", {}, "unknown pruner 'snip'; choose from magnitude, structural"),
        ("magnitude", {"seed": 1}, "pruner magnitude has no option 'seed'; it has scope"),
        ("magnitude", {"scope": 1}, "option scope of pruner magnitude takes str; got 1"),
        ("magnitude", {"scope": "model"}, "scope must be one of layer, global; got 'model'"),
        ("structural", {"seed": 1.0}, "option seed of pruner structural takes int; got 1.0"),
        ("structural", {"seed": -1}, "seed must be at least 0; got -1"),
        ("structural", {"importance": "l3"}, "importance must be one of l1, .*; got 'l3'"),
    ],
)
def test_impossible_pruners_are_refused(name, options, message):
    with pytest.raises(OptionError, match=message):
        choose(name, options)
