import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn

from privet.errors import OptionError
from privet.fit import Fitted
from privet.jobs.stages import Forgetful, open_run
from privet.jobs.tiers import (
    Thresholds,
    Trained,
    check_all,
    check_tier,
    fresh,
    make_tier,
    size,
    to_device,
    train_stage,
)
from privet.models import FullyConnected, linear_layers, parameters
from privet.pruning.speedup import widths_at
from privet.pruning.structural import Structural
from privet.sparse import take

ARCHITECTURE = FullyConnected(30, (24, 16), 5, dropout=0.2, input_dropout=0.1)
BOUNDS = Thresholds(m=0.05, r=0.2, q=0.6, n=0.1)


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()]).clone()


def with_dead_units(alive: tuple[int, int]) -> Trained:
    """Return a network in which only the last ``alive`` units of each hidden layer do anything."""
    base = fresh(ARCHITECTURE, 3)
    first, second, last = linear_layers(base.model)
    with torch.no_grad():
        for layer, following, count in ((first, second, alive[0]), (second, last, alive[1])):
            layer.weight[:-count] = 0
            layer.bias[:-count] = 0
            following.weight[:, :-count] = 0
    return base


def widths(tier: Trained) -> list[int]:
    return [layer.out_features for layer in linear_layers(tier.model)][:-1]


@pytest.mark.parametrize("speedup", [1, 2, 3.7, 5])
@pytest.mark.parametrize("pruner", [Structural(), Structural(seed=1)], ids=["l1", "random"])
def test_tiers_have_the_exact_widths_of_their_speedup(speedup, pruner):
    tier = make_tier(fresh(ARCHITECTURE, 0), speedup, pruner=pruner)
    expected = widths_at(30, (24, 16), 5, speedup=speedup)
    assert tier.architecture.hidden == tuple(widths(tier)) == expected
    assert size(ARCHITECTURE)["macs"] >= speedup * size(tier.architecture)["macs"]
    assert tier.model(torch.rand(2, 30)).shape == (2, 5)


def test_the_base_stays_as_it_is():
    base = fresh(ARCHITECTURE, 0)
    before = weights(base.model)
    tier = make_tier(base, 3, dropout=0.4)
    with torch.no_grad():
        for parameter in tier.model.parameters():
            parameter += 1
    with pytest.raises(OptionError, match="out of reach"):
        make_tier(base, 1000)
    assert torch.equal(weights(base.model), before)
    assert base.architecture == ARCHITECTURE
    assert widths(base) == [24, 16]


def test_tiers_have_their_own_dropout():
    tier = make_tier(fresh(ARCHITECTURE, 0), 2, dropout=0.4, input_dropout=0.3)
    assert tier.architecture == replace(
        ARCHITECTURE, hidden=tier.architecture.hidden, dropout=0.4, input_dropout=0.3
    )
    rates = [module.p for module in tier.model if isinstance(module, nn.Dropout)]
    assert rates == [0.3, 0.4, 0.4]
    bare = make_tier(fresh(ARCHITECTURE, 0), 2)
    assert not any(isinstance(module, nn.Dropout) for module in bare.model)


def test_units_that_do_nothing_go_first():
    base = with_dead_units((8, 6))
    tier = make_tier(base, 3)
    assert all(kept >= alive for kept, alive in zip(widths(tier), (8, 6), strict=True))
    inputs = torch.rand(20, 30)
    torch.testing.assert_close(tier.model.eval()(inputs), base.model.eval()(inputs))


def test_a_random_ranking_is_another_one_and_repeats_from_its_seed():
    base = with_dead_units((8, 6))
    inputs = torch.rand(20, 30)
    ranked, one, again, other = (
        make_tier(base, 3, pruner=pruner).model(inputs)
        for pruner in (Structural(), Structural(seed=1), Structural(seed=1), Structural(seed=2))
    )
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)
    assert not torch.allclose(one, ranked)


def with_silent_units() -> Trained:
    """Return a network whose first units have the largest weights, and never fire."""
    base = fresh(FullyConnected(30, (24,), 5), 3)
    hidden, last = linear_layers(base.model)
    with torch.no_grad():
        hidden.weight[:12].mul_(10)
        hidden.bias[:12] = -1000
        last.weight[:, :12].mul_(10)
    return base


def judged(layout=torch.from_numpy):
    rng = np.random.default_rng(0)
    return layout(rng.random((50, 30), dtype=np.float32)), torch.arange(50) % 5


@pytest.mark.parametrize("layout", [torch.from_numpy, csr_array])
def test_taylor_keeps_what_the_loss_hangs_on_whatever_its_weights(layout):
    base = with_silent_units()
    if layout is csr_array:
        sparse = replace(base.architecture, sparse_input=True)
        twin = fresh(sparse, 0)
        twin.model.load_state_dict(base.model.state_dict())
        base = twin
    by_loss = make_tier(base, 2, pruner=Structural("taylor"), judged=judged(layout))
    by_weight = make_tier(base, 2, pruner=Structural())
    assert linear_layers(by_loss.model)[0].bias.min() > -1000
    assert linear_layers(by_weight.model)[0].bias.max() == -1000
    inputs = torch.rand(20, 30)
    dense = take(csr_array(inputs.numpy()), torch.arange(20)) if layout is csr_array else inputs
    torch.testing.assert_close(by_loss.model.eval()(dense), base.model.eval()(dense))


def test_taylor_leaves_no_gradients_on_the_base():
    base = with_silent_units()
    make_tier(base, 2, pruner=Structural("taylor"), judged=judged())
    assert all(parameter.grad is None for parameter in base.model.parameters())


def test_taylor_without_samples_is_refused():
    with pytest.raises(OptionError, match="gradients"):
        make_tier(with_silent_units(), 2, pruner=Structural("taylor"))


def test_taylor_with_dropout_repeats_and_leaves_torchs_generator_alone():
    base = fresh(replace(ARCHITECTURE, dropout=0.5), 0)
    base.model.train()  # as training leaves it
    tiers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        tiers.append(make_tier(base, 3, pruner=Structural("taylor"), judged=judged()))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(*(weights(tier.model) for tier in tiers))
    assert base.model.training


def test_a_speedup_of_one_is_the_base():
    base = fresh(ARCHITECTURE, 0)
    assert torch.equal(weights(make_tier(base, 1).model), weights(base.model))


def test_a_sparse_base_gives_sparse_tiers():
    base = fresh(replace(ARCHITECTURE, sparse_input=True), 0)
    tier = make_tier(base, 3)
    inputs = torch.rand(6, 30).round()
    torch.testing.assert_close(
        tier.model(take(csr_array(inputs.numpy()), torch.arange(len(inputs)))), tier.model(inputs)
    )


@pytest.mark.parametrize("sparse_input", [False, True])
def test_the_device_answers_as_torch_does(sparse_input):
    base = fresh(replace(ARCHITECTURE, sparse_input=sparse_input), 0, glorot=True)
    inputs = torch.rand(50, 30)
    for trained in (base, make_tier(base, 3)):
        network = to_device(trained.model)
        expected = trained.model.eval()(inputs).detach().numpy()
        np.testing.assert_allclose(network.logits(inputs.numpy()), expected, atol=1e-5)
        assert network.parameters == size(trained.architecture)["parameters"]
        assert network.macs == size(trained.architecture)["macs"]


def test_the_device_network_is_a_copy():
    base = fresh(ARCHITECTURE, 0)
    network = to_device(base.model)
    before = network.weights[0].copy()
    with torch.no_grad():
        base.model[1].weight.zero_()
    np.testing.assert_array_equal(network.weights[0], before)


def test_size_counts_weights_and_biases():
    assert size(FullyConnected(10_000, (4000,), 25)) == {
        "parameters": 40_104_025,
        "macs": 40_100_000,
    }
    assert size(ARCHITECTURE)["parameters"] == parameters(ARCHITECTURE.build())


def test_glorot_weights_fill_their_bounds_and_biases_are_zero():
    network = fresh(FullyConnected(50, (40, 30), 5), 0, glorot=True).model
    for layer in linear_layers(network):
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert layer.weight.abs().max() <= bound
        assert layer.weight.max() > 0.9 * bound
        assert layer.weight.min() < -0.9 * bound
        # A uniform variable has variance bound^2 / 3; 150 weights or more estimate it.
        assert float(layer.weight.detach().var()) == pytest.approx(bound**2 / 3, rel=0.2)
        assert layer.bias.count_nonzero() == 0


@pytest.mark.parametrize("glorot", [False, True])
def test_fresh_weights_come_from_the_seed_alone(glorot):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = weights(fresh(ARCHITECTURE, 5, glorot=glorot).model)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(weights(fresh(ARCHITECTURE, 5, glorot=glorot).model), first)
    assert not torch.equal(weights(fresh(ARCHITECTURE, 6, glorot=glorot).model), first)


def test_making_a_tier_leaves_torchs_generator_alone():
    base = fresh(ARCHITECTURE, 0)
    before = torch.random.get_rng_state()
    make_tier(base, 3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_tier_at_its_bounds_passes():
    verdict = check_tier(BOUNDS, BOUNDS)
    assert verdict["measured"] == verdict["bounds"] == asdict(BOUNDS)
    assert (verdict["failed"], verdict["passed"]) == ([], True)


@pytest.mark.parametrize("name", ["m", "r", "q", "n"])
def test_each_bound_can_fail_alone(name):
    measured = replace(BOUNDS, **{name: math.nextafter(asdict(BOUNDS)[name], 2)})
    verdict = check_tier(BOUNDS, measured)
    assert verdict["measured"] == asdict(measured)
    assert (verdict["failed"], verdict["passed"]) == ([name], False)


def test_a_figure_that_is_not_a_number_does_not_pass():
    verdict = check_tier(BOUNDS, replace(BOUNDS, q=math.nan))
    assert verdict["failed"] == ["q"]
    assert not verdict["passed"]


def test_all_tiers_must_pass():
    good = {"definitions": check_tier(BOUNDS, BOUNDS)}
    bad = {"definitions": check_tier(BOUNDS, replace(BOUNDS, m=1.0, n=1.0))}
    assert bad["definitions"]["failed"] == ["m", "n"]
    assert check_all(BOUNDS, [good, good]) == {**asdict(BOUNDS), "passed": True}
    assert check_all(BOUNDS, [good, bad]) == {**asdict(BOUNDS), "passed": False}


class Trainer:
    """Counts how often it trains, and changes every weight."""

    def __init__(self) -> None:
        self.calls = 0

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> Fitted:
        self.calls += 1
        for parameter in model.parameters():
            parameter.mul_(2).add_(1)
        return Fitted(3, 2, (0.5, 0.25, 0.75))


@pytest.mark.parametrize("start", ["fresh", "pruned"])
def test_a_finished_stage_is_not_trained_again(tmp_path, start):
    def untrained() -> Trained:
        base = fresh(ARCHITECTURE, 0)
        return base if start == "fresh" else make_tier(base, 3)

    train = Trainer()
    first = train_stage(open_run(tmp_path / "run", "x", {}), "D", untrained, train)
    run = open_run(tmp_path / "run", "x", {})
    again = train_stage(run, "D", untrained, train)
    assert train.calls == 1
    assert torch.equal(weights(again.model), weights(first.model))
    assert again.architecture == first.architecture
    assert run.recall("D")[0] == {
        "architecture": {**asdict(first.architecture), "hidden": list(first.architecture.hidden)},
        "training": {"epochs": 3, "kept": 2, "dev_accuracies": [0.5, 0.25, 0.75]},
    }
    train_stage(run, "d", untrained, train)
    assert train.calls == 2


def test_a_stage_that_fails_is_not_finished(tmp_path):
    run = open_run(tmp_path / "run", "x", {})

    def fail(model: nn.Module) -> Fitted:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stage(run, "D", lambda: fresh(ARCHITECTURE, 0), fail)
    assert run.recall("D") is None


def test_without_a_run_every_stage_trains():
    train = Trainer()
    for _ in range(2):
        train_stage(Forgetful(), "D", lambda: fresh(ARCHITECTURE, 0), train)
    assert train.calls == 2


def test_a_taylor_tier_depends_on_no_generator():
    base = fresh(FullyConnected(30, (24,), 5, dropout=0.7), 3)
    tiers = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        tiers.append(make_tier(base, 4, pruner=Structural("taylor"), judged=judged()))
    one, other = (linear_layers(tier.model)[0].weight for tier in tiers)
    assert torch.equal(one, other)
