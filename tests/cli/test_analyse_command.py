"""`privet prune --analyse`: what it prints, what it refuses, and its page."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO

import pytest

from privet.cli import run

QUICK = "--rounds 2 --epochs 2 --dense-epochs 3 --score-models 2 --repeats 2 --seed 3"
ANALYSE = f"prune digits --analyse --samples 700 {QUICK}".split()
VARIANTS = ["dense", "one-shot", "one-shot-long", "iterative", "shuffled", "fresh"]
METHODS = ("base", "rsw", "rmr", "swmr")


def asked(*arguments):
    """Run a command in this process; return its exit status and all it printed on stdout."""
    printed = StringIO()
    with redirect_stdout(printed):
        status = run([str(argument) for argument in arguments])
    return status, printed.getvalue()


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """A finished analysis and the JSON that its command printed."""
    folder = tmp_path_factory.mktemp("analysis") / "run"
    status, printed = asked(*ANALYSE, "--out", folder, "--json")
    assert status == 0
    return folder, json.loads(printed)


def test_the_json_says_what_was_found(analysed):
    folder, document = analysed
    assert (document["dataset"], document["defense"], document["seed"]) == ("digits", "base", 3)
    assert (document["repeats"], document["rounds"]) == (2, 2)
    assert document["members"] + document["nonmembers"] < 700 / 2
    assert [entry["variant"] for entry in document["variants"]] == VARIANTS
    for entry in document["variants"]:
        figures = [entry["accuracy"], *entry["auc"].values(), *entry["auc_by_attack"].values()]
        assert all(0 <= figure["mean"] <= 1 and figure["error"] >= 0 for figure in figures)
        assert entry["auc"].keys() == {"all", "lowest", "highest"}
    assert {effect["factor"] for effect in document["effects"]} >= {"reuse", "memorability"}
    assert document["recommendation"] in METHODS
    assert document["compare"] == ["distill", "auto"]
    assert json.loads((folder / "run.json").read_text())["result"] == document


def test_a_finished_analysis_is_shown_to_people(analysed):
    folder, document = analysed
    status, printed = asked(*ANALYSE, "--out", folder)
    assert status == 0
    lines = printed.replace("\N{NO-BREAK SPACE}", " ").splitlines()
    for name in ("unpruned", "long one-shot", "iterative", "fresh rows"):
        assert any(line.strip().startswith(name) for line in lines), name
    text = " ".join(printed.split())
    sentences = re.findall(r"AUC [+-]0\.\d{3} ± 0\.\d{3}; ", text)
    assert len(sentences) == len(document["effects"])
    assert text.count("distill and auto") == 1
    assert ("Base is enough" in text) is (document["recommendation"] == "base")
    assert lines[-1] == f"Next: privet report {folder}"


def test_the_page_shows_the_figures_with_a_plot(analysed):
    folder, document = analysed
    assert asked("report", folder)[0] == 0
    html = (folder / "report.html").read_text()
    assert html.count("<svg") == html.count("How to read this.") == 1
    for entry in document["variants"]:
        assert f"{entry['auc']['highest']['mean']:.3f}" in html
    assert "hold it against distill and auto" in html
    assert "<script" not in html


def test_base_settings_hold_unless_others_are_given(tmp_path):
    status, printed = asked(
        *ANALYSE, "--defense", "base", "--set", "weight_decay=0.01", "--out", tmp_path, "--json"
    )
    assert status == 0
    settings = json.loads((tmp_path / "run.json").read_text())["settings"]
    assert settings["defense_options"] == {"weight_decay": 0.01}
    assert settings["patience"] == 5
    assert json.loads(printed)["recommendation"] in METHODS


REFUSED = {
    "a defense": ("--defense rsw", "rsw"),
    "one round": ("--rounds 1", "rounds"),
    "no epochs before pruning": ("--dense-epochs 0", "dense_epochs"),
    "rewinding": ("--rewind 0", "rewind"),
    "shuffled scores": ("--scores shuffled", "shuffled"),
    "scores of another run": ("--scores-of elsewhere", "--scores-of"),
    "one repeat": ("--repeats 1", "repeats"),
    "repeats a word": ("--repeats many", "many"),
    "too few rows": ("--samples 150", "at least 80"),
    "a run of another kind": ("--out {pruned}", "prune"),
    "other settings": ("--out {analysed} --sparsity 0.5", "sparsity"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_analyzed_is_one_line_and_no_folder(name, analysed, tmp_path, capsys):
    options, word = REFUSED[name]
    pruned = tmp_path / "pruned"
    if "{pruned}" in options:
        command = (
            f"prune digits --samples 200 --epochs 1 --dense-epochs 1 --rounds 1 --out {pruned}"
        )
        assert asked(*command.split())[0] == 0
    capsys.readouterr()
    out = tmp_path / "new"
    given = options.format(pruned=pruned, analysed=analysed[0]).split()
    status, printed = asked(*_replaced([*ANALYSE, "--out", str(out)], given))
    assert (status, printed) == (2, "")
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert word in error
    assert not out.exists()


def _replaced(arguments, given):
    """Return the arguments and the given options, which take the place of those of one name."""
    kept = list(arguments)
    for option in given[::2]:
        if option in kept:
            place = kept.index(option)
            del kept[place : place + 2]
    return [*kept, *given]


def test_an_unfinished_analysis_has_no_page(analysed, tmp_path, capsys):
    folder, _ = analysed
    record = json.loads((folder / "run.json").read_text()) | {"result": None}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert asked("report", tmp_path)[0] == 2
    assert "finished" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_an_analysis_is_no_run_to_audit(analysed, capsys):
    assert asked("audit", analysed[0])[0] == 2
    assert "analyse" in capsys.readouterr().err
