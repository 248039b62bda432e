import json
import math
import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from opacus.accountants import PRVAccountant
from scipy.sparse import csr_array
from torch import nn
from torch.nn.functional import cross_entropy

from privet import query
from privet.defenses import choose
from privet.defenses.dp import DP, poisson, sharing_twin, steps_an_epoch
from privet.errors import OptionError
from privet.fit import Setup, adam, fit, seeded, sgd
from privet.models import FullyConnected
from privet.pruning.magnitude import Magnitude
from privet.sparse import SparseInputLinear

SAMPLES, BATCH, RATE = 24, 8, 0.5


def make_setup(model=None, **changes):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) % 3
    torch.manual_seed(1)
    setup = Setup(
        model=model or FullyConnected(5, (7,), 3).build(),
        inputs=torch.randn(SAMPLES, 5, generator=generator) * 3,
        labels=labels,
        optimizer=sgd(RATE),
        batch_size=BATCH,
    )
    return replace(setup, **changes)


def one_step(defense, setup, rows, *, seed=0):
    """Take one step on the given samples, in place, and return the flat change of the weights."""
    before = flat(setup.model)
    batch = torch.as_tensor(rows)
    fit(replace(defense.start(setup), draw=lambda indices, size: [batch]), seed, most=1)
    return flat(setup.model) - before


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def gradients_one_by_one(setup, rows):
    model = deepcopy(setup.model)
    found = []
    for row in rows:
        model.zero_grad()
        cross_entropy(model(setup.inputs[row : row + 1]), setup.labels[row : row + 1]).backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    return torch.stack(found)


@pytest.mark.parametrize("rows", [range(8), range(3), [5]], ids=["expected", "fewer", "lone"])
def test_gradients_are_clipped_sample_by_sample(rows):
    setup = make_setup()
    each = gradients_one_by_one(setup, rows)
    norms = each.norm(dim=1)
    clip = float(norms.median()) * 0.9
    clipped = [g * min(1.0, clip / float(n)) for g, n in zip(each, norms, strict=True)]
    moved = one_step(DP(noise_multiplier=0.0, max_grad_norm=clip), setup, rows)
    expected = -RATE * torch.stack(clipped).sum(0) / BATCH
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)


def test_without_noise_and_clipping_a_step_is_an_ordinary_one():
    setup = make_setup(optimizer=adam(0.01), weight_decay=0.02)
    plain = replace(setup, model=deepcopy(setup.model))
    rows = torch.arange(BATCH)
    private = one_step(DP(noise_multiplier=0.0, max_grad_norm=1e6), setup, rows)
    before = flat(plain.model)
    fit(replace(plain, draw=lambda indices, size: [rows]), 0, most=1)
    torch.testing.assert_close(private, flat(plain.model) - before, rtol=1e-3, atol=1e-6)


def test_weight_decay_and_learning_rate_reach_the_optimizer():
    setup = make_setup(weight_decay=0.1, rate=lambda epoch: 0.25)
    decayed = -0.25 * RATE * 0.1 * flat(setup.model)
    moved = one_step(DP(noise_multiplier=0.0, max_grad_norm=1e-9), setup, range(8))
    torch.testing.assert_close(moved, decayed, rtol=1e-4, atol=1e-7)


def test_noise_has_the_promised_scale_and_follows_the_seed():
    def moved(noise, seed=0):
        model = FullyConnected(5, (2000,), 3).build()
        defense = DP(noise_multiplier=noise, max_grad_norm=1e-6)
        return one_step(defense, make_setup(model), range(8), seed=seed) / RATE

    torch.manual_seed(4)
    noise = moved(1000.0)
    assert len(noise) > 10_000
    assert float(noise.std()) == pytest.approx(1000 * 1e-6 / BATCH, rel=0.03)
    assert float(noise.mean()) == pytest.approx(0, abs=5e-6)
    torch.testing.assert_close(noise, moved(1000.0), rtol=1e-2, atol=1e-6)
    assert float((moved(1000.0, seed=1) - noise).abs().mean()) > 1e-5


def test_batches_are_drawn_sample_by_sample():
    with seeded(0):
        epochs = [poisson(torch.arange(100, 140), 10) for _ in range(500)]
    assert {len(batches) for batches in epochs} == {4}
    sizes = torch.tensor([len(batch) for batches in epochs for batch in batches]).float()
    assert float(sizes.mean()) == pytest.approx(10, abs=0.3)
    assert float(sizes.var()) == pytest.approx(40 * 0.25 * 0.75, rel=0.1)
    drawn = torch.bincount(torch.cat([b for batches in epochs for b in batches]), minlength=140)
    assert (drawn[:100] == 0).all()
    # 2,000 draws at probability 1/4: five standard deviations are 97.
    assert ((drawn[100:] - 500).abs() < 97).all()


def test_a_batch_as_large_as_the_data_takes_all_of_it():
    assert [len(batch) for batch in poisson(torch.arange(9), 50)] == [9]
    assert steps_an_epoch(9, 50) == 1
    assert steps_an_epoch(1200, 128) == 9


def test_nothing_of_opacus_stays_on_the_network():
    setup = make_setup()
    names = list(setup.model.state_dict())
    fit(DP().start(setup), 0, most=2)
    assert list(setup.model.state_dict()) == names
    for module in setup.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
        assert not hasattr(module, "activations")
    for parameter in setup.model.parameters():
        assert not vars(parameter)
        assert parameter.grad is None
    again = pickle.loads(pickle.dumps(deepcopy(setup.model)))  # noqa: S301
    assert torch.equal(query.logits(again, setup.inputs), query.logits(setup.model, setup.inputs))


def test_what_is_pruned_stays_zero_and_what_is_left_trains():
    setup = make_setup()
    pruner = Magnitude()
    hold = pruner.prune(setup.model, {"0.weight": 10}, setup.inputs[:1])
    before = setup.model[0].weight.detach().clone()
    fit(DP(noise_multiplier=1.0).start(replace(setup, after_step=hold)), 0, most=3)
    after = setup.model[0].weight
    assert int(after.count_nonzero()) == 10
    assert torch.equal(after != 0, before != 0)
    assert not torch.equal(after, before)


def test_early_stopping_keeps_the_best_epoch_on_the_network_handed_in():
    setup = make_setup()
    dev = (setup.inputs, setup.labels)
    fitted = fit(DP(noise_multiplier=3.0).start(setup), 0, most=12, dev=dev)
    assert query.accuracy(setup.model, *dev) == max(fitted.dev_accuracies)
    assert fitted.dev_accuracies[-1] < max(fitted.dev_accuracies)


def test_a_twin_shares_memory_and_nothing_else():
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    twin = sharing_twin(tied)
    assert twin[0].weight is twin[2].weight
    assert twin[0].weight is not tied[0].weight
    assert twin[0].weight.data_ptr() == tied[0].weight.data_ptr()
    with torch.no_grad():
        twin[0].weight.fill_(2)
    assert (tied[2].weight == 2).all()


class Shifted(nn.Module):
    """A layer that Opacus does not know."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(5))

    def forward(self, inputs):
        return inputs + self.shift


class Unused(nn.Linear):
    """A layer with a parameter that takes no part."""

    def __init__(self):
        super().__init__(5, 3)
        self.spare = nn.Parameter(torch.zeros(2))


class Coupled(nn.Module):
    """A layer that subtracts the batch's mean."""

    def forward(self, inputs):
        return inputs - inputs.mean(0)


class Across(nn.Module):
    """A network whose linear layer sees the samples in place of a sample's parts."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, inputs):
        return self.linear(inputs.unsqueeze(0)).squeeze(0)


def test_layers_of_the_users_own_are_clipped_too():
    setup = make_setup(nn.Sequential(Shifted(), nn.Linear(5, 3)))
    each = gradients_one_by_one(setup, range(8))
    clip = float(each.norm(dim=1).median())
    factors = (clip / each.norm(dim=1)).clamp(max=1)
    moved = one_step(DP(noise_multiplier=0.0, max_grad_norm=clip), setup, range(8))
    expected = -RATE * (each * factors[:, None]).sum(0) / BATCH
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))},
            r"layer 1, a BatchNorm1d.*nn\.GroupNorm",
        ),
        ({"model": Unused()}, "spare takes no part"),
        ({"model": nn.Sequential(Coupled(), nn.Linear(5, 3))}, "depends on others"),
        ({"model": Across()}, "do not add up"),
        ({"inputs": csr_array((SAMPLES, 5))}, "dense inputs"),
        ({"passes": lambda epoch: []}, "chooses the samples"),
    ],
    ids=["batch normalization", "unused", "coupled", "across", "sparse", "passes"],
)
def test_what_would_void_the_guarantee_is_refused(changes, message):
    with pytest.raises(OptionError, match=message):
        DP().start(make_setup(**changes))


def test_an_optimizer_that_is_not_of_torch_is_refused():
    model = nn.Sequential(SparseInputLinear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    started = DP().start(make_setup(model, optimizer=adam(0.01)))
    with pytest.raises(OptionError, match="LazyAdam"):
        started.optimizer(started.model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_multiplier": -0.1}, "noise_multiplier must be finite and at least 0; got -0.1"),
        ({"max_grad_norm": 0}, "max_grad_norm must be positive; got 0"),
        ({"delta": 1.0}, r"delta must lie in \[0, 1\)"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        choose("dp", options)


# --- What is proven --------------------------------------------------------------------------


def epsilon(noise, *, samples, batch_size, epochs, delta):
    defense = DP(noise_multiplier=noise, delta=delta)
    return defense.guarantee(samples=samples, batch_size=batch_size, epochs=epochs)["epsilon"]


def renyi_bound(noise, rate, *, steps, delta):
    """Epsilon from integer orders: the binomial sum of Mironov, Talwar & Zhang (2019)."""
    best = math.inf
    for order in range(2, 256):
        terms = [
            math.lgamma(order + 1)
            - math.lgamma(k + 1)
            - math.lgamma(order - k + 1)
            + k * math.log(rate)
            + (order - k) * math.log1p(-rate)
            + (k * k - k) / (2 * noise**2)
            for k in range(order + 1)
        ]
        top = max(terms)
        divergence = (top + math.log(sum(math.exp(t - top) for t in terms))) / (order - 1)
        best = min(
            best,
            steps * divergence
            + math.log1p(-1 / order)
            - (math.log(delta) + math.log(order)) / (order - 1),
        )
    return best


@pytest.mark.parametrize("noise", [0.8, 1.1, 2.0])
def test_epsilon_agrees_with_an_independent_sum(noise):
    found = epsilon(noise, samples=60_000, batch_size=256, epochs=60, delta=1e-5)
    expected = renyi_bound(noise, 256 / 60_000, steps=60 * 234, delta=1e-5)
    assert expected * 0.97 <= found <= expected * 1.001


def test_epsilon_bounds_the_numerically_exact_one_closely():
    accountant = PRVAccountant()
    accountant.history = [(1.0, 128 / 1200, 9 * 100)]
    found = epsilon(1.0, samples=1200, batch_size=128, epochs=100, delta=1 / 1200)
    assert 1 <= found / accountant.get_epsilon(1 / 1200) < 1.15


def test_one_step_on_all_data_bounds_the_analytic_gaussian_mechanism():
    # The exact delta of Balle & Wang 2018, theorem 8, solved for delta = 1e-5 at noise 1.
    def spent(candidate):
        def cdf(x):
            return 0.5 * math.erfc(-x / math.sqrt(2))

        return cdf(0.5 - candidate) - math.exp(candidate) * cdf(-0.5 - candidate)

    found = epsilon(1.0, samples=100, batch_size=100, epochs=1, delta=1e-5)
    assert spent(found) < 1e-5
    assert spent(found * 0.9) > 1e-5


def test_less_noise_and_more_epochs_prove_less():
    def at(noise, epochs):
        return epsilon(noise, samples=1200, batch_size=128, epochs=epochs, delta=0.0)

    assert at(2.0, 0) == 0
    assert 0 < at(2.0, 10) < at(2.0, 100) < at(1.0, 100) < at(0.1, 100) < at(0.01, 100)
    assert at(0.0, 10) is None


def test_a_guarantee_says_what_it_is_about():
    told = DP().guarantee(samples=1000, batch_size=128, epochs=20)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["delta"] == 1 / 1000
    assert told["steps"] == 20 * 8
    assert (told["noise_multiplier"], told["max_grad_norm"]) == (0.1, 1.0)
    assert "all epochs" in told["covers"]
    rounds = DP(whole=False, delta=1e-6).guarantee(samples=1000, batch_size=128, epochs=20)
    assert rounds["delta"] == 1e-6
    assert "worth nothing" in rounds["covers"]


@pytest.mark.parametrize("change", [{"samples": 0}, {"batch_size": 0}, {"epochs": -1}])
def test_a_guarantee_about_nothing_is_refused(change):
    with pytest.raises(OptionError, match="at least a sample"):
        DP().guarantee(**{"samples": 10, "batch_size": 5, "epochs": 1, **change})


@pytest.mark.slow
def test_opacus_is_imported_only_where_it_is_used():
    check = "import sys, privet.defenses; sys.exit('opacus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_network_that_uses_a_layer_at_every_step_trains():
    from privet.models import LSTM

    with seeded(0):
        model = LSTM(4, 3, hidden=5).build()
    inputs = torch.randn(24, 3, 4, generator=torch.Generator().manual_seed(0))
    before = [parameter.clone() for parameter in model.parameters()]
    setup = Setup(model, inputs, torch.arange(24) % 3, adam(0.01), batch_size=8)
    fit(DP().start(setup), 0, most=1)
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
