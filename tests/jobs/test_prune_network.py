"""What `prune_network` does, in which order, and from which weights."""

import numpy as np
import pytest
import torch
from torch import nn

import privet
from jobs.small_runs import assert_equal, network, part, quick, weights
from privet.fit import Setup, adam, fit
from privet.jobs import prune_network as jobs
from privet.jobs.prune_network import prune_network
from privet.models import VGG16, ResNet18
from privet.seeds import derive


@pytest.fixture(scope="module")
def train():
    return part(0, 300)


@pytest.fixture(scope="module")
def dev():
    return part(300, 400)


def tensors(data):
    return torch.from_numpy(data[0]), torch.from_numpy(data[1])


def test_settings_stand_in_place_of_single_ones(train, dev):
    run = privet.prune(network(), train, dev, defense="rsw", rounds=4, settings=quick(rounds=1))
    assert run.settings == quick(rounds=1)
    assert len(run.rounds) == 1


def test_a_model_that_comes_trained_is_taken_as_it_is(train, dev):
    model = network()
    run = privet.prune(model, train, dev, rounds=1, sparsity=0.0)
    assert run.settings.dense_epochs == 0
    assert_equal(weights(run.dense), weights(model))


@pytest.mark.parametrize("defense", ["distill", "dp"])
def test_a_defense_of_all_training_starts_from_fresh_weights(defense, train, dev):
    runs = []
    for seed in (0, 1):
        model = network(seed=seed)
        settings = quick(defense, dense_epochs=1, epochs=1, rounds=1)
        runs.append(privet.prune(model, train, dev, settings=settings, seed=5))
    # What the models had learned makes no difference: nothing of it is left.
    assert_equal(weights(runs[0].dense), weights(runs[1].dense))
    assert privet.prune(network(), train, dev, defense=defense, seed=5).settings.dense_epochs > 0


def test_whole_training_under_a_defense_begins_with_dense_training(train, dev):
    settings = quick("distill", {"hard": 1.0}, dense_epochs=3, rounds=1, epochs=1, patience=None)
    run = prune_network(network, tensors(train), tensors(dev), settings=settings, seed=5)
    setup = Setup(
        network(),
        *tensors(train),
        adam(settings.learning_rate),
        settings.batch_size,
        weight_decay=settings.weight_decay,
        rate=jobs.cosine(3) if settings.anneal else None,
    )
    fit(setup, derive(5, "dense"), most=3)
    assert_equal(weights(run.dense), weights(setup.model))


@pytest.mark.parametrize("rewind", [0, 2])
def test_rewinding_returns_to_an_epoch_of_dense_training(rewind, train, dev, monkeypatch):
    seen = []
    rounds = jobs.prune_rounds

    def look(*given, **rest):
        seen.append(rest["rewind"])
        return rounds(*given, **rest)

    monkeypatch.setattr(jobs, "prune_rounds", look)
    settings = quick("base", dense_epochs=4, rewind=rewind, patience=None, anneal=True)
    run = prune_network(network, tensors(train), tensors(dev), settings=settings, seed=5)
    setup = Setup(
        network(),
        *tensors(train),
        adam(settings.learning_rate),
        settings.batch_size,
        weight_decay=settings.weight_decay,
        rate=jobs.cosine(4),
    )
    if rewind:
        fit(setup, derive(5, "dense"), most=rewind)
    assert_equal(seen[0], weights(setup.model))
    # Rewinding leaves no trace on the dense network.
    plain = quick("base", dense_epochs=4, patience=None, anneal=True)
    other = prune_network(network, tensors(train), tensors(dev), settings=plain, seed=5)
    assert_equal(weights(run.dense), weights(other.dense))
    assert not torch.equal(run.model[0].weight, other.model[0].weight)


def test_shuffled_scores_are_the_scores_in_another_order(train, dev):
    plain, shuffled = (
        privet.prune(network(), train, dev, settings=quick("rmr", rounds=1, scores=scores))
        for scores in ("folds", "shuffled")
    )
    np.testing.assert_array_equal(np.sort(plain.scores), np.sort(shuffled.scores))
    assert np.corrcoef(plain.scores, shuffled.scores)[0, 1] < 0.3


def test_known_scores_are_used_and_shuffled_when_asked(train, dev):
    known = np.linspace(0, 1, 300)
    data = tensors(train), tensors(dev)
    settings = quick("rmr", rounds=1)
    run = prune_network(network, *data, settings=settings, seed=5, scores=known)
    np.testing.assert_array_equal(run.scores, known)
    settings = quick("rmr", rounds=1, scores="shuffled")
    run = prune_network(network, *data, settings=settings, seed=5, scores=known)
    np.testing.assert_array_equal(np.sort(run.scores), known)
    assert np.corrcoef(run.scores, known)[0, 1] < 0.3


def test_subsampled_scores_take_their_number_of_models(train, dev, monkeypatch):
    asked = []
    estimate = jobs.memorization_scores

    def watched(*given, **rest):
        asked.append((rest["estimate"], rest["models"], rest["epochs"]))
        return estimate(*given, **rest)

    monkeypatch.setattr(jobs, "memorization_scores", watched)
    settings = quick("rsw", rounds=1, scores="subsampled", score_models=4, score_epochs=1)
    privet.prune(network(), train, dev, settings=settings)
    assert asked == [("subsampled", 4, 1)]


def test_nothing_is_estimated_that_the_defense_does_not_need(train, dev, monkeypatch):
    monkeypatch.setattr(jobs, "memorization_scores", None)
    monkeypatch.setattr(jobs, "out_of_fold", None)
    assert privet.prune(network(), train, dev, settings=quick("base")).scores is None


def test_a_risk_aware_teacher_is_the_dense_network(train, dev):
    run = privet.prune(network(), train, dev, settings=quick("radd", dense_epochs=2))
    assert run.scores is not None
    assert not torch.equal(run.dense[0].weight, run.model[0].weight)


def test_a_guarantee_counts_all_epochs_that_might_have_run(train, dev):
    options = {"noise_multiplier": 1.0}
    settings = quick("dp", options, dense_epochs=3, epochs=2, patience=1)
    run = privet.prune(network(), train, dev, settings=settings)
    steps = 3 * round(300 / settings.batch_size) + 2 * 2 * round(300 / settings.batch_size)
    assert run.guarantee["steps"] == steps
    rounds_only = quick("dp", {**options, "whole": False}, dense_epochs=3, epochs=2)
    run = privet.prune(network(), train, dev, settings=rounds_only)
    assert run.guarantee["steps"] == 2 * 2 * round(300 / settings.batch_size)
    assert privet.prune(network(), train, dev, settings=quick("base")).guarantee is None


def test_a_sample_of_networks_without_rounds_is_the_dense_one(train, dev):
    settings = quick("base", dense_epochs=2, rounds=0, sparsity=0.0)
    run = privet.prune(network(), train, dev, settings=settings)
    assert run.rounds == ()
    assert_equal(weights(run.model), weights(run.dense))


class Viewing(nn.Module):
    """A convolution whose outputs are flattened by ``view``, which takes one order of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * 36, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.convolution(images)).relu()
        return self.linear(hidden.view(len(images), -1))


def images():
    inputs = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return inputs, torch.arange(24) % 2


def test_a_network_that_cannot_have_channels_last_is_pruned_as_it_is():
    settings = quick("base", dense_epochs=1, rounds=1, epochs=1, sparsity=0.5)
    run = prune_network(Viewing, images(), images(), settings=settings, seed=5)
    weight = run.model.convolution.weight
    assert weight.is_contiguous()
    assert int(weight.count_nonzero()) == weight.numel() // 2


@pytest.mark.parametrize("build", [Viewing, ResNet18(2, 4).build, VGG16(2, 4).build])
def test_trying_channels_last_leaves_no_trace(build):
    torch.manual_seed(0)
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    tried = jobs._channels_last(model, images()[0])
    assert tried is model
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert_equal(weights(model), before)
    own = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    ordered = all(each.is_contiguous(memory_format=torch.channels_last) for each in own)
    assert ordered == (build is not Viewing)


def test_a_defense_with_a_weight_decay_of_its_own_has_that_in_the_rounds(train, dev):
    runs = {
        (defense, decay): privet.prune(
            network(), train, dev, settings=quick(defense, rounds=1, weight_decay=decay)
        )
        for defense in ("base", "rsw")
        for decay in (0.0, 0.1)
    }
    assert_equal(weights(runs["base", 0.0].model), weights(runs["base", 0.1].model))
    assert not torch.equal(runs["rsw", 0.0].model[0].weight, runs["rsw", 0.1].model[0].weight)
