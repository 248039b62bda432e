"""`privet audit --signals`: what was recorded elsewhere."""

import numpy as np
import pytest

from cli.commands import answers, asked, refusal, the_json
from evidence import make_evidence


@pytest.fixture
def recorded(tmp_path):
    """Files of recorded signals, a target's and references', with all that attacks may need."""
    evidence, members = make_evidence(leak=2.0, seed=0, samples=200)
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
