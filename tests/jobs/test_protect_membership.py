"""Membership protection from a data set to protected confidences, and defense models that died."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from privet import query
from privet.cli import run as privet
from privet.data.splits import membership_split
from privet.data.synthetic import synthetic_purchases
from privet.data.table import Table
from privet.device import load_bundle
from privet.device.membership import find_noise
from privet.errors import DataError, OptionError
from privet.jobs import membership_training
from privet.jobs.membership_evaluation import Observed, attacked, found_share
from privet.jobs.membership_training import MembershipSettings, observe
from privet.jobs.protect_membership import build_membership
from privet.jobs.stages import Forgetful, open_run, read_run
from privet.jobs.tiers import Thresholds, fresh, make_tier, to_device
from privet.models import FullyConnected, linear_layers

CLASSES = 10
SETTINGS = MembershipSettings(
    target_hidden=(64,),
    target_epochs=40,
    defense_hidden=(32, 16),
    defense_epochs=100,
    tier_epochs=50,
    attacker_hidden=(32,),
    attacker_epochs=100,
    speedups=(2.0,),
    batch_size=32,
    learning_rate=0.05,
    thresholds=Thresholds(m=1.0, r=1.0, q=1.0, n=1.0),
)


@pytest.fixture(scope="module")
def shoppers():
    return synthetic_purchases(1, n=1500, features=100, classes=CLASSES)


def opened(folder):
    return open_run(folder, "protect", {})


@pytest.fixture(scope="module")
def built(shoppers, tmp_path_factory):
    """A finished build of one tier: its folder and its JSON."""
    folder = tmp_path_factory.mktemp("membership") / "bundles"
    return folder, build_membership(shoppers, SETTINGS, seed=1, run=opened(folder))


@pytest.fixture(scope="module")
def views(shoppers, built):
    """What the parties saw, from the build's own classifiers."""
    return observe(shoppers, SETTINGS, seed=1, stages=read_run(built[0], "protect"))


def dead(network):
    """Kill a defense model: its last hidden units never fire, so no confidence moves its output."""
    *_, last_hidden, _ = linear_layers(network.model)
    with torch.no_grad():
        last_hidden.weight.zero_()
        last_hidden.bias.fill_(-1.0)
    return network


def test_the_build_hides_members(built):
    document = built[1]
    (tier,) = document["tiers"]
    accuracy = document["target"]["accuracy"]
    assert accuracy["members"] > accuracy["nonmembers"] + 0.3
    unprotected = document["attack"]["unprotected_accuracy"]
    assert unprotected > 0.65
    assert document["attack"]["majority_accuracy"] == 0.5
    figures = list(tier["attack_accuracy_by_budget"].values())
    assert len(figures) == len(SETTINGS.budgets)
    assert max(figures) < unprotected
    assert figures[-1] == pytest.approx(0.5, abs=0.05)
    assert tier["found"] >= SETTINGS.least_found
    assert tier["released"] is True
    assert document["definitions"]["passed"] is True


def test_figures_of_the_tier_are_those_of_its_bundle(built):
    folder, document = built
    (tier,) = document["tiers"]
    assert tier["reached_speedup"] >= tier["asked_speedup"] == 2
    path = folder / tier["bundle"].rpartition("/")[2]
    assert tier["bytes"] == path.stat().st_size
    bundle = load_bundle(path)
    assert bundle.kind == "membership"
    assert bundle.network.macs == tier["macs"]
    assert bundle.network.parameters == tier["parameters"]
    assert bundle.card["found"] == tier["found"]


def test_protected_confidences_keep_labels_and_stay_confidences(built, views, tmp_path):
    folder = built[0]
    vectors = views.evaluation
    np.savez(tmp_path / "answers.npz", logits=vectors.logits)
    command = ["protect", "apply", str(tmp_path / "answers.npz"), "--budget", "0.5"]
    command += ["--bundle", str(folder / "synthetic-purchases-x2.safetensors")]
    command += ["--key", str(tmp_path / "key"), "--out", str(tmp_path / "safe.npz")]
    assert privet([*command, "--changes", str(tmp_path / "changes.json")]) == 0
    with np.load(tmp_path / "safe.npz", allow_pickle=False) as content:
        safe = content["confidences"]
    assert safe.shape == vectors.logits.shape
    assert (safe >= 0).all()
    assert safe.sum(axis=1) == pytest.approx(1.0)
    assert np.array_equal(safe.argmax(axis=1), vectors.logits.argmax(axis=1))
    before = torch.from_numpy(vectors.logits).double().softmax(1).numpy()
    moved = np.abs(safe - before).sum(axis=1)
    assert 0 < moved.mean() <= 0.5 + 4 * moved.std() / np.sqrt(len(moved))
    changes = json.loads((tmp_path / "changes.json").read_text())
    assert [entry["cost"] for entry in changes] == pytest.approx(moved.tolist(), abs=1e-9)


def test_an_attacker_gains_less_from_protected_confidences(built, views):
    bundle = load_bundle(built[0] / "synthetic-purchases-x2.safetensors")
    record, weights = read_run(built[0], "protect").recall("attacker")
    architecture = {**record["architecture"], "hidden": tuple(record["architecture"]["hidden"])}
    attacker = FullyConnected(**architecture).build()
    attacker.load_state_dict(weights)
    vectors = views.evaluation
    key = bytes(range(32))
    release = bundle.protect(vectors.logits, budget=0.5, key=key, logits=True)
    ascending = torch.from_numpy(np.sort(release.records, axis=1)).float()
    guess = query.logits(attacker, ascending)[:, 0].numpy() > 0
    protected = (guess == vectors.members).mean()
    promised = built[1]["tiers"][0]["attack_accuracy_by_budget"]["0.5"]
    error = 4 * np.sqrt(0.25 / len(guess))
    assert protected == pytest.approx(promised, abs=error)
    assert protected < built[1]["attack"]["unprotected_accuracy"] - 0.1


def test_attack_accuracy_without_noise_is_the_unprotected_one(views):
    corpse = dead(fresh(FullyConnected(CLASSES, (8, 4), 1), 0))
    attacker = fresh(FullyConnected(CLASSES, (6,), 1), 1, glorot=True).model
    ascending = views.evaluation.as_training_data()[0]
    guess = query.logits(attacker, ascending)[:, 0].numpy() > 0
    figures = attacked(corpse, attacker, views.evaluation, (0.1, 1.0))
    expected = (guess == views.evaluation.members).mean()
    assert figures == {"0.1": pytest.approx(expected), "1": pytest.approx(expected)}


@pytest.mark.parametrize("says", [-2.0, 2.0])
def test_a_dead_defense_model_finds_no_noise(says, views):
    corpse = dead(fresh(FullyConnected(CLASSES, (8, 4), 1), 0))
    with torch.no_grad():
        linear_layers(corpse.model)[-1].bias.fill_(says)
    assert found_share(corpse, views.held_out) == 0
    noise = find_noise(to_device(corpse.model), views.held_out.logits)
    assert np.array_equal(noise.before, noise.after)


def test_a_dead_tier_is_retried_then_refused_and_not_written(
    shoppers, built, tmp_path, monkeypatch
):
    tried = []

    def stillborn(base, speedup, **options):
        tried.append(speedup)
        return dead(make_tier(base, speedup, **options))

    monkeypatch.setattr(membership_training, "make_tier", stillborn)
    folder = tmp_path / "bundles"
    document = build_membership(shoppers, SETTINGS, seed=1, run=opened(folder))
    assert tried == [2.0] * SETTINGS.attempts
    (tier,) = document["tiers"]
    assert tier["found"] == 0
    assert tier["released"] is False
    assert (tier["bundle"], tier["bytes"]) == (None, 0)
    assert list(folder.glob("*.safetensors")) == []
    # Every bound is lax, so that only the refusal can fail the definitions.
    assert document["definitions"]["passed"] is False
    unprotected = document["attack"]["unprotected_accuracy"]
    assert tier["attack_accuracy"] == pytest.approx(unprotected)
    assert document["base"] == built[1]["base"]


def test_a_tier_that_dies_once_is_replaced_by_one_that_lives(shoppers, tmp_path, monkeypatch):
    tried = []

    def weakly(base, speedup, **options):
        tried.append(options["pruner"])
        tier = make_tier(base, speedup, **options)
        return dead(tier) if len(tried) == 1 else tier

    monkeypatch.setattr(membership_training, "make_tier", weakly)
    folder = tmp_path / "bundles"
    document = build_membership(shoppers, SETTINGS, seed=1, run=opened(folder))
    assert len(tried) == 2
    assert tried[0] != tried[1]
    (tier,) = document["tiers"]
    assert tier["released"] is True
    assert load_bundle(folder / "synthetic-purchases-x2.safetensors").card["found"] == tier["found"]


def test_a_build_takes_up_every_finished_network(shoppers, built, monkeypatch):
    def untimely(*arguments, **options):
        raise AssertionError("a finished network was trained again")

    monkeypatch.setattr(membership_training, "fit", untimely)
    again = build_membership(shoppers, SETTINGS, seed=1, run=opened(built[0]))
    assert again == built[1]


def test_the_parties_see_disjoint_people(shoppers, views):
    split = membership_split(len(shoppers), 1)
    assert len(views.train.members) + len(views.held_out.members) == len(split.members) * 2
    assert views.evaluation.members.sum() == len(split.members)
    assert len(views.shadow.members) == len(split.shadow_members) + len(split.shadow_nonmembers)
    attacker = set(split.shadow_members) | set(split.shadow_nonmembers)
    defender = set(split.members) | set(split.nonmembers) | set(split.evaluation_nonmembers)
    assert not attacker & defender


def test_defense_models_train_on_confidences_in_ascending_order():
    logits = np.log([[0.7, 0.1, 0.2], [0.25, 0.25, 0.5]])
    inputs, labels = Observed(logits, np.array([True, False])).as_training_data()
    assert inputs.dtype == torch.float32
    assert inputs.numpy() == pytest.approx(np.array([[0.1, 0.2, 0.7], [0.25, 0.25, 0.5]]))
    assert labels.tolist() == [1, 0]


def test_too_few_people_are_refused():
    few = synthetic_purchases(1, n=10, features=5, classes=2)
    with pytest.raises(DataError, match="11"):
        observe(few, SETTINGS, seed=0, stages=Forgetful())


@pytest.mark.parametrize("speedups", [(), (0.5,), (2.0, 2.0), (float("nan"),)])
def test_settings_that_make_no_sense_are_refused(speedups):
    with pytest.raises(OptionError):
        MembershipSettings(speedups=speedups)


def test_images_are_classified_by_a_small_residual_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    pictures = rng.random((600, 3, 8, 8)).astype(np.float32)
    pictures[np.arange(600), labels] += 1.0
    table = Table((pictures / 2).astype(np.float32), labels, classes=3, name="tinted")
    settings = replace(SETTINGS, image_width=4, image_epochs=25, image_learning_rate=5e-3)
    views = observe(table, settings, seed=1, stages=(run := open_run(tmp_path, "protect", {})))
    assert views.accuracy["nonmembers"] > 0.6
    assert views.classes == 3
    assert run.record["stages"]["target"]["architecture"] == {"classes": 3, "width": 4}
    again = observe(table, settings, seed=1, stages=read_run(tmp_path, "protect"))
    np.testing.assert_array_equal(again.evaluation.logits, views.evaluation.logits)
