"""`privet tune`, and `--defense auto` from the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from privet.cli import run

TUNE = "tune digits --samples 300 --defenses none,distill,base --epochs 1 --dense-epochs 2"
TUNE += " --rounds 2 --trials 4 --seed 3"
PRIVET = [sys.executable, "-m", "privet"]


def asked(capsys, *arguments, status=0):
    """Run a command; return what it printed on stdout and stderr."""
    capsys.readouterr()
    assert run([str(argument) for argument in arguments]) == status
    return capsys.readouterr()


def timeless(document):
    if isinstance(document, dict):
        return {key: timeless(value) for key, value in document.items() if key != "seconds"}
    return [timeless(entry) for entry in document] if isinstance(document, list) else document


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "a search"
    assert run([*TUNE.split(), "--out", str(folder)]) == 0
    return folder


def test_json_holds_every_trial_and_the_pick(searched, capsys):
    document = json.loads(asked(capsys, *TUNE.split(), "--out", searched, "--json").out)
    assert document["dataset"] == "digits"
    assert document["sparsity"] == 0.6
    wanted = {"number", "defense", "options", "settings", "dev_accuracy", "leakage", "state"}
    assert [one["number"] for one in document["trials"]] == [0, 1, 2, 3]
    assert all(wanted <= one.keys() for one in document["trials"])
    assert set(document["front"]) <= {0, 1, 2, 3}
    assert document["pick"]["number"] in document["front"]
    assert document["rule"].startswith("least leakage with at most 1 point of")
    record = json.loads((searched / "run.json").read_text())
    assert record["kind"] == "tune"
    assert record["result"] == document


def test_people_see_the_best_trials_and_the_next_command(searched, capsys):
    printed = asked(capsys, *TUNE.split(), "--out", searched).out
    assert "the pick" in printed
    (following,) = [line for line in printed.splitlines() if line.startswith("Next:")]
    assert following == (
        f"Next: privet prune digits --defense auto --tuned '{searched}' --samples 300 --seed 3 "
        f"--out RUN"
    )


def test_prune_takes_what_an_earlier_search_picked(searched, tmp_path, capsys):
    common = ["prune", "digits", "--samples", 300, "--seed", 3, "--defense", "auto"]
    common += ["--tuned", searched, "--out", tmp_path / "run"]
    result = json.loads(asked(capsys, *common, "--json").out)
    pick = json.loads((searched / "run.json").read_text())["result"]["pick"]
    assert result["defense"] == pick["defense"]
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert {name: settings[name] for name in pick["settings"]} == pick["settings"]
    assert "leave out rounds" in asked(capsys, *common, "--rounds", 3, status=2).err


@pytest.mark.parametrize("text", ["", "--tuned {} --defense distill", "--set power=0.3"])
def test_what_does_not_go_with_auto_is_refused(text, searched, tmp_path, capsys):
    base = "prune digits --samples 300 --defense auto" if "distill" not in text else "prune digits"
    options = [word.replace("{}", str(searched)) for word in text.split()]
    if not text:  # a search on another seed
        options = ["--tuned", str(searched), "--seed", "4"]
    out = tmp_path / "run"
    error = asked(capsys, *base.split(), *options, "--out", out, status=2).err
    assert error.startswith("privet: ")
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    "text",
    [
        "--trials 0",
        "--repeats 9",
        "--loss 2",
        "--defenses hope",
        "--defenses base,base",
        "--sparsity 1",
        "--epochs 0",
        "--samples 9",
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(text, tmp_path, capsys):
    out = tmp_path / "run"
    error = asked(capsys, "tune", "digits", *text.split(), "--out", out, status=2).err
    assert error.startswith("privet: ")
    assert error.count("\n") == 1
    assert not out.exists()


def test_report_draws_a_search_and_a_run_that_began_with_one(searched, tmp_path, capsys):
    page = tmp_path / "search.html"
    asked(capsys, "report", searched, "--out", page)
    html = page.read_text()
    assert html.count("<svg") == 1
    assert "Pareto front" in html
    folder = tmp_path / "run"
    shutil.copytree(searched, folder / "tune")
    (folder / "run.json").write_text(
        json.dumps({"kind": "prune", "result": _pruned(), "settings": {}, "stages": {}})
    )
    asked(capsys, "report", folder, "--out", page)
    assert "How the settings were chosen" in page.read_text()


def _pruned():
    entry = {"round": 0, "sparsity": 0.0, "train_accuracy": 0.9, "dev_accuracy": 0.8}
    return {
        "dataset": "digits",
        "defense": "none",
        "sparsity": 0.6,
        "rounds": [{**entry, "seconds": 1.0}],
        "train_accuracy": 0.9,
        "test_accuracy": 0.8,
        "seconds": 1.0,
    }


def kill_at(arguments, file):
    """Kill privet in the middle of its work, just after ``file`` appeared."""
    process = subprocess.Popen(
        [*PRIVET, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_again_and_again_a_search_ends_as_the_unbroken_one(searched, tmp_path, capsys):
    arguments = [*TUNE.split(), "--out", str(tmp_path / "run"), "--json"]
    for stage in (0, 2):
        kill_at(arguments, tmp_path / "run" / "stages" / f"trial-{stage}.safetensors")
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        assert record["result"] is None
        assert len(record["stages"]) < 4
    asked(capsys, *arguments)
    ended, unbroken = (
        json.loads((folder / "run.json").read_text()) for folder in (tmp_path / "run", searched)
    )
    assert timeless(ended) == timeless(unbroken)


@pytest.mark.slow
def test_auto_searches_first_and_takes_a_broken_search_up(tmp_path, capsys):
    folder = tmp_path / "run"
    auto = "prune digits --samples 200 --defense auto --epochs 1 --dense-epochs 1 --rounds 1"
    arguments = [*auto.split(), "--out", str(folder), "--json"]
    kill_at(arguments, folder / "tune" / "stages" / "trial-1.safetensors")
    assert not (folder / "run.json").exists()
    first = json.loads((folder / "tune" / "run.json").read_text())["stages"]["trial-0"]
    result = json.loads(asked(capsys, *arguments).out)
    search = json.loads((folder / "tune" / "run.json").read_text())["result"]
    assert search["trials"][0] == first
    assert {one["defense"] for one in search["trials"]} >= {"none", "distill", "swmr", "hamp"}
    assert len(search["trials"]) == 30
    assert result["defense"] == search["pick"]["defense"]
