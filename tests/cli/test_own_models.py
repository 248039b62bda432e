"""`privet prune --model package.module:factory --weights --heldout`: a network of one's own."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cli.commands import ONE_JOB, asked, refusal, the_json

NETWORK = """
from torch import nn

def make():
    return nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 3))
"""
PRUNE = "prune members.npz --model own_networks:make --epochs 2 --rounds 2 --seed 3"
OWN = f"{PRUNE} --weights trained.safetensors --heldout outside.npz"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a module, trained weights, and data inside and outside the training set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_networks.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    for name, count in (("members", 90), ("outside", 60)):
        labels = rng.integers(3, size=count)
        inputs = rng.normal(size=(count, 5))
        inputs[np.arange(count), labels] += 2
        np.savez(tmp_path / f"{name}.npz", X=inputs.astype("f4"), y=labels)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 24), torch.nn.ReLU(), torch.nn.Linear(24, 3))
    save_file(network.state_dict(), tmp_path / "trained.safetensors")
    return tmp_path


def stage(name):
    return load_file(f"run/stages/{name}.safetensors")


def test_given_weights_are_pruned_and_not_trained_before(place):
    result = the_json(f"{OWN} --out run")
    assert result["model"] == "own"
    trained, dense, pruned = load_file("trained.safetensors"), stage("dense"), stage("model")
    assert all(torch.equal(dense[name], trained[name]) for name in trained)
    assert int((pruned["0.weight"] == 0).sum()) == round(0.6 * 5 * 24)
    settings = json.loads((place / "run" / "run.json").read_text())["settings"]
    assert settings["dense_epochs"] == 0
    # All rows train, and the attacker has none of its own.
    audit = the_json(f"audit run --attacks conf,calibrated --shadows 2 {ONE_JOB}")
    assert {(each["members"], each["nonmembers"]) for each in audit["findings"]} == {(90, 40)}
    assert audit["online"] is True


def test_without_data_of_its_own_the_attacker_has_to_know_the_audited_rows(place, capsys):
    the_json(f"{OWN} --out run")
    said = refusal(f"audit run --offline --attacks conf --shadows 1 {ONE_JOB}", capsys=capsys)
    assert "--offline" in said
    assert not (place / "run" / "shadows").exists()


@pytest.mark.parametrize("defense", ["distill", "dp"])
def test_a_defense_of_all_training_begins_with_fresh_weights(defense, place, capsys):
    the_json(f"{OWN} --defense {defense} --dense-epochs 1 --out run")
    said = " ".join(capsys.readouterr().err.split())
    assert f"{defense} shapes all of training and begins afresh" in said
    settings = json.loads((place / "run" / "run.json").read_text())["settings"]
    assert settings["dense_epochs"] == 1
    assert not torch.equal(stage("dense")["0.weight"], load_file("trained.safetensors")["0.weight"])


def test_unless_told_otherwise_it_trains_as_long_as_the_defense_wants(place):
    the_json(f"{OWN} --defense distill --out run")
    settings = json.loads((place / "run" / "run.json").read_text())["settings"]
    assert settings["dense_epochs"] > 0


def test_without_weights_half_of_the_data_trains_it(place):
    result = the_json(f"{PRUNE} --dense-epochs 2 --pruner structural --out run")
    assert result["parameters"] < result["dense_parameters"]
    assert stage("model")["0.weight"].shape == (10, 5)
    audit = the_json(f"audit run --attacks conf --shadows 1 {ONE_JOB}")
    assert audit["findings"][0]["members"] == 36


def test_a_run_is_audited_only_with_the_weights_and_data_it_was_made_from(place, capsys):
    the_json(f"{OWN} --out run")
    state = load_file("trained.safetensors")
    save_file({name: tensor + 1 for name, tensor in state.items()}, "trained.safetensors")
    said = refusal(f"audit run --attacks conf --shadows 1 {ONE_JOB}", capsys=capsys)
    assert "has changed since" in said
    assert "weights_digest" in refusal(f"{OWN} --out run", capsys=capsys)


def test_a_finished_run_is_found_again_and_reported(place):
    first = the_json(f"{OWN} --out run")
    assert the_json(f"{OWN} --out run") == first
    assert asked("report run")[0] == 0


def test_an_audit_without_data_of_the_attackers_cannot_score_all_rows(place, capsys):
    the_json(f"{OWN} --out first")
    the_json(f"audit first --attacks conf --shadows 4 {ONE_JOB}")
    # Some of the audited rows stopped the training of shadow models, and trained none.
    said = refusal(f"{OWN} --defense rmr --scores-of first --out run", capsys=capsys)
    assert "leave out --scores-of" in said
    assert not (place / "run").exists()


def test_options_of_rounds_and_pruner_reach_the_run(place):
    options = "--schedule linear --pruner-set scope=global --rewind 1 --dense-epochs 2 --rounds 3"
    result = the_json(f"{PRUNE} {options} --out run".replace("--rounds 2 ", ""))
    assert [each["sparsity"] for each in result["rounds"]] == pytest.approx([0, 0.3, 0.6])
    settings = json.loads((place / "run" / "run.json").read_text())["settings"]
    assert settings["pruner_options"] == {"scope": "global"}
    assert settings["rewind"] == 1
