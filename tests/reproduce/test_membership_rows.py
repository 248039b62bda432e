"""The rows of SP-ASPP's Table 1 for membership: what each tells, and that runs resume."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from privet.attacks.confidences import BUNDLE, CONFIDENCE_ATTACKERS
from privet.data.synthetic import synthetic_purchases
from privet.data.table import Table
from privet.errors import DataError, OptionError
from privet.jobs import membership_training
from privet.jobs.membership_evaluation import Observed, attacked, found_share
from privet.jobs.membership_training import (
    MembershipSettings,
    observe,
    train_attacker,
    train_base,
    train_tier,
)
from privet.jobs.stages import RunFolder, read_run
from privet.models import linear_layers
from privet.reproduce import membership_rows, table1
from privet.reproduce.membership_rows import Scale, scale_of
from privet.reproduce.table1 import reproduce_table1

CLASSES = 5
SETTINGS = MembershipSettings(
    target_hidden=(48,),
    target_epochs=40,
    defense_hidden=(32, 16),
    defense_epochs=60,
    tier_epochs=20,
    attacker_hidden=(16,),
    attacker_epochs=60,
    speedups=(2.0, 4.0),
    batch_size=32,
    learning_rate=0.05,
    budgets=(0.3, 1.0),
    attempts=2,
)
SCALE = Scale(SETTINGS, ("nn", "entr", "gap"))
NETWORKS = ("target", "shadow", "base", "attacker", "tier-2-attempt-0", "tier-4-attempt-0")
MACS = CLASSES * 32 + 32 * 16 + 16


@pytest.fixture(scope="module")
def shoppers():
    return synthetic_purchases(1, n=800, features=60, classes=CLASSES)


def rows(table, folder, *, scale=SCALE, seed=0):
    return membership_rows.rows(table, scale, dataset="location", seed=seed, folder=folder)


@pytest.fixture(scope="module")
def whole(shoppers, tmp_path_factory):
    """A seed that nothing broke: its folder, and its rows as JSON gives them back."""
    folder = tmp_path_factory.mktemp("table1") / "seed-0"
    rows(shoppers, folder)
    return folder, read_run(folder, "table1").result


@pytest.fixture(scope="module")
def networks(shoppers, whole):
    """The views, and the networks of `whole`: D and tiers in the order of its rows, attacker."""
    stages = read_run(whole[0], "table1")
    views = observe(shoppers, SETTINGS, seed=0, stages=stages)
    base = train_base(views, SETTINGS, seed=0, stages=stages)
    tiers = [
        train_tier(base, views, SETTINGS, speedup=speedup, seed=0, stages=stages)
        for speedup in SETTINGS.speedups
    ]
    attacker = train_attacker(views, SETTINGS, seed=0, stages=stages)
    return views, [base, *tiers], attacker


def weights(folder, name):
    return (folder / "stages" / f"{name}.safetensors").read_bytes()


def test_one_row_for_d_and_one_a_tier(whole, networks):
    document = whole[1]
    assert (document["attacker"], document["budgets"]) == ("nn", [0.3, 1.0])
    assert [row["nominal_speedup"] for row in document["rows"]] == [1, 2, 4]
    assert [row["method"] for row in document["rows"]] == ["MemGuard", "SP-ASPP", "SP-ASPP"]
    assert document["rows"][0]["macs"] == MACS
    for row, network in zip(document["rows"], networks[1], strict=True):
        layers = linear_layers(network.model)
        assert row["macs"] == sum(layer.weight.numel() for layer in layers)
        assert row["parameters"] == row["macs"] + sum(layer.bias.numel() for layer in layers)
        assert row["speedup"] == MACS / row["macs"] >= row["nominal_speedup"]
        assert row["control"] is False


def test_every_attacker_has_an_accuracy_and_an_auc(whole):
    document = whole[1]
    assert list(document["attackers"]) == list(SCALE.attackers)
    assert "knows the true label" in document["attackers"]["gap"]
    assert "knows" not in document["attackers"]["nn"]
    assert not any("bundle" in note for note in document["notes"])
    for row in [*document["rows"], {"attackers": document["unprotected"]}]:
        assert list(row["attackers"]) == list(SCALE.attackers)
        for figures in row["attackers"].values():
            assert list(figures) == ["accuracy", "auc"]
            for by_budget in figures.values():
                assert list(by_budget) == ["0.3", "1"]
                assert all(0 <= value <= 1 for value in by_budget.values())


def test_the_papers_attacker_is_the_trained_network(whole, networks):
    views, defenses, attacker = networks
    for row, defense in zip(whole[1]["rows"], defenses, strict=True):
        # As many members as nonmembers are judged: accuracy is balanced accuracy.
        expected = attacked(defense, attacker.model, views.evaluation, SETTINGS.budgets)
        assert row["attackers"]["nn"]["accuracy"] == pytest.approx(expected)
        assert row["attacked"] == len(views.evaluation.members)


def test_labels_tell_as_much_as_without_protection(whole):
    target = whole[1]["target"]
    gap = (target["members"] + 1 - target["nonmembers"]) / 2
    for row in [*whole[1]["rows"], {"attackers": whole[1]["unprotected"]}]:
        assert row["attackers"]["gap"]["accuracy"] == pytest.approx({"0.3": gap, "1": gap})


def test_confidences_tell_less_the_larger_the_budget(whole):
    before = whole[1]["unprotected"]["entr"]["auc"]["1"]
    for row in whole[1]["rows"]:
        auc = row["attackers"]["entr"]["auc"]
        assert before > auc["0.3"] > auc["1"]


def test_who_learns_from_what_and_what_decides(whole, networks, shoppers, tmp_path, monkeypatch):
    views, defenses, _ = networks
    attack, given = membership_rows.attack_confidences, []

    def seen(defense, **options):
        given.append((options["shadow"], options["vectors"]))
        return attack(defense, **options)

    monkeypatch.setattr(membership_rows, "attack_confidences", seen)
    monkeypatch.setattr(
        membership_rows, "found_share", lambda network, vectors: 0.001 * len(vectors.members)
    )
    document = rows(shoppers, tmp_path / "run", scale=Scale(SETTINGS, ("nn",)))
    for shadow, vectors in given:
        assert np.array_equal(shadow.logits, views.shadow.logits)
        assert np.array_equal(vectors.logits, views.evaluation.logits)
    held_out = len(views.held_out.members)
    assert [row["found"] for row in document["rows"]] == [0.001 * held_out] * len(defenses)
    assert not any(row["released"] for row in document["rows"])
    for row, defense in zip(whole[1]["rows"], defenses, strict=True):
        assert row["found"] == found_share(defense, views.held_out) >= SETTINGS.least_found
        assert row["released"] is True


def test_a_dead_tier_is_no_protection_and_not_released(shoppers, whole, tmp_path, monkeypatch):
    make = membership_training.make_tier

    def stillborn(base, speedup, **options):
        tier = make(base, speedup, **options)
        with torch.no_grad():
            last_hidden = linear_layers(tier.model)[-2]
            last_hidden.weight.zero_()
            last_hidden.bias.fill_(-1.0)
        return tier

    monkeypatch.setattr(membership_training, "make_tier", stillborn)
    document = rows(shoppers, tmp_path / "run")
    base, *tiers = document["rows"]
    assert json.loads(json.dumps(base)) == whole[1]["rows"][0]
    for tier in tiers:
        assert (tier["found"], tier["released"]) == (0, False)
        for name, figures in tier["attackers"].items():
            for figure, by_budget in figures.items():
                assert by_budget == pytest.approx(document["unprotected"][name][figure])


@pytest.mark.parametrize("stage", ["tier-2-attempt-0", "row-0", "row-4"])
def test_a_killed_run_ends_in_the_same_document(stage, whole, shoppers, tmp_path, monkeypatch):
    keep = RunFolder.keep

    def killed(self, name, record, tensors):
        if name == stage:
            raise MemoryError("killed")
        keep(self, name, record, tensors)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "keep", killed)
        with pytest.raises(MemoryError):
            rows(shoppers, folder)
    done = read_run(folder, "table1").record["stages"]
    assert stage not in done
    assert "attacker" in done
    trained = membership_training.fit
    seen = []

    def counted(setup, seed, **options):
        seen.append(seed)
        return trained(setup, seed, **options)

    monkeypatch.setattr(membership_training, "fit", counted)
    assert json.loads(json.dumps(rows(shoppers, folder))) == whole[1]
    assert len(seen) == len(set(NETWORKS) - done.keys())
    for name in NETWORKS:
        assert weights(folder, name) == weights(whole[0], name)


def test_what_is_judged_decides_nothing(whole, shoppers, tmp_path, monkeypatch):
    def turned(*arguments, **options):
        views = observe(*arguments, **options)
        judged = views.evaluation
        other = Observed(judged.logits[::-1].copy(), ~judged.members, judged.labels)
        return replace(views, evaluation=other)

    monkeypatch.setattr(membership_rows, "observe", turned)
    document = rows(shoppers, tmp_path / "run")
    for name in NETWORKS:
        assert weights(tmp_path / "run", name) == weights(whole[0], name)
    for row, before in zip(document["rows"], whole[1]["rows"], strict=True):
        assert {key for key in row if row[key] != before[key]} == {"attackers", "unprotected"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"scale": replace(SCALE, attackers=("nn",))}, "attackers"),
        ({"scale": replace(SCALE, settings=replace(SETTINGS, tier_epochs=21))}, "settings"),
        ({"seed": 1}, "seed = 0, not 1"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(change, word, whole, shoppers):
    before = (whole[0] / "run.json").read_bytes()
    with pytest.raises(OptionError, match=word):
        rows(shoppers, whole[0], **change)
    assert (whole[0] / "run.json").read_bytes() == before


@pytest.mark.parametrize("problem", ["few", "out of reach"])
def test_what_cannot_be_built_leaves_no_folder(problem, shoppers, tmp_path):
    scale, table = SCALE, shoppers
    if problem == "few":
        table = shoppers.take(np.arange(10))
    else:
        scale = replace(SCALE, settings=replace(SETTINGS, speedups=(900.0,)))
    with pytest.raises((DataError, OptionError), match=r"11|out of reach"):
        rows(table, tmp_path / "run", scale=scale)
    assert list(tmp_path.iterdir()) == []


def test_speed_ups_follow_from_the_number_of_classes(shoppers):
    many = synthetic_purchases(1, n=100, features=20, classes=11)
    for name in ("small", "paper"):
        assert scale_of(many, name).settings.speedups == (20, 40, 60)
        assert scale_of(shoppers, name).settings.speedups == (50, 100, 150, 200)
    assert scale_of(many, "paper").attackers == tuple(CONFIDENCE_ATTACKERS)
    small = scale_of(many, "small")
    left_out = set(CONFIDENCE_ATTACKERS) - set(small.attackers)
    assert left_out == {name for name, each in CONFIDENCE_ATTACKERS.items() if BUNDLE in each.knows}
    assert small.attackers[0] == "nn"


def test_pictures_too(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    pictures = rng.random((300, 3, 8, 8)).astype(np.float32)
    pictures[np.arange(300), labels] += 0.3
    table = Table((pictures / 1.3).astype(np.float32), labels, classes=3, name="tinted")
    settings = replace(SETTINGS, image_width=4, image_epochs=2, speedups=(4.0,))
    document = rows(table, tmp_path / "run", scale=Scale(settings, ("nn", "gap")))
    assert [row["nominal_speedup"] for row in document["rows"]] == [1, 4]
    assert document["rows"][0]["macs"] == 3 * 32 + 32 * 16 + 16
    stages = read_run(tmp_path / "run", "table1").record["stages"]
    for name in ("target", "shadow"):
        assert stages[name]["architecture"] == {"classes": 3, "width": 4}
    with pytest.raises(OptionError, match="4"):
        rows(replace(table, inputs=pictures[:, :, :4, :4] / 2), tmp_path / "small", scale=SCALE)
    assert not (tmp_path / "small").exists()


@pytest.mark.slow
def test_all_attackers_those_with_the_bundle_too(shoppers, tmp_path):
    scale = Scale(replace(SETTINGS, speedups=(2.0,), budgets=(0.5,)))
    document = rows(shoppers, tmp_path / "run", scale=scale)
    assert list(document["attackers"]) == list(CONFIDENCE_ATTACKERS)
    assert any("bundle" in note for note in document["notes"])
    for row in document["rows"]:
        assert row["attackers"].keys() == CONFIDENCE_ATTACKERS.keys()
        holding = row["attackers"]["boosting-adaptive"]["auc"]["0.5"]
        assert holding > row["attackers"]["boosting"]["auc"]["0.5"]


def test_published_figures_stand_beside_the_papers_speed_ups(tmp_path, monkeypatch):
    table = synthetic_purchases(1, n=400, features=30, classes=30)
    settings = replace(
        SETTINGS, target_epochs=4, defense_hidden=(256, 128, 64), defense_epochs=4, tier_epochs=2
    )
    scale = Scale(replace(settings, speedups=(20.0, 25.0), attempts=1), ("nn", "gap"))
    monkeypatch.setattr(table1, "load", lambda dataset: table)
    monkeypatch.setattr(membership_rows, "scale_of", lambda table, name: scale)
    document = reproduce_table1("location", out=tmp_path / "out", scale="small", seeds=[0, 1])
    base, tier, between = document["rows"]
    assert base["paper"] == {"accuracy": 0.8575, "parameters": 49200, "attack_accuracy": 0.5946}
    assert tier["paper"] == {"accuracy": 0.8575, "parameters": 2400, "attack_accuracy": 0.6147}
    assert between["paper"] is None
    # The paper's own defense model: 30 classes, hidden layers of 256, 128 and 64.
    assert base["parameters"] == pytest.approx(base["paper"]["parameters"], rel=0.01)
    assert tier["parameters"] == pytest.approx(tier["paper"]["parameters"], rel=0.05)
    assert document["kind"] == "membership"
    for row in document["rows"]:
        assert len(row["found"]) == len(row["released"]) == 2
        assert row["attackers"]["nn"]["auc_by_budget"].keys() == {"0.3", "1"}
        assert row["attack_accuracy"] == row["attackers"]["nn"]["accuracy"]
    assert json.loads((tmp_path / "out" / "table1.json").read_text()) == json.loads(
        json.dumps(document)
    )
