"""`privet audit RUN` as its users run it: canaries, what the JSON holds, gate and page."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cli.commands import ONE_JOB, PRUNE, SEED, asked, files, make_run, refusal, the_json
from privet.data.registry import load
from privet.data.splits import plant_canaries, pruning_split
from privet.models import from_description
from privet.report import wording

CANARIES = 20
CONTRACT = {"adaptive", "online", "shadows", "findings", "skipped", "seconds", "seed", "versions"}


@pytest.fixture(scope="module")
def canaried(tmp_path_factory):
    """A run with planted canaries, and its audit."""
    folder = make_run(tmp_path_factory.mktemp("canaried") / "run", f"--canaries {CANARIES}")
    return folder, the_json(f"audit {{}} --shadows 3 {ONE_JOB} --attacks loss,gap,lira", folder)


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    """A run that learned noise by heart, audited."""
    folder = tmp_path_factory.mktemp("overfitted")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "noise.npz", X=rng.random((600, 10)).astype("f4"), y=rng.integers(2, size=600)
    )
    # Without a growing development accuracy, rounds and training end after five epochs.
    prune = "prune {} --rounds 1 --sparsity 0.1 --dense-epochs 400 --epochs 1 --seed 1 --out {}"
    assert asked(prune, folder / "noise.npz", folder / "run")[0] == 0
    return folder / "run"


# Canaries


def planted():
    table = load("digits")
    return plant_canaries(table, pruning_split(table, SEED), count=CANARIES, seed=SEED)


def target_of(folder):
    """Return the pruned network of a run, read from its files."""
    record = json.loads((folder / "run.json").read_text())
    model = from_description(record["stages"]["model"]["architecture"]).build()
    model.load_state_dict(load_file(folder / "stages" / "model.safetensors"))
    return model.eval()


def test_canaries_are_judged_apart_and_count_on_neither_side(canaried):
    audit, made = canaried[1], planted()
    assert audit["canaries"] == {"members": 10, "nonmembers": 10}
    for finding in audit["findings"]:
        assert finding["members"] == len(made.split.train) - 10 == 698
        assert finding["nonmembers"] == len(made.split.test) == 120
        (group,) = finding["breakdowns"]["canaries"]
        assert (group["members"], group["nonmembers"]) == (10, 10)
        assert 0 <= group["auc"] <= 1
        classes, quartiles = (finding["breakdowns"][kind] for kind in ("class", "memorization"))
        for side, count in (("members", 698), ("nonmembers", 120)):
            assert sum(each[side] for each in classes) == count
            # Not known of samples that all, or none, of the few shadow models trained on.
            assert 0.8 * count < sum(each[side] for each in quartiles) <= count


def test_held_out_canaries_train_nothing(canaried):
    made, result = planted(), json.loads((canaried[0] / "run.json").read_text())["result"]
    parts = [made.split.train, made.split.dev, made.split.test, made.split.attacker, made.held_out]
    together = np.concatenate(parts)
    assert len(together) == len(set(together.tolist())) == len(load("digits"))
    with torch.no_grad():
        rows = made.table.take(made.split.train)
        right = target_of(canaried[0])(torch.from_numpy(rows.inputs)).argmax(dim=1).numpy()
    assert result["train_accuracy"] == pytest.approx((right == rows.labels).mean())
    assert result["canaries"] == CANARIES


def test_the_most_exposed_are_rows_of_the_training_split(canaried):
    made = planted()
    ordinary = set(made.split.train[made.planted :].tolist())
    for finding in canaried[1]["findings"]:
        rows = [entry["sample"] for entry in finding["most_exposed"]]
        assert len(rows) == len(set(rows)) == 10
        assert set(rows) <= ordinary


def test_the_most_exposed_by_loss_are_those_of_least_loss(canaried):
    made = planted()
    rows = made.split.train[made.planted :]
    part = made.table.take(rows)
    with torch.no_grad():
        logits = target_of(canaried[0])(torch.from_numpy(part.inputs))
    losses = torch.nn.functional.cross_entropy(
        logits.double(), torch.from_numpy(part.labels), reduction="none"
    )
    expected = rows[np.argsort(losses.numpy(), kind="stable")[:10]]
    found = next(each for each in canaried[1]["findings"] if each["attack"] == "loss")
    assert {entry["sample"] for entry in found["most_exposed"]} == set(expected.tolist())


def test_the_report_tells_of_the_canaries(canaried, tmp_path):
    page = tmp_path / "page.html"
    assert asked("report {} --out {}", canaried[0], page)[0] == 0
    told = page.read_text()
    assert "planted canaries" in told.lower()
    strongest = max(
        (each["breakdowns"]["canaries"][0] for each in canaried[1]["findings"]),
        key=lambda group: group["auc"],
    )
    assert wording.auc(strongest) in told


@pytest.mark.parametrize("count", [0, 10])
def test_a_run_with_canaries_is_not_resumed_with_another_number(count, canaried, capsys):
    before = files(canaried[0])
    command = f"{PRUNE} --canaries {count} --out {{}}"
    assert "canaries" in refusal(command, canaried[0], capsys=capsys)
    assert files(canaried[0]) == before


def test_a_run_without_canaries_has_no_group_of_them(undefended):
    audit = the_json(f"audit {{}} --shadows 1 {ONE_JOB} --attacks gap", undefended)
    assert audit["canaries"] is None
    assert "canaries" not in audit["findings"][0]["breakdowns"]


def test_offline_canaries_are_judged_too(canaried, tmp_path):
    folder = shutil.copytree(canaried[0], tmp_path / "run")
    audit = the_json(f"audit {{}} --offline --shadows 1 {ONE_JOB} --attacks loss", folder)
    (group,) = audit["findings"][0]["breakdowns"]["canaries"]
    assert (group["members"], group["nonmembers"]) == (10, 10)


# What the JSON holds


def test_the_json_keeps_the_contract(canaried):
    folder, audit = canaried
    assert audit.keys() >= CONTRACT | {"dataset", "defense", "pruner", "sparsity", "canaries"}
    assert (audit["adaptive"], audit["online"], audit["shadows"]) == (True, True, 3)
    assert audit["skipped"] == {}
    assert [finding["attack"] for finding in audit["findings"]] == ["loss", "gap", "lira"]
    for finding in audit["findings"]:
        assert finding["breakdowns"].keys() == {"class", "memorization", "canaries"}
        assert [each["name"] for each in finding["breakdowns"]["class"]] == list("0123456789")
        assert 0 <= finding["auc_low"] <= finding["auc"] <= finding["auc_high"] <= 1
        assert finding["tpr_at_fpr"].keys() == {"0.1", "0.01", "0.001"}
        assert finding["tpr_at_fpr"]["0.001"]["resolved"] is False
    assert json.loads((folder / "audit.json").read_text()) == audit


def test_one_shadow_model_cannot_tell_memorization_and_still_reports(undefended, tmp_path):
    audit = the_json(f"audit {{}} --shadows 1 {ONE_JOB} --attacks conf,lira", undefended)
    conf, lira = audit["findings"]
    assert conf["breakdowns"]["memorization"] == []
    assert lira["balanced_accuracy"] is None
    assert asked("report {} --out {}", undefended, tmp_path / "page.html")[0] == 0


def test_an_overfitted_network_is_found_out(overfitted):
    audit = the_json(f"audit {{}} --shadows 2 {ONE_JOB} --attacks conf,loss,gap", overfitted)
    conf, loss, _ = audit["findings"]
    assert conf["auc"] > 0.6
    assert conf["auc_low"] > 0.5
    assert conf["balanced_accuracy"] > 0.55
    assert loss["auc"] == pytest.approx(conf["auc"])


# The gate


def test_the_gate_passes_and_fails_by_the_audit(canaried, tmp_path):
    folder = canaried[0]
    auc = max(finding["auc"] for finding in canaried[1]["findings"])
    assert asked(f"gate {{}} --max auc<={auc}", folder)[0] == 0
    assert asked(f"gate {{}} --max auc<{auc}", folder)[0] == 1
    assert asked("gate {} --max auc<=1 --min accuracy>=1", folder)[0] == 1


def test_the_gate_does_not_take_an_old_audit_for_a_new_run(undefended, tmp_path, capsys):
    the_json(f"audit {{}} --shadows 1 {ONE_JOB} --attacks gap", undefended)
    audit = (undefended / "audit.json").read_bytes()
    # The folder that still holds the old audit is no place for a new run ...
    (undefended / "run.json").unlink()
    again = f"{PRUNE} --out {{}}".replace(f"--seed {SEED}", "--seed 4")
    assert "no run" in refusal(again, undefended, capsys=capsys)
    # ... and an old audit put beside a new run is seen through.
    shutil.rmtree(undefended)
    assert asked(again, undefended)[0] == 0
    assert "not been audited" in refusal("gate {} --max auc<=1", undefended, capsys=capsys)
    (undefended / "audit.json").write_bytes(audit)
    assert "another run" in refusal("gate {} --max auc<=1", undefended, capsys=capsys)


def test_the_gate_does_not_take_a_naive_audit(undefended, capsys):
    the_json(f"audit {{}} --non-adaptive --shadows 1 {ONE_JOB} --attacks gap", undefended)
    assert "not been audited" in refusal("gate {} --max auc<=1", undefended, capsys=capsys)
    shutil.copy(undefended / "audit-non-adaptive.json", undefended / "audit.json")
    assert "non-adaptive" in refusal("gate {} --max auc<=1", undefended, capsys=capsys)


# The page


@pytest.mark.parametrize("name", ["run.json", "audit.json", "stages/model.safetensors"])
def test_the_page_does_not_overwrite_the_run(name, canaried, tmp_path, capsys):
    folder = shutil.copytree(canaried[0], tmp_path / "run")
    before = (folder / name).read_bytes()
    refusal("report {} --out {}", folder, folder / name, capsys=capsys)
    assert (folder / name).read_bytes() == before
