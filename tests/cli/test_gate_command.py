"""`privet gate`: its exit status, what it prints, and the files that it writes or leaves alone."""

import json
from xml.etree import ElementTree as Xml

import pytest

from privet.cli import run

PRUNE = "prune digits --epochs 1 --dense-epochs 2 --rounds 1 --seed 3 --out"


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A real run, audited: its folder and its audit."""
    folder = tmp_path_factory.mktemp("gate") / "run"
    assert run([*PRUNE.split(), str(folder)]) == 0
    assert run(["audit", str(folder), "--shadows", "1", "--attacks", "conf,mentr"]) == 0
    return folder, json.loads((folder / "audit.json").read_text())


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def report(file):
    return Xml.parse(file).getroot()  # noqa: S314


def gate(*arguments, capsys):
    capsys.readouterr()
    status = run(["gate", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_all_conditions_hold(audited, capsys):
    folder, audit = audited
    before = snapshot(folder)
    accuracy = audit["test_accuracy"]
    status, out, err = gate(
        folder, "--min", f"accuracy>={accuracy}", "--max", "auc <= 1", "--max", "tpr@0.1<=1",
        capsys=capsys,
    )  # fmt: skip
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "ok auc <= 1.0",
        "ok tpr@0.1 <= 1.0",
        f"ok accuracy >= {accuracy}",
    ]
    assert f"of {audit['findings'][0]['members']:,} members" in lines[1]
    assert snapshot(folder) == before


def test_json_is_the_contract(audited, capsys):
    folder, audit = audited
    worst = max(finding["balanced_accuracy"] for finding in audit["findings"])
    conditions = ["--max", "balanced_accuracy<=0", "--max", "mentr:tpr@0.001<=1"]
    status, out, err = gate(folder, *conditions, "--json", capsys=capsys)
    document = json.loads(out)
    assert (status, err) == (1, "")
    assert (document["run"], document["passed"]) == (str(folder), False)
    first, second = document["conditions"]
    assert {key: first[key] for key in ("condition", "name", "bound", "value", "passed")} == {
        "condition": "balanced_accuracy <= 0.0",
        "name": "balanced_accuracy",
        "bound": 0.0,
        "value": worst,
        "passed": False,
    }
    assert (second["value"], second["passed"]) == (None, False)
    assert "resolved" in second["reason"]  # 120 nonmembers


@pytest.mark.parametrize(("bound", "status", "failures"), [("1", 0, "0"), ("0", 1, "1")])
def test_junit_is_written_on_passing_and_on_failing(
    bound, status, failures, audited, tmp_path, capsys
):
    file = tmp_path / "new" / "reports" / "gate.xml"
    told = gate(audited[0], "--max", f"auc<={bound}", "--junit", file, capsys=capsys)
    assert told[0] == status
    suite = report(file).find("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("1", failures)
    assert (suite.find("testcase/failure") is not None) == (status == 1)


def test_junit_may_lie_in_the_run_and_be_written_again(audited, capsys):
    folder = audited[0]
    for bound, status in (("0", 1), ("1", 0)):
        file = folder / "gate.xml"
        assert gate(folder, "--max", f"auc<={bound}", "--junit", file, capsys=capsys)[0] == status
    assert report(file).get("failures") == "0"
    file.unlink()


def test_an_audit_by_itself_is_judged_by_what_it_says(audited, tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"findings": audited[1]["findings"]}))
    assert gate(file, "--max", "auc<=1", capsys=capsys)[0] == 0
    status, out, _ = gate(file, "--max", "auc<=1", "--min", "accuracy>=0", capsys=capsys)
    assert status == 1
    assert "FAIL accuracy >= 0.0: the audit does not tell the model's test accuracy" in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("", "--max"),
        ("--max auc=0.5", "'auc=0.5'"),
        ("--min auc<=0.5", "'<='"),
        ("--max auc<=1 --min acuracy>=0.5", "'acuracy'"),
        ("--max auc<=nan", "'nan'"),
        ("--max", "--max"),
        ("--max auc<=1 --junit run/run.json", "run.json"),
        ("--max auc<=1 --junit run/audit.json", "audit.json"),
        ("--max auc<=1 --junit run/../run/stages/model.safetensors", "model.safetensors"),
        ("--max auc<=1 --junit run", "run"),
        ("--max auc<=1 --junit link.xml", "link.xml"),
        ("--max auc<=1 --junit run/run.json/gate.xml", "run.json"),
    ],
)
def test_wrong_usage_changes_nothing(arguments, word, audited, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(audited[0].parent)
    link = audited[0].parent / "link.xml"
    link.unlink(missing_ok=True)
    link.symlink_to("run/run.json")
    before = snapshot(audited[0].parent)
    status, out, err = gate("run", *arguments.split(), capsys=capsys)
    assert (status, out) == (2, "")
    assert err.startswith("privet: ")
    assert err.count("\n") == 1
    assert word in err
    assert snapshot(audited[0].parent) == before


def test_conditions_are_read_before_anything_else(tmp_path, capsys):
    status, _, err = gate(tmp_path / "nowhere", "--max", "auc=1", capsys=capsys)
    assert status == 2
    assert "'auc=1'" in err


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("audit.json", None, "privet audit"),
        ("audit.json", "{", "audit.json"),
        ("audit.json", "[]", "no findings"),
        ("audit.json", '{"findings": [], "adaptive": false}', "--non-adaptive"),
        ("run.json", None, "run.json"),
        ("run.json", "{}", "no run"),
    ],
)
def test_folders_that_cannot_be_judged_leave_no_report(name, text, word, audited, tmp_path, capsys):
    for file in ("run.json", "audit.json"):
        content = (audited[0] / file).read_text() if file != name else text
        if content is not None:
            (tmp_path / file).write_text(content)
    junit = tmp_path / "reports" / "gate.xml"
    status, out, err = gate(tmp_path, "--max", "auc<=1", "--junit", junit, capsys=capsys)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert word in err
    assert not junit.parent.exists()
