"""What holds for every registered pruner."""

import itertools

import pytest
import torch

from privet.models import FullyConnected, load_weights, parameters
from privet.pruning import PRUNERS, keep_at

EXAMPLE = torch.zeros(1, 12)


@pytest.fixture(params=sorted(PRUNERS))
def pruner(request):
    return PRUNERS[request.param]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return FullyConnected(12, (20, 10), 3, dropout=0.1).build()


def remaining(pruner, model):
    if pruner is PRUNERS["structural"]:
        return pruner.sizes(model)
    return {
        name: int(model.get_submodule(name).weight.count_nonzero()) for name in pruner.sizes(model)
    }


def test_exactly_as_much_remains_as_asked(pruner, model):
    keep = keep_at(pruner.sizes(model), 0.6)
    pruner.prune(model, keep, EXAMPLE)
    assert remaining(pruner, model) == keep
    assert model(torch.ones(4, 12)).shape == (4, 3)


def test_sparsity_zero_changes_nothing(pruner, model):
    model.eval()
    inputs = torch.rand(4, 12)
    before = model(inputs)
    pruner.prune(model, keep_at(pruner.sizes(model), 0.0), EXAMPLE)
    torch.testing.assert_close(model(inputs), before)


def test_what_is_removed_stays_removed_through_training(pruner, model):
    sizes = pruner.sizes(model)
    hold = pruner.prune(model, keep_at(sizes, 0.5), EXAMPLE)
    pruned = remaining(pruner, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.rand(8, 12)).square().sum().backward()
        optimizer.step()
        hold()
    after = remaining(pruner, model)
    assert all(after[name] <= pruned[name] for name in pruned)


def test_rounds_only_ever_remove(pruner, model):
    sizes = pruner.sizes(model)
    kept = [set(alive(model))]
    for sparsity in (0.2, 0.5, 0.8):
        pruner.prune(model, keep_at(sizes, sparsity), EXAMPLE)
        kept.append(set(alive(model)))
    assert all(later <= earlier for earlier, later in itertools.pairwise(kept))


def alive(model):
    """Values of the weights that are not zero: weights do not change without training."""
    weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim == 2])
    return weights[weights != 0].tolist()


def test_the_least_important_goes_first(pruner, model):
    with torch.no_grad():
        first = model[0]
        first.weight[:7] *= 1e-3
        model[3].weight[:, :7] *= 1e-3
    pruner.prune(model, {"0": 130 if pruner is PRUNERS["magnitude"] else 13, "3": 5}, EXAMPLE)
    left = model[0].weight.detach()
    assert left[left != 0].abs().min() > 2e-4


def test_pruned_weights_load_into_a_dense_network(pruner, model):
    pruner.prune(model, keep_at(pruner.sizes(model), 0.6), EXAMPLE)
    dense = FullyConnected(12, (20, 10), 3, dropout=0.1).build()
    load_weights(dense, model.state_dict())
    inputs = torch.rand(4, 12)
    torch.testing.assert_close(dense.eval()(inputs), model.eval()(inputs))
    assert parameters(dense) == parameters(model)
