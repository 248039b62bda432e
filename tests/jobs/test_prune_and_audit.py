"""`privet.prune` and `privet.audit` on models and data in memory."""

import copy
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import privet
from jobs.small_runs import assert_equal, network, part, quick, weights
from privet.errors import DataError, OptionError, PrivetError
from privet.findings import ATTACKS
from privet.jobs import audit_run
from privet.jobs.audit_run import PruneAgain
from privet.jobs.settings import recommended
from privet.jobs.stages import RunFolder
from privet.models import reinitialized


@pytest.fixture(scope="module")
def train():
    return part(0, 300)


@pytest.fixture(scope="module")
def dev():
    return part(300, 400)


@pytest.fixture(scope="module")
def pruned(train, dev):
    return privet.prune(network(), train, dev, settings=quick(dense_epochs=3), seed=7)


def as_dataset(data):
    return TensorDataset(*(torch.from_numpy(array) for array in data))


def timeless(document):
    """Return findings without their wall time."""
    if isinstance(document, dict):
        return {key: timeless(value) for key, value in document.items() if key != "seconds"}
    return [timeless(entry) for entry in document] if isinstance(document, list) else document


@pytest.mark.parametrize("convert", [as_dataset, list, lambda data: tuple(map(torch.tensor, data))])
def test_arrays_tensors_and_datasets_give_the_same_run(convert, pruned, train, dev):
    forms = [list(zip(*d, strict=True)) if convert is list else convert(d) for d in (train, dev)]
    again = privet.prune(network(), *forms, settings=quick(dense_epochs=3), seed=7)
    assert_equal(weights(again.model), weights(pruned.model))
    assert timeless([asdict(r) for r in again.rounds]) == timeless(
        [asdict(r) for r in pruned.rounds]
    )


def test_another_seed_gives_another_model(pruned, train, dev):
    other = privet.prune(network(), train, dev, settings=quick(dense_epochs=3), seed=8)
    assert not torch.equal(other.model[0].weight, pruned.model[0].weight)


@pytest.mark.parametrize("pruner", ["magnitude", "structural"])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_handed_in_stays_as_it_is(pruner, training, train, dev):
    model = network().train(training)
    before = weights(model)
    run = privet.prune(model, train, dev, settings=quick(pruner=pruner))
    assert_equal(weights(model), before)
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert run.original is model
    assert run.model is not model


def test_magnitude_zeroes_the_share_asked_for(train, dev):
    run = privet.prune(network(), train, dev, settings=quick(sparsity=0.75, rounds=3))
    hidden = run.model[0].weight
    assert int((hidden == 0).sum()) == round(0.75 * hidden.numel())
    assert not (run.model[2].weight == 0).any()
    assert [each.sparsity for each in run.rounds] == pytest.approx([0, 0.5, 0.75])


def test_structural_removes_the_units_asked_for(train, dev):
    run = privet.prune(network(), train, dev, settings=quick(pruner="structural", sparsity=0.75))
    assert run.model[0].weight.shape == (8, 64)
    assert run.model[2].weight.shape == (10, 8)


def test_a_trained_model_keeps_its_knowledge_when_nothing_is_removed(train, dev):
    given = {"sparsity": 0.0, "rounds": 1, "epochs": 2, "patience": 20, "learning_rate": 5e-3}
    trained = privet.prune(network(), train, dev, settings=quick(dense_epochs=60, **given))
    again = privet.prune(trained.model, train, dev, settings=quick(**given))
    assert trained.rounds[-1].dev_accuracy > 0.8
    assert again.rounds[-1].dev_accuracy > trained.rounds[-1].dev_accuracy - 0.05


def test_fresh_networks_have_the_shape_and_not_the_weights(pruned):
    fresh = reinitialized(pruned.original)
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
    given = {"sparsity": 0.0, "rounds": 1, "epochs": 150, "patience": None, "dense_epochs": 1}
    leaky = privet.prune(network(), inside, outside, settings=quick(**given, learning_rate=5e-3))
    assert leaky.rounds[-1].train_accuracy > 0.9
    blind = copy.copy(leaky)
    for shown in ("model", "served"):
        object.__setattr__(blind, shown, network(seed=1))
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
        privet.prune(network(), **given, settings=quick(rounds=1))


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
        {"rounds": -1},
        {"options": {"width": 3}},
        {"dense_epochs": -1},
        {"seed": -1},
    ],
)
def test_prune_refuses_bad_options(options, train, dev):
    with pytest.raises(OptionError):
        privet.prune(network(), train, dev, **options)


@pytest.mark.parametrize("options", [{"attacks": "guess"}, {"shadows": 0}, {"jobs": 0}])
def test_audit_refuses_bad_options(options, pruned):
    with pytest.raises(OptionError):
        privet.audit(pruned, **options)


def test_a_model_without_hidden_layers_is_refused(train, dev):
    with pytest.raises(OptionError, match="hidden"):
        privet.prune(nn.Sequential(nn.Linear(64, 10)), train, dev, settings=quick(rounds=1))


def test_scores_do_not_depend_on_what_the_model_has_learned(train, dev):
    learned = privet.prune(network(), train, dev, settings=quick(dense_epochs=5)).model
    settings = quick("rsw", rounds=1, epochs=1, score_epochs=3)
    runs = [
        privet.prune(model, train, dev, settings=settings, seed=3) for model in (network(), learned)
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

    run = privet.prune(Scaled(), train, dev, settings=quick(rounds=1))
    with pytest.raises(OptionError, match="scale"):
        privet.audit(run, shadows=1)


def test_what_is_served_is_what_is_audited(train, dev, monkeypatch):
    run = privet.prune(network(), train, dev, settings=quick("hamp"))
    assert run.served is not run.model
    asked = []

    def watched(releases, *given, **rest):
        asked.append(releases)
        raise KeyboardInterrupt

    monkeypatch.setattr(audit_run, "gather", watched)
    with pytest.raises(KeyboardInterrupt):
        privet.audit(run, shadows=1, attacks="conf")
    assert asked[0] == (run.served, run.dense)


def test_an_attacker_who_does_not_know_the_defense_knows_the_rest():
    settings = recommended("distill", {"hard": 0.5}, sparsity=0.7, pruner="structural")
    naive = PruneAgain(network, settings).without_defense().settings
    # Settings that come with the defense would give it away.
    assert naive == privet.PruneSettings("base", sparsity=0.7, pruner="structural")
    settings = quick("rsw", {"width": 3}, schedule="linear", score_epochs=7)
    naive = PruneAgain(network, settings).without_defense().settings
    assert naive == quick("base", schedule="linear", score_epochs=7)


def test_an_attacker_without_samples_has_to_know_the_audited_ones(pruned):
    with pytest.raises(OptionError, match="--offline"):
        privet.audit(pruned, shadows=1, attacks="conf", online=False)


def test_an_interrupted_run_in_memory_goes_on_from_its_folder(train, dev, tmp_path, monkeypatch):
    settings = privet.PruneSettings("rmr", epochs=2, dense_epochs=3, score_epochs=2)
    whole = privet.prune(network(), train, dev, settings=settings, seed=3)
    written = RunFolder.keep

    def interrupted(self, name, record, tensors):
        written(self, name, record, tensors)
        if name == "round-1":
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        privet.prune(network(), train, dev, settings=settings, seed=3, out=tmp_path / "run")
    monkeypatch.undo()
    resumed = privet.prune(network(), train, dev, settings=settings, seed=3, out=tmp_path / "run")
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name])
    np.testing.assert_array_equal(whole.scores, resumed.scores)
    with pytest.raises(OptionError, match="data has changed"):
        privet.prune(network(), dev, dev, settings=settings, seed=3, out=tmp_path / "run")


def test_a_proof_and_pruning_by_gradients_do_not_go_together():
    with pytest.raises(OptionError, match="taylor"):
        privet.PruneSettings("dp", pruner="structural", pruner_options={"importance": "taylor"})


def test_shadows_of_a_network_that_came_trained_are_trained_first(train, dev):
    settings = privet.PruneSettings(
        "base", rounds=1, epochs=1, dense_epochs=2, rewind=0, patience=None, learning_rate=1e-6
    )
    again = PruneAgain(network, settings, pretrained=True)
    data = tuple(torch.as_tensor(x) for x in (train[0], train[1]))
    held = tuple(torch.as_tensor(x) for x in (dev[0], dev[1]))
    pruned, dense = again((data[0].float(), data[1]), (held[0].float(), held[1]), 1)
    # Training at this rate teaches nothing: what they know was learned before.
    for model in (pruned, dense):
        right = model.eval()(data[0].float()).argmax(1) == data[1]
        assert right.float().mean() > 0.6
