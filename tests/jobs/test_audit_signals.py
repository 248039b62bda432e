"""`privet audit --signals`: recorded elsewhere, audited without torch."""

import json
import subprocess
import sys

import numpy as np
import pytest

import privet
from evidence import make_evidence
from privet.cli import run
from privet.errors import EvidenceError
from privet.findings import find

FAST = "conf,gap,loss"


@pytest.fixture
def files(tmp_path):
    """Recorded signals: a leaky target, and references on the very same samples."""
    evidence, members = make_evidence(leak=2.0, seed=0, samples=300)
    target, reference = evidence.target, evidence.reference
    np.savez(
        tmp_path / "target.npz", logits=target.logits[0], labels=target.labels, members=members
    )
    np.savez(tmp_path / "refs.npz", logits=reference.logits, members=evidence.reference_members)
    return tmp_path, evidence, members


def audited(folder, capsys, *options):
    capsys.readouterr()
    assert run(["audit", "--signals", str(folder / "target.npz"), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def timeless(findings):
    return [{k: v for k, v in each.items() if k != "seconds"} for each in findings]


def test_files_give_the_findings_of_their_arrays(files, capsys):
    folder, evidence, members = files
    out = folder / "found.json"
    report = audited(
        folder,
        capsys,
        *["--reference", str(folder / "refs.npz"), "--attacks", FAST, "--out", str(out)],
    )
    same = privet.Evidence(
        evidence.target,
        evidence.reference,
        evidence.reference_members,
        reference=evidence.reference,
        reference_members=evidence.reference_members,
    )
    expected = privet.audit(evidence=same, members=members, attacks=FAST.split(","))
    assert timeless(report["findings"]) == timeless(expected["findings"])
    plain = find(same, members, attacks=FAST.split(","))
    assert [f["auc"] for f in report["findings"]] == [f["auc"] for f in plain]
    assert report["online"] is True
    assert report["adaptive"] is None
    assert report["shadows"] == 4
    assert json.loads(out.read_text()) == report


def test_without_references_the_attacks_that_need_none_remain(files, capsys):
    report = audited(files[0], capsys)
    assert [finding["attack"] for finding in report["findings"]] == ["loss", "gap"]
    assert "shadow models" in report["skipped"]["conf"]
    assert report["shadows"] == 0


def test_references_with_labels_of_their_own_are_samples_of_the_attackers(files, capsys):
    folder, evidence, _ = files
    shadow = evidence.shadow
    np.savez(
        folder / "refs.npz",
        logits=shadow.logits,
        labels=shadow.labels,
        members=evidence.shadow_members.astype(int),
    )
    report = audited(folder, capsys, "--reference", str(folder / "refs.npz"), "--attacks", FAST)
    assert report["online"] is False
    assert report["findings"][0]["auc"] > 0.8


def test_torch_is_not_needed(files):
    folder = files[0]
    script = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Without(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        absent = name.partition('.')[0] in ('torch', 'sklearn', 'joblib')\n"
        "        return None if absent else super().find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Without if f is PathFinder else f for f in sys.meta_path]\n"
        "from privet.cli import main\n"
        f"main(['audit', '--signals', {str(folder / 'target.npz')!r}, '--reference', "
        f"{str(folder / 'refs.npz')!r}, '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    found = {finding["attack"] for finding in report["findings"]}
    assert {"conf", "lira", "lira-offline", "rmia", "rmia-offline", "calibrated"} <= found
    assert "torch" in report["skipped"]["nn"]


def test_named_attacks_that_the_signals_cannot_support_are_refused(files):
    with pytest.raises(EvidenceError, match="'conf' needs shadow models"):
        privet.audit(evidence=privet.Evidence(files[1].target), members=files[2], attacks="conf")


def broken(folder, name):
    with np.load(folder / "target.npz") as held:
        arrays = dict(held)
    arrays |= {
        "NaN": {"logits": np.full_like(arrays["logits"], np.nan)},
        "members of a side only": {"members": np.ones(300, dtype=bool)},
        "odd members": {"members": np.arange(300)},
        "fractional members": {"members": np.full(300, 0.5)},
        "ragged": {"labels": arrays["labels"][:-1]},
        "label too large": {"labels": arrays["labels"] + 1},
        "logits of one dimension": {"logits": arrays["logits"][:, 0]},
        "words": {"logits": np.full((300, 5), "high")},
        "objects": {"labels": arrays["labels"].astype(object)},
    }[name]
    np.savez(folder / "target.npz", **arrays)


@pytest.mark.parametrize(
    "name",
    [
        "NaN",
        "members of a side only",
        "odd members",
        "fractional members",
        "ragged",
        "label too large",
        "logits of one dimension",
        "words",
        "objects",
    ],
)
def test_broken_files_are_refused_in_one_line(name, files, capsys):
    folder = files[0]
    broken(folder, name)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = ["audit", "--signals", str(folder / "target.npz"), "--out", str(folder / "out.json")]
    assert run(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("privet: ")
    assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "options",
    [
        "",
        "RUN --signals target.npz",
        "RUN --reference refs.npz",
        "RUN --out found.json",
        "--reference refs.npz",
        "--signals target.npz --non-adaptive",
        "--signals target.npz --offline",
        "--signals missing.npz",
        "--signals target.npz --reference missing.npz",
    ],
)
def test_options_that_do_not_go_together_are_refused(options, files, monkeypatch, capsys):
    monkeypatch.chdir(files[0])
    assert run(["audit", *options.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1
