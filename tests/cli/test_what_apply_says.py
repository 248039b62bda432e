"""What `privet protect apply` says to people: its summary, and its notes on stderr."""

import re

import numpy as np
import pytest

from cli.commands import asked
from cli.person import APPLY, NAMES, handmade, make_bundle, ratings, summary, write_csv
from privet.device import Bundle, write_bundle

MISSED = {"definitions": {"passed": False}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "b.safetensors")
    write_csv(tmp_path / "mine.csv", ratings())
    return tmp_path


def said(command, capsys, *, bundle="b.safetensors"):
    """Return what a command that succeeds prints on stdout and stderr."""
    capsys.readouterr()
    status, printed = asked(command, "mine.csv", bundle)
    assert status == 0
    return printed, capsys.readouterr().err


def test_without_a_key_a_dry_run_is_said_to_be_no_forecast(place, capsys):
    dry = f"{APPLY} --key key --dry-run"
    told = "privet: there is no key yet: the run that makes one will choose other changes\n"
    assert said(dry, capsys)[1] == told
    assert said(f"{dry} --json", capsys)[1] == told
    assert said(f"{APPLY} --key key --out new.csv", capsys)[1] == ""
    assert said(dry, capsys)[1] == ""


def test_every_file_that_was_written_is_named(place, capsys):
    run = f"{APPLY} --key key"
    assert said(f"{run} --dry-run", capsys)[0].endswith("\nwrote nothing: a dry run\n")
    see = "\nwrote see.txt, for your eyes only\n"
    printed = said(f"{run} --dry-run --changes see.txt", capsys)[0]
    assert printed.endswith(f"{see}wrote nothing else: a dry run\n")
    printed = said(f"{run} --out new.csv --changes see.txt", capsys)[0]
    assert printed.endswith(f"{see}wrote new.csv\n")


def test_a_bundle_that_missed_its_definitions_is_not_used_without_a_word(place, capsys):
    make_bundle(place / "weak.safetensors", card=MISSED)
    for options in ("--dry-run", "--out new.csv", "--out new.csv --json"):
        err = said(f"{APPLY} --key key {options}", capsys, bundle="weak.safetensors")[1]
        first = err.splitlines()[0]
        assert first.startswith("privet: weak.safetensors missed Definitions 1-3; see privet")
    make_bundle(place / "strong.safetensors", card={"definitions": {"passed": True}})
    assert said(f"{APPLY} --key key --out new.csv", capsys, bundle="strong.safetensors")[1] == ""


def test_the_summary_is_in_plain_words(place, capsys):
    run = f"{APPLY} --key key --out new.csv"
    told, printed = summary(run, "mine.csv", "b.safetensors"), said(run, capsys)[0]
    lines = printed.splitlines()
    assert lines[0] == f"records: 40, of which changed: {told['changed']}"
    assert lines[1] == (
        f"changed entries a record: {told['mean_cost']:.4g} on average, "
        f"{told['mean_expected_cost']:.4g} expected, within a budget of 3"
    )
    assert lines[2].startswith("records where the search fell short of the class aimed at: ")
    assert lines[2].endswith(f": {told['unreached']}")
    assert lines[4] == "bundle: b.safetensors"
    before, after = (
        np.loadtxt(place / name, delimiter=",", skiprows=1) for name in ("mine.csv", "new.csv")
    )
    assert told["mean_cost"] == (before != after).sum(axis=1).mean()


def test_the_summary_of_confidences_speaks_of_distance(place, capsys):
    write_bundle(Bundle("membership", handmade(6, 5, 1)), place / "m.safetensors")
    values = np.random.default_rng(0).dirichlet(np.ones(len(NAMES)), 5)
    lines = [",".join(f"{v!r}" for v in row) for row in values.tolist()]
    (place / "mine.csv").write_text("\n".join(lines) + "\n")
    printed = said(f"{APPLY} --key key --out new.csv", capsys, bundle="m.safetensors")[0]
    assert re.search(r"^L1 distance a record: [\d.e-]+ on average", printed, re.M)
    assert re.search(r"^records where no noise was found .*: \d+$", printed, re.M)


def test_a_record_that_is_refused_is_said_to_be_counted_from_0(place, capsys):
    np.savez(place / "mine.npz", records=[[1.0] * 6, [7.0] * 6])
    command = f"{APPLY} --key key --out new.npz"
    assert asked(command, "mine.npz", "b.safetensors") == (2, "")
    err = capsys.readouterr().err
    assert err.startswith("privet: mine.npz: record 1, feature 0 is 7")
    assert err.endswith(" (counting from 0)\n")
