"""Attribute protection from training users to a person's protected file."""

import json

import numpy as np
import pytest
from scipy import sparse

from privet.attacks.attribute import guesses
from privet.cli import run
from privet.data.registry import load
from privet.data.synthetic import synthetic_ratings
from privet.data.table import Table
from privet.device import load_bundle
from privet.device.mechanism import least_divergence
from privet.errors import DataError, OptionError
from privet.jobs import attribute_training
from privet.jobs.attribute_evaluation import expected_accuracy
from privet.jobs.attribute_training import AttributeSettings, Recipe, split_users
from privet.jobs.protect_attribute import build_attribute
from privet.jobs.stages import open_run, read_run
from privet.jobs.tiers import Thresholds
from privet.models import FullyConnected, load_weights

BUILD = "protect build synthetic-ratings --hidden 32 --attacker-hidden 32 --speedups 2,4 --seed 6"
BUDGET = 3.0


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A finished build of two tiers: its folder and its JSON."""
    folder = tmp_path_factory.mktemp("attribute") / "bundles"
    assert run([*BUILD.split(), "--out", str(folder)]) == 0
    return folder, json.loads((folder / "protect.json").read_text())


@pytest.fixture(scope="module")
def attacker(built):
    """The attack model that judged the build; no defense model has seen it."""
    record, weights = read_run(built[0], "protect").recall("attacker")
    architecture = {**record["architecture"], "hidden": tuple(record["architecture"]["hidden"])}
    model = FullyConnected(**architecture).build()
    load_weights(model, weights)
    return model


@pytest.fixture(scope="module")
def strangers():
    """Test users, whom no network was trained on."""
    return load("synthetic-ratings").test


def pairs(records):
    """Spell ratings as lines of ``app:score`` pairs."""
    lines = []
    for record in records:
        present = np.flatnonzero(record)
        lines.append(" ".join(f"{app}:{record[app]:.1f}" for app in present))
    return "\n".join(lines) + "\n"


def read_pairs(path, features):
    lines = path.read_text().splitlines()
    records = np.zeros((len(lines), features), dtype=np.float32)
    for row, line in enumerate(lines):
        for pair in line.split():
            app, score = pair.split(":")
            records[row, int(app)] = float(score)
    return records


@pytest.mark.slow
def test_speed_ups_are_exact(built):
    base, tiers = built[1]["base"], built[1]["tiers"]
    assert base["macs"] == (500 + 8) * 32
    for tier, units in zip(tiers, (16, 8), strict=True):
        assert tier["macs"] == (500 + 8) * units
        assert tier["parameters"] == (500 + 8) * units + units + 8
        assert tier["reached_speedup"] == tier["asked_speedup"] == 32 / units
        network = load_bundle(built[0] / f"synthetic-ratings-x{32 // units}.safetensors").network
        assert network.sizes == (500, units, 8)
        assert network.macs == tier["macs"]


@pytest.mark.slow
def test_attack_accuracy_falls_with_the_budget_and_below_the_unprotected(built):
    attack = built[1]["attack"]
    assert attack["unprotected_accuracy"] > 0.5
    for tier in built[1]["tiers"]:
        figures = tier["attack_accuracy_by_budget"]
        assert list(figures) == ["1.5", "2", "3", "4", "5"]
        falling = list(figures.values())
        assert falling == sorted(falling, reverse=True)
        assert falling[0] < attack["unprotected_accuracy"] - 0.1
        # The prior is what remains to be guessed: about 1 / 8 here.
        assert falling[-1] > 1 / 8
        assert tier["attack_accuracy"] == pytest.approx(np.mean(falling))
        assert tier["reached_targets"] > 0.5  # half-way stops are candidates, too


@pytest.mark.slow
def test_definitions_are_those_of_the_figures(built):
    document = built[1]
    base = document["base"]
    for tier in document["tiers"]:
        verdict = tier["definitions"]
        held = verdict["measured"]
        assert held["m"] == pytest.approx(abs(tier["accuracy"] - base["accuracy"]))
        assert held["r"] == pytest.approx(tier["parameters"] / base["parameters"])
        assert held["q"] == pytest.approx(tier["attack_accuracy"])
        bounds = document["definitions"]
        assert verdict["bounds"] == {name: bounds[name] for name in "mrqn"}
        assert verdict["failed"] == [name for name in "mrqn" if held[name] > bounds[name]]
        assert verdict["passed"] == (verdict["failed"] == [])
    assert document["definitions"]["passed"] == all(
        tier["definitions"]["passed"] for tier in document["tiers"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("tier", [0, 1])
def test_a_protected_file_hides_the_attribute_as_promised(
    tier, built, attacker, strangers, tmp_path, capsys
):
    folder, document = built
    records = strangers.inputs.toarray()
    (tmp_path / "people.txt").write_text(pairs(records))
    bundle = folder / document["tiers"][tier]["bundle"].rpartition("/")[2]
    command = ["protect", "apply", str(tmp_path / "people.txt"), "--bundle", str(bundle)]
    command += ["--budget", str(BUDGET), "--key", str(tmp_path / "key"), "--json"]
    capsys.readouterr()
    assert run([*command, "--out", str(tmp_path / "safe.txt")]) == 0
    summary = json.loads(capsys.readouterr().out)
    safe = read_pairs(tmp_path / "safe.txt", 500)
    changed = (safe != records).sum(axis=1)
    assert summary["records"] == len(records)
    assert summary["mean_cost"] == pytest.approx(changed.mean())
    assert summary["mean_expected_cost"] <= BUDGET
    assert changed.mean() <= BUDGET + 4 * changed.std() / np.sqrt(len(records))

    unprotected = (guesses(attacker, records) == strangers.labels).mean()
    protected = (guesses(attacker, safe) == strangers.labels).mean()
    assert unprotected == pytest.approx(document["attack"]["unprotected_accuracy"])
    promised = document["tiers"][tier]["attack_accuracy_by_budget"][f"{BUDGET:g}"]
    assert protected < unprotected - 0.1
    # The build states an expectation, a release is one draw of it: within four standard errors.
    error = 4 * np.sqrt(promised * (1 - promised) / len(records))
    assert protected == pytest.approx(promised, abs=error)


def attack_command(folder, build):
    command = ["protect", "attack", str(folder / "people.txt"), "--json", "--build", str(build)]
    return [*command, "--labels", str(folder / "cities.txt")]


@pytest.mark.slow
def test_the_attack_command_guesses_as_the_build_did(built, strangers, tmp_path, capsys):
    (tmp_path / "people.txt").write_text(pairs(strangers.inputs.toarray()))
    (tmp_path / "cities.txt").write_text("".join(f"{label}\n" for label in strangers.labels))
    capsys.readouterr()
    assert run(attack_command(tmp_path, built[0])) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["users"] == 1000
    assert found["accuracy"] == pytest.approx(built[1]["attack"]["unprotected_accuracy"])
    assert found["low"] < found["accuracy"] < found["high"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("people", "cities"),
    [
        ("0:1\n1:0.4\n", "0\n"),  # fewer labels than users
        ("0:1\n", "8\n"),  # eight classes, 0 to 7
        ("0:1\n", "-1\n"),
        ("0:1\n", "Paris\n"),
        ("500:1\n", "0\n"),  # five hundred apps, 0 to 499
        ("0:1.5\n", "0\n"),
        ("", ""),
    ],
)
def test_the_attack_command_refuses_files_that_do_not_fit(people, cities, built, tmp_path, capsys):
    (tmp_path / "people.txt").write_text(people)
    (tmp_path / "cities.txt").write_text(cities)
    capsys.readouterr()
    assert run(attack_command(tmp_path, built[0])) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("privet: ")
    assert err.count("\n") == 1


def accuracy(prior, costs, hits, budget):
    psi = least_divergence(np.array(prior), np.array(costs), budget)
    return expected_accuracy(np.array(hits, dtype=bool), psi)


def test_attack_accuracy_where_the_prior_is_within_budget():
    # Both users' expected costs, 1.4 and 1.5, fit: psi is the prior.
    found = accuracy([0.5, 0.3, 0.2], [[0, 2, 4], [3, 0, 0]], [[1, 0, 1], [0, 1, 0]], 2.0)
    assert found == pytest.approx((0.7 + 0.3) / 2)


def test_attack_accuracy_where_two_targets_leave_no_choice():
    # Expected cost 0.5 fixes psi at (3/4, 1/4) and (1/8, 7/8), whatever the divergence.
    found = accuracy([0.5, 0.5], [[0, 2], [4, 0]], [[1, 0], [1, 0]], 0.5)
    assert found == pytest.approx((3 / 4 + 1 / 8) / 2)


def test_attack_accuracy_of_equally_dear_targets_follows_the_prior():
    # 2 (psi_2 + psi_3) = 1, shared between equals as the prior shares: 3 to 1.
    found = accuracy([0.2, 0.6, 0.2], [[0, 2, 2]], [[0, 1, 0]], 1.0)
    assert found == pytest.approx(0.5 * 3 / 4)


def small(**options):
    return AttributeSettings(
        hidden=16,
        attacker_hidden=8,
        speedups=(2.0,),
        base=Recipe(epochs=2),
        tier=Recipe(epochs=2),
        budgets=(2.0,),
        **options,
    )


@pytest.fixture(scope="module")
def people():
    return synthetic_ratings(3, users=300, features=40, classes=3)


def build(table, settings, folder):
    users = split_users(table, settings, 1)
    return build_attribute(users, settings, seed=1, run=open_run(folder, "protect", {}))


def test_a_build_takes_up_every_finished_network(people, tmp_path, monkeypatch):
    first = build(people, small(), tmp_path / "run")
    bundle = tmp_path / "run" / "synthetic-ratings-x2.safetensors"
    content = bundle.read_bytes()
    bundle.unlink()

    def untimely(*arguments, **options):
        raise AssertionError("a finished network was trained again")

    monkeypatch.setattr(attribute_training, "fit", untimely)
    assert build(people, small(), tmp_path / "run") == first
    assert bundle.read_bytes() == content


def test_a_build_interrupted_before_its_attacker_resumes(people, tmp_path, monkeypatch):
    fit, done = attribute_training.fit, []

    def dying(*arguments, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(fit(*arguments, **options))
        return done[-1]

    with monkeypatch.context() as patch:
        patch.setattr(attribute_training, "fit", dying)
        with pytest.raises(KeyboardInterrupt):
            build(people, small(), tmp_path / "run")
    assert read_run(tmp_path / "run", "protect").record["stages"].keys() == {"base", "tier-2"}
    resumed = build(people, small(), tmp_path / "run")
    unbroken = build(people, small(), tmp_path / "whole")
    for document in (resumed, unbroken):
        document["tiers"][0].pop("bundle")
    assert resumed == unbroken


@pytest.mark.slow
def test_the_same_command_on_a_finished_build_returns_it_at_once(built, monkeypatch, capsys):
    def untimely(*arguments, **options):
        raise AssertionError("a finished build was built again")

    monkeypatch.setattr(attribute_training, "fit", untimely)
    capsys.readouterr()
    assert run([*BUILD.split(), "--out", str(built[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == built[1]


def test_bounds_decide_what_passes(people, tmp_path):
    lax = Thresholds(m=1.0, r=1.0, q=1.0, n=1.0)
    strict = Thresholds(m=1.0, r=0.01, q=1.0, n=1.0)
    for name, thresholds, passed in (("lax", lax, True), ("strict", strict, False)):
        settings = small(thresholds=thresholds)
        document = build(people, settings, tmp_path / name)
        assert document["definitions"]["passed"] is passed
        assert document["tiers"][0]["definitions"]["failed"] == ([] if passed else ["r"])


def test_users_are_split_without_overlap_and_the_prior_is_theirs():
    inputs = np.arange(100, dtype=np.float32)[:, None] / 100
    table = Table(inputs, (np.arange(100) % 4 == 0).astype(np.int64), classes=2, name="hundred")
    users = split_users(table, AttributeSettings(), seed=2)
    parts = [part[0].numpy().ravel() for part in (users.train, users.dev, users.test)]
    assert [len(part) for part in parts] == [80, 10, 10]
    assert np.array_equal(np.sort(np.concatenate(parts)), inputs.ravel())
    frequency = users.train[1].double().mean().item()
    assert users.prior == pytest.approx([1 - frequency, frequency])


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_ratings_outside_0_to_1_are_refused(value):
    inputs = np.zeros((40, 3), dtype=np.float32)
    inputs[5, 1] = value
    for kept in (inputs, sparse.csr_array(inputs)):
        table = Table(kept, np.arange(40, dtype=np.int64) % 2, classes=2, name="odd")
        with pytest.raises(DataError, match="odd"):
            split_users(table, AttributeSettings(), seed=0)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": 0},
        {"attacker_hidden": 0},
        {"speedups": ()},
        {"speedups": (0.5,)},
        {"speedups": (2.0, 2.0)},
        {"speedups": (float("nan"),)},
    ],
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(OptionError):
        AttributeSettings(**options)


@pytest.mark.slow
def test_a_lost_bundle_is_written_again(built):
    folder, _ = built
    bundle = next(folder.glob("*.safetensors"))
    whole = bundle.read_bytes()
    bundle.unlink()
    assert run([*BUILD.split(), "--out", str(folder)]) == 0
    assert bundle.read_bytes() == whole
