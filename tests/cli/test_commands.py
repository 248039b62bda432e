"""What scripts rely on: the JSON that commands print, their exit status, their help."""

import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest

import privet
from privet.cli import run
from privet.data.registry import DATASETS
from privet.device import Bundle, Network, write_bundle

PRUNE = ["prune", "digits", "--epochs", "1", "--dense-epochs", "2", "--rounds", "2", "--seed", "3"]
BUILD = ["protect", "build", "synthetic-ratings", "--hidden", "16", "--attacker-hidden", "16"]
BUILD += ["--speedups", "2,4"]
HELP = {
    "data list": ["--json"],
    "data fetch": ["NAME"],
    "prune": [
        "DATA",
        "--model",
        "--weights",
        "--heldout",
        "--defense",
        "--sparsity",
        "--rounds",
        "--pruner",
        "--rewind",
        "--scores",
        "--scores-of",
        "--out",
    ],
    "audit": ["RUN", "--signals", "--reference", "--attacks", "--shadows", "--seed", "--json"],
    "gate": ["RUN", "--max", "--min", "--junit", "--json"],
    "reproduce wemem": ["--dataset", "--rows", "--sparsity", "--seeds", "--table", "--json"],
    "report": ["RUN", "--out"],
    "demo": ["--out"],
    "protect build": ["DATA", "--hidden", "--speedups", "--out", "--seed", "--json"],
    "protect apply": ["FILE", "--bundle", "--budget", "--key", "--out", "--changes"],
    "protect attack": ["RECORDS", "--labels", "--build"],
    "protect check": ["BUNDLE"],
}


def asked(*arguments):
    """Run a command in this process; return its exit status and all it printed on stdout."""
    printed = StringIO()
    with redirect_stdout(printed):
        status = run([str(argument) for argument in arguments])
    return status, printed.getvalue()


def the_json(*arguments, status=0):
    """Return the one JSON object a command prints; reading fails on anything beside it."""
    found, printed = asked(*arguments, "--json")
    assert found == status
    document = json.loads(printed)
    assert isinstance(document, dict)
    return document


def assert_fractions(*values):
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in values), values


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A finished run and what its command printed."""
    folder = tmp_path_factory.mktemp("commands") / "run"
    return folder, the_json(*PRUNE, "--out", folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A finished build and what its command printed."""
    folder = tmp_path_factory.mktemp("commands") / "bundles"
    return folder, the_json(*BUILD, "--out", folder)


@pytest.fixture
def bundle(tmp_path):
    """A handmade bundle of 6 ratings and 3 classes, with a card."""
    rng = np.random.default_rng(0)
    sizes = ((5, 6), (3, 5))
    network = Network(
        tuple(rng.normal(size=size).astype(np.float32) for size in sizes),
        tuple(np.zeros(size[0], np.float32) for size in sizes),
    )

    def make(**card):
        path = tmp_path / "made.safetensors"
        write_bundle(Bundle("attribute", network, card=card), path)
        return path

    return make


def test_version_is_the_package_version():
    assert asked("--version") == (0, f"{privet.__version__}\n")


@pytest.mark.parametrize("command", HELP)
def test_help_names_the_options(command):
    status, printed = asked(*command.split(), "--help")
    assert status == 0
    missing = [word for word in HELP[command] if word not in printed]
    assert not missing


def test_help_of_the_whole_lists_every_command():
    status, printed = asked("--help")
    assert status == 0
    for command in HELP:
        assert command.split()[0] in printed


def test_data_list_json_tells_every_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVET_DATA", str(tmp_path))
    document = the_json("data", "list")
    assert document["home"] == str(tmp_path)
    listed = {entry["name"]: entry for entry in document["datasets"]}
    assert listed.keys() == DATASETS.keys()
    assert listed["digits"]["status"] == "builtin"
    assert listed["att"]["status"] == "missing"
    assert not any(file["present"] for file in listed["att"]["files"])


def test_data_list_for_people_names_every_dataset(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, printed = asked("data", "list")
    assert status == 0
    assert [name for name in DATASETS if name not in printed] == []


def test_prune_json_keeps_the_contract(pruned):
    folder, document = pruned
    assert document["dataset"] == "digits"
    assert (document["model"], document["defense"]) == ("fc", "none")
    assert (document["sparsity"], document["seed"]) == (0.6, 3)
    assert_fractions(document["train_accuracy"], document["test_accuracy"])
    assert document["seconds"] > 0
    assert [each["round"] for each in document["rounds"]] == [0, 1]
    assert [each["sparsity"] for each in document["rounds"]] == pytest.approx([0, 0.6])
    for each in document["rounds"]:
        assert_fractions(each["train_accuracy"], each["dev_accuracy"])
        assert each["seconds"] > 0
    assert json.loads((folder / "run.json").read_text())["result"] == document


def test_run_folder_records_settings_seed_versions_and_stages(pruned):
    record = json.loads((pruned[0] / "run.json").read_text())
    assert record["settings"]["seed"] == 3
    assert record["settings"]["dataset"] == "digits"
    assert {"privet", "torch", "numpy"} <= record["versions"].keys()
    assert record["stages"].keys() == {"dense", "round-0", "round-1", "model"}


def test_repeating_a_finished_command_returns_its_result(pruned):
    folder, document = pruned
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert the_json(*PRUNE, "--out", folder) == document
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_audit_json_keeps_the_contract(pruned):
    folder = pruned[0]
    arguments = ["audit", folder, "--shadows", "1", "--jobs", "1", "--attacks", "conf,mentr"]
    document = the_json(*arguments)
    assert document["adaptive"] is True
    assert document["shadows"] == 1
    assert [finding["attack"] for finding in document["findings"]] == ["conf", "mentr"]
    for finding in document["findings"]:
        assert_fractions(finding["balanced_accuracy"], finding["auc"])
        assert {"0.1", "0.01"} <= finding["tpr_at_fpr"].keys()
        for rate in finding["tpr_at_fpr"].values():
            assert 0 <= rate["low"] <= rate["tpr"] <= rate["high"] <= 1
        assert (finding["members"], finding["nonmembers"]) == (718, 120)
        assert finding["seconds"] >= 0
    assert json.loads((folder / "audit.json").read_text()) == document


def test_prune_for_people_says_what_comes_next(pruned):
    folder = pruned[0]
    status, printed = asked(*PRUNE, "--out", folder)
    assert status == 0
    assert "privet audit" in printed


@pytest.mark.slow
def test_build_json_keeps_the_contract(built):
    folder, document = built
    assert_fractions(document["base"]["accuracy"])
    assert document["base"]["macs"] == (500 + 8) * 16
    assert document["base"]["parameters"] == (500 + 8) * 16 + 16 + 8
    assert [tier["asked_speedup"] for tier in document["tiers"]] == [2, 4]
    for tier in document["tiers"]:
        bundle = folder / tier["bundle"].rpartition("/")[2]
        assert tier["bytes"] == bundle.stat().st_size
        assert tier["parameters"] < document["base"]["parameters"]
        assert tier["macs"] * tier["reached_speedup"] == pytest.approx(document["base"]["macs"])
        assert_fractions(tier["accuracy"])
    assert {"m", "r", "q", "n"} <= document["definitions"].keys()
    assert isinstance(document["definitions"]["passed"], bool)
    assert json.loads((folder / "protect.json").read_text()) == document


@pytest.mark.slow
def test_check_of_a_built_bundle_prints_its_card(built):
    tier = built[1]["tiers"][0]
    passed = tier["definitions"]["passed"]
    card = the_json("protect", "check", tier["bundle"], status=0 if passed else 1)
    assert card["dataset"] == "synthetic-ratings"
    assert {key: card[key] for key in ("accuracy", "macs", "definitions")} == {
        key: tier[key] for key in ("accuracy", "macs", "definitions")
    }


@pytest.mark.slow
@pytest.mark.parametrize("which", ["pruned", "built"])
def test_report_writes_one_page(which, request, tmp_path):
    page = tmp_path / "page.html"
    status, printed = asked("report", request.getfixturevalue(which)[0], "--out", page)
    assert status == 0
    assert "page.html" in printed.replace("\n", "")
    assert page.read_text().lstrip().lower().startswith("<!doctype html")


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, 1), (None, 0)])
def test_check_exits_1_when_definitions_were_missed(bundle, passed, status):
    card = {} if passed is None else {"definitions": {"passed": passed}}
    assert the_json("protect", "check", bundle(**card), status=status) == card


def test_apply_json_and_list_of_changes(bundle, tmp_path):
    (tmp_path / "mine.txt").write_text("0:0.2 3:1.0\n\n1:0.6\n")
    arguments = ["protect", "apply", tmp_path / "mine.txt", "--bundle", bundle(), "--budget", "1"]
    arguments += ["--key", tmp_path / "key", "--out", tmp_path / "out.txt"]
    document = the_json(*arguments, "--changes", tmp_path / "changes.json")
    assert (document["records"], document["budget"]) == (3, 1)
    assert 0 <= document["mean_expected_cost"] <= 1
    assert {"changed", "mean_cost", "unreached", "seconds"} <= document.keys()
    changes = json.loads((tmp_path / "changes.json").read_text())
    assert [entry["record"] for entry in changes] == [0, 1, 2]
    assert sum(entry["cost"] > 0 for entry in changes) == document["changed"]
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 3
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_apply_again_gives_the_same_answer(bundle, tmp_path):
    (tmp_path / "mine.txt").write_text("0:0.2 3:1.0\n1:0.6\n")
    made = bundle()
    answers = []
    for name in ("first.txt", "second.txt"):
        arguments = ["protect", "apply", tmp_path / "mine.txt", "--bundle", made, "--budget", "0.5"]
        assert asked(*arguments, "--key", tmp_path / "key", "--out", tmp_path / name)[0] == 0
        answers.append((tmp_path / name).read_bytes())
    assert answers[0] == answers[1]


def test_apply_makes_the_users_key_where_told_by_the_environment(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVET_KEY", str(tmp_path / "safe" / "key"))
    (tmp_path / "mine.txt").write_text("0:0.2\n")
    arguments = ["protect", "apply", tmp_path / "mine.txt", "--bundle", bundle(), "--budget", "1"]
    assert asked(*arguments, "--out", tmp_path / "out.txt")[0] == 0
    assert (tmp_path / "safe" / "key").stat().st_size == 32


@pytest.mark.slow
def test_json_is_alone_on_stdout_of_a_process(tmp_path):
    command = [sys.executable, "-m", "privet", *PRUNE]
    command += ["--out", str(tmp_path / "run"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["dataset"] == "digits"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_leaves_early_is_no_error(form):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "privet", "data", "list"]
    command += form
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert b"Traceback" not in done.stderr
    assert done.stderr == b""
    assert done.returncode == 0


def test_data_that_changed_since_the_run_is_refused(tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = tmp_path / "people.csv"
    lines = [f"{a:.3f},{b:.3f},{int(a > b)}" for a, b in rng.random((80, 2))]
    table.write_text("\n".join(["a,b,label", *lines]) + "\n")
    out = tmp_path / "run"
    command = f"prune {table} --out {out} --epochs 1 --dense-epochs 1 --rounds 1"
    assert run(command.split()) == 0
    table.write_text("\n".join(["a,b,label", *lines[:-5]]) + "\n")
    for again in (command, f"audit {out} --shadows 1 --jobs 1"):
        capsys.readouterr()
        assert run(again.split()) == 2
        message = capsys.readouterr().err
        assert len(message.splitlines()) == 1
        assert "has changed since" in message
    assert not (out / "audit.json").exists()


def test_names_with_brackets_and_blanks_come_out_as_they_are(tmp_path, capsys):
    out = tmp_path / "a [bold]run[/b] with a name that is longer than any terminal is wide, really"
    command = ["prune", "digits", "--epochs", "1", "--dense-epochs", "1", "--rounds", "1", "--out"]
    assert run([*command, str(out)]) == 0
    assert f"privet audit '{out}'" in capsys.readouterr().out


def test_a_run_with_other_settings_than_this_version_knows_is_refused(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["prune", "digits", "--epochs", "1", "--dense-epochs", "1", "--rounds", "1"]
    assert run([*command, "--out", str(out)]) == 0
    record = json.loads((out / "run.json").read_text())
    del record["settings"]["data"]
    (out / "run.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert run(["audit", str(out), "--shadows", "1", "--jobs", "1"]) == 2
    assert "another version" in capsys.readouterr().err
