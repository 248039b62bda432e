"""`privet audit` as its users run it: runs with canaries, any attacker, recorded signals."""

import json
import shutil
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evidence import make_evidence
from privet.attacks import ATTACKS
from privet.cli import run
from privet.data.registry import load
from privet.data.splits import plant_canaries, pruning_split
from privet.models import FullyConnected
from privet.report import wording

TINY = "--epochs 1 --dense-epochs 2 --rounds 2"
SEED, CANARIES = 3, 20
PRUNE = f"prune digits {TINY} --seed {SEED}"
ONE_JOB = "--jobs 1 --seed 0"
CONTRACT = {"adaptive", "online", "shadows", "findings", "skipped", "seconds", "seed", "versions"}


def asked(command, *places):
    """Run a command whose {} stand for places; return its exit status and its stdout."""
    printed, arguments, rest = StringIO(), [], iter(places)
    for word in command.split():
        arguments.append(str(next(rest)) if word == "{}" else word)
    with redirect_stdout(printed):
        status = run(arguments)
    return status, printed.getvalue()


def the_json(command, *places):
    status, printed = asked(f"{command} --json", *places)
    assert status == 0
    return json.loads(printed)


def refusal(command, *places, capsys):
    """Return the one line with which a command is refused."""
    capsys.readouterr()
    status, printed = asked(command, *places)
    err = capsys.readouterr().err
    assert (status, printed, err.count("\n")) == (2, "", 1), err
    assert err.startswith("privet: ")
    return err


def timeless(document):
    if isinstance(document, dict):
        return {key: timeless(value) for key, value in document.items() if key != "seconds"}
    return [timeless(entry) for entry in document] if isinstance(document, list) else document


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def answers(file):
    with np.load(file) as held:
        return dict(held)


def make_run(folder, options=""):
    assert asked(f"{PRUNE} {options} --out {{}}", folder)[0] == 0
    return folder


@pytest.fixture(scope="module")
def canaried(tmp_path_factory):
    """A run with planted canaries, and its audit."""
    folder = make_run(tmp_path_factory.mktemp("canaried") / "run", f"--canaries {CANARIES}")
    return folder, the_json(f"audit {{}} --shadows 3 {ONE_JOB} --attacks loss,gap,lira", folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Finished runs, one undefended and one not; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    return {name: make_run(folder / name, f"--defense {name}") for name in ("none", "rsw")}


@pytest.fixture
def undefended(finished, tmp_path):
    return shutil.copytree(finished["none"], tmp_path / "none")


@pytest.fixture
def defended(finished, tmp_path):
    return shutil.copytree(finished["rsw"], tmp_path / "rsw")


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
    model = FullyConnected(**record["stages"]["model"]["architecture"]).build()
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


# Other attackers


@pytest.mark.slow
def test_an_attacker_who_does_not_know_the_defense(undefended, defended):
    command = f"audit {{}} --shadows 2 {ONE_JOB} --attacks conf,mentr"
    known = the_json(command, defended)
    before = (defended / "audit.json").read_bytes()
    unknown = the_json(f"{command} --non-adaptive", defended)
    assert (defended / "audit.json").read_bytes() == before
    assert json.loads((defended / "audit-non-adaptive.json").read_text()) == unknown
    assert (known["adaptive"], unknown["adaptive"]) == (True, False)
    assert timeless(known["findings"]) != timeless(unknown["findings"])
    # Shadow models know nothing of the target: without its defense they are an undefended run's.
    the_json(command, undefended)
    for file in ("0000.npz", "0001.npz"):
        naive = answers(defended / "shadows" / "online-non-adaptive-seed-0" / file)
        plain = answers(undefended / "shadows" / "online-seed-0" / file)
        adapted = answers(defended / "shadows" / "online-seed-0" / file)
        assert naive.keys() == plain.keys()
        for name in naive:
            np.testing.assert_array_equal(naive[name], plain[name])
        assert not np.array_equal(naive["logits"], adapted["logits"])


def test_without_a_defense_there_is_nothing_to_adapt_to(undefended):
    command = f"audit {{}} --shadows 1 {ONE_JOB} --attacks conf"
    assert timeless(the_json(command, undefended)["findings"]) == timeless(
        the_json(f"{command} --non-adaptive", undefended)["findings"]
    )


@pytest.mark.slow
def test_an_offline_attacker_runs_what_it_can(undefended, capsys):
    audit = the_json(f"audit {{}} --offline --shadows 3 {ONE_JOB}", undefended)
    assert audit["online"] is False
    assert audit["skipped"].keys() == {"lira", "rmia"}
    assert {each["attack"] for each in audit["findings"]} == ATTACKS.keys() - {"lira", "rmia"}
    assert all("memorization" not in each["breakdowns"] for each in audit["findings"])
    assert sorted(p.name for p in (undefended / "shadows").iterdir()) == ["offline-seed-0"]
    for name in ("lira", "rmia"):
        err = refusal(
            f"audit {{}} --offline --attacks {name} --shadows 3", undefended, capsys=capsys
        )
        assert f"'{name}'" in err
    both = f"audit {{}} --offline --shadows 3 {ONE_JOB} --attacks lira-offline,rmia-offline"
    for finding in the_json(both, undefended)["findings"]:
        assert 0 <= finding["balanced_accuracy"] <= 1
    assert asked("report {}", undefended)[0] == 0


def test_an_attack_that_cannot_run_is_refused_before_shadow_models_train(undefended, capsys):
    refusal(f"audit {{}} --offline --attacks lira --shadows 1 {ONE_JOB}", undefended, capsys=capsys)
    assert not (undefended / "shadows").exists()


# Shadow models on disk


def test_more_shadow_models_join_those_that_are_there(undefended, finished, tmp_path):
    command = f"audit {{}} {ONE_JOB} --attacks conf,lira"
    the_json(f"{command} --shadows 2", undefended)
    first = files(undefended / "shadows")
    assert len(first) == 2 + 1  # and whose they are
    more = the_json(f"{command} --shadows 3", undefended)
    after = files(undefended / "shadows")
    assert len(after) == 3 + 1
    assert first.items() <= after.items(), "a finished shadow model was trained again"
    at_once = the_json(
        f"{command} --shadows 3", shutil.copytree(finished["none"], tmp_path / "new")
    )
    assert timeless(more) == timeless(at_once)


def test_fewer_shadow_models_use_the_first_ones(undefended):
    command = f"audit {{}} {ONE_JOB} --attacks conf"
    few = the_json(f"{command} --shadows 1", undefended)
    the_json(f"{command} --shadows 2", undefended)
    assert timeless(the_json(f"{command} --shadows 1", undefended)) == timeless(few)


def test_another_seed_has_shadow_models_of_its_own(undefended):
    for seed in (0, 1):
        the_json(f"audit {{}} --jobs 1 --shadows 1 --attacks gap --seed {seed}", undefended)
    one, other = (undefended / "shadows" / f"online-seed-{seed}" / "0000.npz" for seed in (0, 1))
    assert not np.array_equal(answers(one)["logits"], answers(other)["logits"])


@pytest.mark.slow
def test_how_many_train_at_the_same_time_changes_nothing(undefended, finished, tmp_path):
    command = "audit {} --shadows 3 --attacks conf,lira --jobs"
    other = shutil.copytree(finished["none"], tmp_path / "other")
    assert timeless(the_json(f"{command} 1", undefended)) == timeless(
        the_json(f"{command} 2", other)
    )


def test_shadow_models_of_another_run_are_not_taken_for_its_own(undefended, tmp_path, capsys):
    other = tmp_path / "other"
    assert asked(f"{PRUNE} --seed 4 --out {{}}".replace(f"--seed {SEED} ", ""), other)[0] == 0
    the_json(f"audit {{}} --shadows 1 {ONE_JOB} --attacks conf", undefended)
    shutil.copytree(undefended / "shadows", other / "shadows")
    command = f"audit {{}} --shadows 1 {ONE_JOB} --attacks conf"
    assert "shadows" in refusal(command, other, capsys=capsys)


def test_a_damaged_shadow_model_is_named_in_one_line(undefended, capsys):
    command = f"audit {{}} --shadows 1 {ONE_JOB} --attacks conf"
    the_json(command, undefended)
    file = undefended / "shadows" / "online-seed-0" / "0000.npz"
    file.write_bytes(file.read_bytes()[:300])
    before = (undefended / "audit.json").read_bytes()
    assert "0000.npz" in refusal(command, undefended, capsys=capsys)
    assert (undefended / "audit.json").read_bytes() == before


# Attacks by name


@pytest.mark.slow
def test_every_attack_runs_by_its_name_as_it_does_among_all(undefended):
    command = f"audit {{}} --shadows 3 {ONE_JOB}"
    together = the_json(command, undefended)
    assert together["skipped"] == {}
    assert [finding["attack"] for finding in together["findings"]] == list(ATTACKS)
    for finding in together["findings"]:
        name = finding["attack"]
        alone = the_json(f"{command} --attacks {name}", undefended)["findings"]
        assert timeless(alone) == timeless([finding]), name
        assert 0 <= finding["balanced_accuracy"] <= 1
        assert finding["paper"] == ATTACKS[name].paper


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


# Recorded signals


@pytest.fixture
def recorded(tmp_path):
    """Files of recorded signals, a target's and references', with all that attacks may need."""
    evidence, members = make_evidence(leak=2.0, seed=0, samples=400)
    target, reference = evidence.target, evidence.reference
    np.savez(
        tmp_path / "target.npz",
        logits=target.logits[0],
        labels=target.labels,
        members=members,
        sensitivity=target.sensitivity[0],
        robustness=target.robustness[0],
    )
    np.savez(
        tmp_path / "refs.npz",
        logits=reference.logits,
        members=evidence.reference_members,
        sensitivity=reference.sensitivity,
        robustness=reference.robustness,
    )
    return tmp_path / "target.npz", tmp_path / "refs.npz"


def without(file, *names):
    held = {name: array for name, array in answers(file).items() if name not in names}
    np.savez(file, **held)


def test_recorded_robustness_makes_label_only_run(recorded):
    command = "audit --signals {} --reference {} --attacks label-only"
    (finding,) = the_json(command, *recorded)["findings"]
    assert finding["auc"] > 0.7


@pytest.mark.slow
def test_recorded_sensitivity_makes_samia_run(recorded):
    command = "audit --signals {} --reference {} --attacks samia"
    (finding,) = the_json(command, *recorded)["findings"]
    assert finding["auc"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [0, 1])
def test_noisy_signals_in_one_file_alone_are_not_enough(lacking, recorded, capsys):
    without(recorded[lacking], "sensitivity", "robustness")
    audit = the_json("audit --signals {} --reference {}", *recorded)
    assert audit["skipped"].keys() == {"samia", "label-only", "multi-release"}
    err = refusal("audit --signals {} --reference {} --attacks samia", *recorded, capsys=capsys)
    assert "'samia'" in err


def test_the_gate_judges_recorded_signals(recorded, tmp_path):
    out = tmp_path / "found.json"
    the_json("audit --signals {} --reference {} --attacks conf,lira --out {}", *recorded, out)
    assert asked("gate {} --max auc<=1", out)[0] == 0
    assert asked("gate {} --max auc<=0.6", out)[0] == 1


@pytest.mark.parametrize("which", [0, 1])
def test_findings_do_not_overwrite_the_recording(which, recorded, capsys):
    before = recorded[which].read_bytes()
    command = "audit --signals {} --reference {} --attacks gap --out {}"
    refusal(command, *recorded, recorded[which], capsys=capsys)
    assert recorded[which].read_bytes() == before


def test_recorded_models_are_not_said_to_share_the_targets_defense(recorded):
    printed = asked("audit --signals {} --reference {} --attacks gap", *recorded)[1]
    assert "own defense" not in " ".join(printed.split())


def test_recorded_models_are_counted(recorded):
    printed = asked("audit --signals {} --reference {} --attacks gap", *recorded)[1]
    assert "4 shadow models" in " ".join(printed.split())


# The page


@pytest.mark.parametrize("name", ["run.json", "audit.json", "stages/model.safetensors"])
def test_the_page_does_not_overwrite_the_run(name, canaried, tmp_path, capsys):
    folder = shutil.copytree(canaried[0], tmp_path / "run")
    before = (folder / name).read_bytes()
    refusal("report {} --out {}", folder, folder / name, capsys=capsys)
    assert (folder / name).read_bytes() == before
