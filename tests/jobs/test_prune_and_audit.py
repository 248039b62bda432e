"""`privet.prune` and `privet.audit` on models and data in memory."""

import copy
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import privet
from privet.data.registry import load
from privet.errors import DataError, OptionError, PrivetError
from privet.findings import ATTACKS

SETTINGS = privet.PruneSettings(epochs=2, patience=2)


def network(inputs=64, outputs=10, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def part(start, stop):
    digits = load("digits")
    return digits.inputs[start:stop], digits.labels[start:stop]


@pytest.fixture(scope="module")
def train():
    return part(0, 300)


@pytest.fixture(scope="module")
def dev():
    return part(300, 400)


@pytest.fixture(scope="module")
def pruned(train, dev):
    return privet.prune(network(), train, dev, rounds=2, dense_epochs=3, settings=SETTINGS, seed=7)


def as_dataset(data):
    return TensorDataset(*(torch.from_numpy(array) for array in data))


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def timeless(document):
    """Return findings without their wall time."""
    if isinstance(document, dict):
        return {key: timeless(value) for key, value in document.items() if key != "seconds"}
    return [timeless(entry) for entry in document] if isinstance(document, list) else document


@pytest.mark.parametrize("convert", [as_dataset, list, lambda data: tuple(map(torch.tensor, data))])
def test_arrays_tensors_and_datasets_give_the_same_run(convert, pruned, train, dev):
    forms = [list(zip(*d, strict=True)) if convert is list else convert(d) for d in (train, dev)]
    again = privet.prune(network(), *forms, rounds=2, dense_epochs=3, settings=SETTINGS, seed=7)
    assert_equal(weights(again.model), weights(pruned.model))
    assert timeless([asdict(r) for r in again.rounds]) == timeless(
        [asdict(r) for r in pruned.rounds]
    )


def test_another_seed_gives_another_model(pruned, train, dev):
    other = privet.prune(network(), train, dev, rounds=2, dense_epochs=3, settings=SETTINGS, seed=8)
    assert not torch.equal(other.model[0].weight, pruned.model[0].weight)


@pytest.mark.parametrize("pruner", ["magnitude", "structural"])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_handed_in_stays_as_it_is(pruner, training, train, dev):
    model = network().train(training)
    before = weights(model)
    run = privet.prune(model, train, dev, pruner=pruner, rounds=2, settings=SETTINGS)
    assert_equal(weights(model), before)
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert run.original is model
    assert run.model is not model


def test_magnitude_zeroes_the_share_asked_for(train, dev):
    run = privet.prune(network(), train, dev, sparsity=0.75, rounds=3, settings=SETTINGS)
    hidden = run.model[0].weight
    assert int((hidden == 0).sum()) == round(0.75 * hidden.numel())
    assert not (run.model[2].weight == 0).any()
    assert [each.sparsity for each in run.rounds] == pytest.approx([0, 0.5, 0.75])


def test_structural_removes_the_units_asked_for(train, dev):
    run = privet.prune(
        network(), train, dev, pruner="structural", sparsity=0.75, rounds=2, settings=SETTINGS
    )
    assert run.model[0].weight.shape == (8, 64)
    assert run.model[2].weight.shape == (10, 8)


def test_a_trained_model_keeps_its_knowledge_when_nothing_is_removed(train, dev):
    settings = privet.PruneSettings(epochs=2, patience=20, learning_rate=5e-3)
    options = {"sparsity": 0.0, "rounds": 1, "settings": settings}
    trained = privet.prune(network(), train, dev, dense_epochs=60, **options)
    again = privet.prune(trained.model, train, dev, **options)
    assert trained.rounds[-1].dev_accuracy > 0.8
    assert again.rounds[-1].dev_accuracy > trained.rounds[-1].dev_accuracy - 0.05


def test_rebuild_gives_the_shape_and_not_the_weights(pruned):
    fresh = pruned.rebuild()
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in pruned.original.parameters()]
    assert not torch.equal(fresh[0].weight, pruned.original[0].weight)
    assert_equal(weights(pruned.original), weights(network()))


def test_audit_with_and_without_the_attackers_data(pruned):
    outside, own = part(400, 500), part(500, 800)
    before = weights(pruned.model)
    informed = privet.audit(pruned, nonmembers=outside, attacker=own, shadows=1, seed=1)
    strongest = privet.audit(pruned, nonmembers=outside, shadows=1, seed=1)
    for report in (informed, strongest):
        assert [finding["attack"] for finding in report["findings"]] == list(ATTACKS)
        for finding in report["findings"]:
            assert (finding["members"], finding["nonmembers"]) == (300, 100)
            assert 0 <= finding["auc"] <= 1
    assert timeless(informed) != timeless(strongest)
    assert_equal(weights(pruned.model), before)


def test_audit_judges_by_the_development_set_unless_given_nonmembers(pruned):
    report = privet.audit(pruned, attacks="conf", shadows=1)
    (finding,) = report["findings"]
    assert (finding["members"], finding["nonmembers"]) == (300, 100)
    assert report["shadows"] == 1


def test_audit_repeats_for_its_seed_whatever_form_the_data_has(pruned):
    outside = part(400, 500)
    reports = [
        privet.audit(pruned, nonmembers=data, attacks=["mentr", "conf"], shadows=1, seed=4)
        for data in (outside, as_dataset(outside))
    ]
    assert timeless(reports[0]) == timeless(reports[1])
    names = [finding["attack"] for finding in reports[0]["findings"]]
    assert names == ["mentr", "conf"]


def test_audit_tells_a_memorizing_model_from_one_that_cannot_memorize():
    """Labels by coin toss can only be memorized; a model that never met them leaks nothing."""
    rng = np.random.default_rng(0)
    data = rng.random((600, 64)).astype(np.float32), rng.integers(10, size=600)
    inside, outside = ((data[0][rows], data[1][rows]) for rows in (slice(200), slice(200, 400)))
    settings = privet.PruneSettings(epochs=150, patience=150, learning_rate=5e-3)
    options = {"sparsity": 0.0, "rounds": 1, "settings": settings}
    leaky = privet.prune(network(), inside, outside, dense_epochs=1, **options)
    assert leaky.rounds[-1].train_accuracy > 0.9
    blind = copy.copy(leaky)
    object.__setattr__(blind, "model", network(seed=1))
    found = [
        privet.audit(run, nonmembers=outside, attacks="conf", shadows=2)["findings"][0]["auc"]
        for run in (leaky, blind)
    ]
    assert found[0] > 0.9
    assert found[1] == pytest.approx(0.5, abs=0.1)


def bad_data():
    x, y = part(0, 60)
    holed = x.copy()
    holed[7, 3] = np.nan
    return {
        "lengths differ": (x, y[:-1]),
        "labels in columns": (x, np.eye(10)[y]),
        "no samples": (x[:0], y[:0]),
        "no samples in a dataset": as_dataset((x[:0], y[:0])),
        "NaN": (holed, y),
        "other width": (x[:, :-1], y),
        "label out of range": (x, np.where(y == 0, 10, y)),
        "negative label": (x, np.where(y == 0, -1, y)),
        "fractional label": (x, y + 0.5),
    }


@pytest.mark.parametrize("name", bad_data())
@pytest.mark.parametrize("place", ["train", "dev"])
def test_prune_refuses_bad_data(name, place, train, dev):
    given = {"train": train, "dev": dev, place: bad_data()[name]}
    with pytest.raises(DataError):
        privet.prune(network(), **given, rounds=1, settings=SETTINGS)


@pytest.mark.parametrize("name", bad_data())
@pytest.mark.parametrize("place", ["nonmembers", "attacker"])
def test_audit_refuses_bad_data(name, place, pruned):
    given = {"nonmembers": part(400, 500), "attacker": part(500, 600), place: bad_data()[name]}
    with pytest.raises(PrivetError):
        privet.audit(pruned, **given, shadows=1)


@pytest.mark.parametrize(
    "options",
    [
        {"defense": "hope"},
        {"pruner": "scissors"},
        {"sparsity": 1.0},
        {"rounds": 0},
        {"dense_epochs": -1},
        {"seed": -1},
    ],
)
def test_prune_refuses_bad_options(options, train, dev):
    with pytest.raises(OptionError):
        privet.prune(network(), train, dev, settings=SETTINGS, **options)


@pytest.mark.parametrize("options", [{"attacks": "guess"}, {"shadows": 0}, {"jobs": 0}])
def test_audit_refuses_bad_options(options, pruned):
    with pytest.raises(OptionError):
        privet.audit(pruned, **options)


def test_a_model_without_hidden_layers_is_refused(train, dev):
    with pytest.raises(OptionError, match="hidden"):
        privet.prune(nn.Sequential(nn.Linear(64, 10)), train, dev, rounds=1, settings=SETTINGS)


def test_settings_are_checked_when_made():
    for options in ({"epochs": 0}, {"patience": 0}, {"batch_size": 0}, {"learning_rate": 0.0}):
        with pytest.raises(OptionError):
            privet.PruneSettings(**options)


def test_scores_do_not_depend_on_what_the_model_has_learned(train, dev):
    settings = privet.PruneSettings(epochs=1, fold_epochs=3)
    learned = privet.prune(network(), train, dev, rounds=1, dense_epochs=5, settings=SETTINGS).model
    runs = [
        privet.prune(model, train, dev, defense="rsw", rounds=1, settings=settings, seed=3)
        for model in (network(), learned)
    ]
    np.testing.assert_array_equal(runs[0].scores, runs[1].scores)
    assert 0 == runs[0].scores.min() < runs[0].scores.max() == 1


def test_an_audit_leaves_the_number_of_threads(pruned, dev):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        privet.audit(pruned, nonmembers=dev, shadows=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_weights_that_cannot_be_drawn_afresh_are_named(train, dev):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
            self.scale = nn.Parameter(torch.ones(64))

        def forward(self, inputs):
            return self.net(inputs * self.scale)

    run = privet.prune(Scaled(), train, dev, rounds=1, settings=SETTINGS)
    with pytest.raises(OptionError, match="scale"):
        privet.audit(run, shadows=1)
