"""`privet reproduce wemem`: what it prints and keeps, killed, repeated, or with other settings."""

import json
import signal
import statistics
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest

from privet.cli import run
from privet.metrics import clopper_pearson

PRIVET = [sys.executable, "-m", "privet"]
# With a single shadow model rmia only ranks.
SMALL = "--rows none,rsw --sparsity 0.6 --seeds 2 --shadows 1 --attacks conf,gap,rmia --jobs 1"
QUICK = "--rows none --sparsity 0.6 --seeds 1 --shadows 1 --attacks gap --jobs 1"
PATIENCE = 60.0  # seconds to wait for a file before the test gives up
VARYING = ("seconds", "seconds_sd", "audit_seconds", "audit_seconds_sd")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A small table of noisy labels, so that every run takes a second or two."""
    file = tmp_path_factory.mktemp("people") / "people.npz"
    rng = np.random.default_rng(0)
    inputs = rng.random((240, 6)).astype("f4")
    np.savez(file, X=inputs, y=(inputs[:, 0] + rng.normal(0, 0.4, size=240) > 0.5).astype(int))
    return file


def command(options, *, data, out):
    return ["reproduce", "wemem", "--dataset", str(data), "--out", str(out), *options.split()]


def the_json(options, *, data, out):
    printed = StringIO()
    with redirect_stdout(printed):
        assert run([*command(options, data=data, out=out), "--json"]) == 0
    return json.loads(printed.getvalue())


def refusal(options, *, data, out, capsys):
    """Return the one line with which a command is refused."""
    capsys.readouterr()
    status = run(command(options, data=data, out=out))
    printed, err = capsys.readouterr()
    assert (status, printed, err.count("\n")) == (2, "", 1), err
    assert err.startswith("privet: ")
    return err


def outcome(document):
    if isinstance(document, dict):
        return {key: outcome(value) for key, value in document.items() if key not in VARYING}
    return [outcome(entry) for entry in document] if isinstance(document, list) else document


def files(folder):
    """Return what runs are made of: all but the document on top of them."""
    found = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    found.pop(folder / "wemem.json", None)
    return found


@pytest.fixture(scope="module")
def reproduced(people, tmp_path_factory):
    """A finished reproduction: its folder, its table, and what it printed."""
    out = tmp_path_factory.mktemp("reproduced") / "out"
    table = out.parent / "tables" / "wemem.md"
    return out, table, the_json(f"{SMALL} --table {table}", data=people, out=out)


def test_one_quick_defense_gives_one_row(people, tmp_path):
    document = the_json(QUICK, data=people, out=tmp_path / "out")
    (row,) = document["rows"]
    assert (row["defense"], list(row["attacks"])) == ("none", ["gap"])
    gap = row["attacks"]["gap"]
    assert row["mean_advantage"] == pytest.approx(2 * gap["balanced_accuracy"] - 1)
    assert (tmp_path / "out" / "none-0.6-seed-0" / "audit.json").exists()
    assert json.loads((tmp_path / "out" / "wemem.json").read_text()) == document


@pytest.mark.slow
def test_the_json_keeps_the_contract(reproduced, people):
    out, _, document = reproduced
    assert document["dataset"] == str(people)
    assert (document["sparsity"], document["seeds"], document["shadows"]) == (0.6, [0, 1], 1)
    assert (document["adaptive"], document["online"]) == (True, True)
    assert [row["defense"] for row in document["rows"]] == ["none", "rsw"]
    for row in document["rows"]:
        assert isinstance(row["setting"], str)
        assert 0 <= row["test_accuracy"] <= 1
        assert row["seconds"] > 0
        assert row["published"] is None
        assert -1 <= row["mean_advantage"] <= 1
        assert row["mean_advantage_sd"] >= 0
        assert list(row["attacks"]) == ["conf", "gap", "rmia"]
        for name, attack in row["attacks"].items():
            balanced = attack["balanced_accuracy"]
            assert balanced is None if name == "rmia" else 0 <= balanced <= 1
            assert 0 <= attack["auc"] <= 1
            assert attack["tpr_at_fpr"].keys() == {"0.1", "0.01", "0.001"}
            for rate in attack["tpr_at_fpr"].values():
                assert 0 <= rate["low"] <= rate["tpr"] <= rate["high"] <= 1
    assert json.loads((out / "wemem.json").read_text()) == document


@pytest.mark.slow
def test_figures_are_the_means_over_the_runs(reproduced):
    out, _, document = reproduced
    for row in document["rows"]:
        runs = [out / f"{row['defense']}-0.6-seed-{seed}" for seed in (0, 1)]
        results = [json.loads((each / "run.json").read_text())["result"] for each in runs]
        audits = [json.loads((each / "audit.json").read_text()) for each in runs]
        assert [result["defense"] for result in results] == [row["defense"]] * 2
        assert [result["seed"] for result in results] == [0, 1]
        accuracies = [result["test_accuracy"] for result in results]
        assert row["test_accuracy"] == pytest.approx(statistics.mean(accuracies))
        assert row["test_accuracy_sd"] == pytest.approx(statistics.stdev(accuracies))
        advantages = []
        for audit in audits:
            assert audit["canaries"] is None
            decided = [each["balanced_accuracy"] for each in audit["findings"][:2]]
            advantages.append(statistics.mean(2 * value - 1 for value in decided))
        assert row["mean_advantage"] == pytest.approx(statistics.mean(advantages))
        assert row["mean_advantage_sd"] == pytest.approx(statistics.stdev(advantages))
        for place, attack in enumerate(row["attacks"].values()):
            found = [audit["findings"][place] for audit in audits]
            for figure in ("auc",) if place == 2 else ("auc", "balanced_accuracy"):
                values = [each[figure] for each in found]
                assert attack[figure] == pytest.approx(statistics.mean(values))
                assert attack[f"{figure}_sd"] == pytest.approx(statistics.stdev(values))
            for level, rate in attack["tpr_at_fpr"].items():
                rates = [each["tpr_at_fpr"][level]["tpr"] for each in found]
                assert rate["tpr"] == pytest.approx(statistics.mean(rates))
                members = [each["members"] for each in found]
                caught = sum(round(r * n) for r, n in zip(rates, members, strict=True))
                assert (rate["low"], rate["high"]) == clopper_pearson(caught, sum(members))


@pytest.mark.slow
def test_the_table_is_written_as_markdown(reproduced):
    _, table, document = reproduced
    page = table.read_text()
    for row in document["rows"]:
        assert f"| {row['defense']} | {row['test_accuracy']:.1%} ±" in page
        assert page.count(f"\n| {row['defense']} |") == 4
    assert page.count("| row | conf | gap | rmia |") == 3


@pytest.mark.slow
def test_for_people_it_prints_tables_and_where_they_come_from(reproduced, people, capsys):
    capsys.readouterr()
    assert run(command(SMALL, data=people, out=reproduced[0])) == 0
    printed = capsys.readouterr().out
    for word in ("defense", "mean", "rmia", "rsw", f"wrote {reproduced[0] / 'wemem.json'}"):
        assert word in printed


@pytest.mark.slow
def test_finished_runs_are_not_done_again(reproduced, people):
    out, _, document = reproduced
    before = files(out)
    assert the_json(SMALL, data=people, out=out) == document
    assert files(out) == before


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_unbroken(reproduced, people, tmp_path):
    out = tmp_path / "out"
    arguments = [*PRIVET, *command(f"{SMALL} --json", data=people, out=out)]
    for moment in (
        "none-0.6-seed-0/stages/round-1.safetensors",
        "none-0.6-seed-1/shadows/online-seed-1/0000.npz",
        "rsw-0.6-seed-0/audit.json",
        "rsw-0.6-seed-1/stages/score-model-2.safetensors",
    ):
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + PATIENCE
        while not (out / moment).exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        printed, err = process.communicate()
        assert (out / moment).exists(), err
        assert printed == ""
        assert not (out / "wemem.json").exists()
    done = files(out / "none-0.6-seed-0")
    assert outcome(the_json(SMALL, data=people, out=out)) == outcome(reproduced[2])
    assert files(out / "none-0.6-seed-0") == done


@pytest.mark.slow
def test_other_settings_in_the_same_folder_redo_what_they_must(people, tmp_path, capsys):
    def small(options):
        return the_json(
            f"--rows none --sparsity 0.6 --jobs 1 {options}", data=people, out=tmp_path / "out"
        )

    folder = tmp_path / "out" / "none-0.6-seed-0"
    small("--seeds 1 --shadows 2 --attacks conf")
    shadows, pruned = files(folder / "shadows"), files(folder / "stages")
    # More shadow models, other attacks: a new audit that takes up the shadow models.
    more = small("--seeds 1 --shadows 3 --attacks gap")
    assert (more["shadows"], list(more["rows"][0]["attacks"])) == (3, ["gap"])
    assert shadows.items() < files(folder / "shadows").items()
    assert files(folder / "stages") == pruned
    # An audit by hand in between is not taken for the reproduction's.
    assert run(["audit", str(folder), "--shadows", "1", "--attacks", "gap", "--jobs", "1"]) == 0
    assert outcome(small("--seeds 1 --shadows 3 --attacks gap")) == outcome(more)
    # Another first seed adds runs, and reports on these alone.
    other = small("--seeds 1 --first-seed 4 --shadows 1 --attacks gap")
    assert other["seeds"] == [4]
    assert other["rows"][0]["test_accuracy_sd"] is None
    # Other data would be another run in the same place.
    before = files(tmp_path / "out")
    rest = {"data": "digits", "out": tmp_path / "out", "capsys": capsys}
    assert "dataset" in refusal("--rows none --sparsity 0.6 --seeds 1", **rest)
    assert files(tmp_path / "out") == before


@pytest.mark.slow
def test_a_built_in_data_set_by_name(tmp_path):
    options = QUICK.replace("gap", "conf,gap")
    document = the_json(options, data="digits", out=tmp_path / "out")
    assert document["dataset"] == "digits"
    assert document["rows"][0]["test_accuracy"] > 0.8


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("--rows hope", "'hope'"),
        ("--rows none,none", "once"),
        ("--rows ,", "row"),
        ("--sparsity 0.5,much", "much"),
        ("--attacks guess", "'guess'"),
        ("--attacks ,", "attack"),
        ("--seeds 0", "seeds"),
        ("--first-seed -1", "-1"),
        ("--shadows 0", "shadows"),
        ("--jobs 0", "jobs"),
        ("--sparsity 1", "sparsity"),
        ("--dataset digit", "did you mean digits"),
        ("--dataset location", "privet data fetch location"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_written(
    options, word, people, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PRIVET_DATA", str(tmp_path / "cache"))
    out = tmp_path / "out"
    data = people
    if options.startswith("--dataset"):
        options, data = "", options.split()[1]
    assert word in refusal(options, data=data, out=out, capsys=capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused(people, tmp_path, capsys):
    file = tmp_path / "mine.txt"
    file.write_text("mine")
    assert "mine.txt" in refusal("--rows none", data=people, out=file, capsys=capsys)
    assert file.read_text() == "mine"


def test_a_table_that_cannot_be_written_is_refused_before_any_work(people, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    options = f"{QUICK} --table {tmp_path / 'folder'}"
    assert "folder" in refusal(options, data=people, out=tmp_path / "out", capsys=capsys)
    assert not (tmp_path / "out").exists()


def test_without_out_a_file_gives_one_folder_its_name(people, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", "wemem", "--dataset", str(people), *QUICK.split()]) == 0
    (folder,) = tmp_path.iterdir()
    assert (folder / "wemem.json").exists()


def test_attacks_that_only_rank_are_reported(people, tmp_path):
    options = QUICK.replace("gap", "lira,rmia")
    (row,) = the_json(options, data=people, out=tmp_path / "out")["rows"]
    assert row["attacks"]["lira"]["balanced_accuracy"] is None


@pytest.mark.slow
def test_sparsities_and_controls_have_folders_of_their_own(people, tmp_path):
    options = QUICK.replace("none", "base,unpruned,one-shot").replace("0.6", "0.5,0.7")
    table = tmp_path / "wemem.md"
    document = the_json(f"{options} --table {table}", data=people, out=tmp_path / "out")
    folders = {each.name for each in (tmp_path / "out").iterdir() if each.is_dir()}
    assert folders == {
        "base-0.5-seed-0",
        "base-0.7-seed-0",
        "one-shot-0.5-seed-0",
        "one-shot-0.7-seed-0",
        "unpruned-0-seed-0",
    }
    assert document["sparsity"] == [0.5, 0.7]
    unpruned = json.loads((tmp_path / "out" / "unpruned-0-seed-0" / "run.json").read_text())
    result = unpruned["result"]
    assert result["rounds"] == []
    assert result["test_accuracy"] == result["dense_test_accuracy"]
    page = table.read_text()
    assert page.count("\n| unpruned |") == 8
    # The command that it names makes the same document again.
    words = page.partition("`")[2].partition("`")[0].split()
    again = run([*words[1:], "--out", str(tmp_path / "out"), "--table", str(tmp_path / "two.md")])
    assert again == 0
    assert (tmp_path / "two.md").read_bytes() == table.read_bytes()
