"""Whatever is wrong with the input: one line on stderr, exit status 2, and not a byte changed."""

import logging
import os
import subprocess
import sys

import pytest

from cli.refusals import assert_refused, cases, snapshot
from privet.cli import run

APPLY = "protect apply {} --bundle bundle.safetensors --budget 2 --key key --out {}"
PRUNE = "prune digits --out new "
SMALL = "--hidden 8 --attacker-hidden 8 --speedups 2"

# The command, and a word that its message must hold.
APPLYING = {
    "wrong column count": (APPLY.format("columns.csv", "new.csv"), "line 2"),
    "NaN": (APPLY.format("nan.csv", "new.csv"), "line 2"),
    "a word": (APPLY.format("word.csv", "new.csv"), "much"),
    "score above 1": (APPLY.format("range.csv", "new.csv"), "1.5"),
    "score below 0": (APPLY.format("range.txt", "new.txt"), "-0.1"),
    "index out of range": (APPLY.format("index.txt", "new.txt"), "index 4"),
    "index twice": (APPLY.format("twice.txt", "new.txt"), "index 0"),
    "no pair": (APPLY.format("pair.txt", "new.txt"), "0.2"),
    "empty CSV": (APPLY.format("empty.csv", "new.csv"), "empty"),
    "empty text": (APPLY.format("empty.txt", "new.txt"), "no records"),
    "empty text, changes": (APPLY.format("empty.txt", "n.txt") + " --changes c.json", "no records"),
    "missing file": (APPLY.format("missing.txt", "new.txt"), "missing.txt"),
    "folder for a file": (APPLY.format("folder", "new.txt"), "folder"),
    "truncated NPZ": (APPLY.format("truncated.npz", "new.npz"), "truncated.npz"),
    "output kept": (APPLY.format("nan.csv", "earlier.csv"), "line 2"),
    "output is the input": (APPLY.format("range.csv", "range.csv"), "1.5"),
    "output is a folder": (APPLY.format("good.txt", "folder"), "folder"),
    "output below a file": (APPLY.format("good.txt", "earlier.csv/new.txt"), "earlier.csv"),
    "changes over input": (APPLY.format("good.txt", "new.txt") + " --changes good.txt", "good.txt"),
    "negative budget": (APPLY.format("good.txt", "new.txt") + " --budget -1", "-1"),
    "budget no number": (APPLY.format("good.txt", "new.txt") + " --budget nan", "nan"),
    "budget a word": (APPLY.format("good.txt", "new.txt") + " --budget much", "much"),
    # A record's own class costs no change, so every budget above 0 is feasible.
    "budget below what is feasible": (
        APPLY.format("good.txt", "new.txt") + " --budget 0",
        "least budget",
    ),
    "truncated bundle": (
        APPLY.format("good.txt", "new.txt") + " --bundle truncated.safetensors",
        "truncated.safetensors",
    ),
    "edited bundle": (
        APPLY.format("good.txt", "new.txt") + " --bundle edited.safetensors",
        "digest",
    ),
    "empty bundle": (APPLY.format("good.txt", "new.txt") + " --bundle empty.txt", "empty.txt"),
    "missing bundle": (APPLY.format("good.txt", "new.txt") + " --bundle no.safetensors", "no.saf"),
    "key others can read": (APPLY.format("good.txt", "new.txt") + " --key loose-key", "chmod 600"),
    "key of wrong size": (APPLY.format("good.txt", "new.txt") + " --key short-key", "short-key"),
    "key is a folder": (APPLY.format("good.txt", "new.txt") + " --key folder", "folder"),
    "unknown feature to keep": (APPLY.format("good.txt", "new.txt") + " --keep 1,chess", "'chess'"),
    "feature beyond the last": (APPLY.format("good.txt", "new.txt") + " --keep 4", "0..3"),
    "unknown policy": (APPLY.format("good.txt", "new.txt") + " --policy delete", "add_new"),
    "neither output nor dry run": (APPLY.partition(" --key")[0].format("good.txt"), "--dry-run"),
    "output and dry run": (APPLY.format("good.txt", "new.txt") + " --dry-run", "--dry-run"),
    "two things on standard output": (APPLY.format("good.txt", "-") + " --json", "--json"),
    "standard input of no format": (APPLY.format("-", "new.txt"), "format"),
    "unknown format": (APPLY.format("good.txt", "new.txt") + " --format xml", "xml"),
    "output of another format": (APPLY.format("good.txt", "new.csv"), "new.csv"),
    "option for a file": (APPLY.format("--bogus good.txt", "new.txt"), "--bogus"),
    "option for the output": (APPLY.format("good.txt", "--dry-run"), "./--dry-run"),
    "changes on standard output": (APPLY.format("good.txt", "new.txt") + " --changes -", "changes"),
    "changes over the key": (APPLY.format("good.txt", "new.txt") + " --changes key", "key"),
    "output over the bundle": (APPLY.format("good.txt", "bundle.safetensors"), "overwritten"),
    "unknown way with columns": (APPLY.format("good.txt", "new.txt") + " --extra hide", "hide"),
    "limit without a choice": (APPLY.format("good.txt", "new.txt") + " --max-ms 5", "--max-ms"),
    "folder of no bundle": (APPLY.format("good.txt", "new.txt") + " --bundle folder", "folder"),
    "folder with a bad bundle": (APPLY.format("good.txt", "new.txt") + " --bundle .", "truncated"),
    "check a folder": ("protect check folder", "folder"),
    "check a truncated bundle": ("protect check truncated.safetensors", "truncated.safetensors"),
    "check a missing bundle": ("protect check no.safetensors", "no.safetensors"),
}
SERVING = {
    "missing bundle": ("protect serve no.safetensors", "no.safetensors"),
    "edited bundle": ("protect serve edited.safetensors --out new", "digest"),
    "port and folder": ("protect serve bundle.safetensors --port 0 --out new", "--port"),
    "no port": ("protect serve bundle.safetensors --port 70000", "70000"),
    "other files in the folder": ("protect serve bundle.safetensors --out folder", "mine.txt"),
    "file for a folder": ("protect serve bundle.safetensors --out earlier.csv", "earlier.csv"),
}
SIGNING = {
    "key there already": ("protect keygen --private new.pem --public key", "already"),
    "keys in one place": ("protect keygen --private new.pem --public new.pem", "already"),
    "missing key": ("protect sign bundle.safetensors --key no.pem", "no.pem"),
    "no signing key": ("protect sign bundle.safetensors --key key", "private Ed25519"),
    "key others can read": ("protect sign bundle.safetensors --key loose-key", "chmod 600"),
    "missing file": ("protect sign no.safetensors --key key", "key"),
    "no key to trust": ("protect check bundle.safetensors --trusted good.txt", "public Ed25519"),
    "missing key to trust": ("protect serve bundle.safetensors --trusted no.pem", "no.pem"),
}
BUILDING = {
    "missing file": ("protect build missing.csv --out new", "missing.csv"),
    "missing dataset": ("protect build att --out new", "privet data fetch att"),
    "scores outside 0..1": (f"protect build beyond.csv --out new {SMALL}", "[0, 1]"),
    "images": (f"protect build images.npz --out new {SMALL}", "images"),
    "too few rows": (f"protect build tiny.csv --out new {SMALL}", "tiny"),
    "too few rows for membership": ("protect build tiny.csv --kind membership --out new", "11"),
    "no hidden units": ("protect build synthetic-ratings --hidden 0 --out new", "hidden"),
    "hidden units of membership": ("protect build digits --hidden 8 --out new", "hidden"),
    "unknown kind": ("protect build digits --kind secret --out new", "membership"),
    "speed-up below 1": (f"protect build fine.csv --out new {SMALL},0.5", "0.5"),
    "speed-up twice": (f"protect build fine.csv --out new {SMALL},2", "2.0"),
    "speed-up no number": (f"protect build fine.csv --out new {SMALL},nan", "speed-up"),
    "speed-up without end": (f"protect build fine.csv --out new {SMALL},inf", "speed-up"),
    "speed-up out of reach": (f"protect build fine.csv --out new {SMALL},900", "900"),
    "speed-ups in words": ("protect build fine.csv --out new --speedups fast", "fast"),
    "bound of no definition": (f"protect build fine.csv --out new --bounds x=0.1 {SMALL}", "x"),
    "bound above 1": (f"protect build fine.csv --out new --bounds q=1.5 {SMALL}", "1.5"),
    "bound without a value": (f"protect build fine.csv --out new --bounds q {SMALL}", "bounds"),
    "negative seed": (f"protect build fine.csv --out new --seed -1 {SMALL}", "seed"),
    "unknown recipe": (f"protect build fine.csv --out new --recipe slow {SMALL}", "transfer"),
    "unknown importance": (f"protect build fine.csv --out new --importance gut {SMALL}", "taylor"),
    "recipe of membership": (
        "protect build digits --recipe plain --out new --kind membership",
        "only",
    ),
    "importance of membership": (
        "protect build digits --importance random --out new --kind membership",
        "only",
    ),
    "unknown precision": (f"protect build fine.csv --out new --precisions int4 {SMALL}", "int4"),
    "precision twice": (f"protect build fine.csv --out new --precisions int8,int8 {SMALL}", "int8"),
    "no precision": (f"protect build fine.csv --out new --precisions , {SMALL}", "precision"),
    "unknown policy": (f"protect build fine.csv --out new --policy delete {SMALL}", "add_new"),
    "value above 1": (f"protect build fine.csv --out new --high 1.5 {SMALL}", "1.5"),
    "value a word": (f"protect build fine.csv --out new --low least {SMALL}", "--low"),
    "value NaN": (f"protect build fine.csv --out new --low nan {SMALL}", "low"),
    "values of other features": (f"protect build fine.csv --out new --low 0,0,0 {SMALL}", "3"),
    "low above high": (f"protect build fine.csv --out new --low 0.6 --high 0.4 {SMALL}", "0.6"),
    "unknown feature": (f"protect build fine.csv --out new --never chess {SMALL}", "chess"),
    "rules of membership": ("protect build digits --never 1 --out new", "attribute"),
    "output in no run": (f"protect build fine.csv --out folder {SMALL}", "folder"),
    "output in another run": (f"protect build fine.csv --out run {SMALL}", "prune"),
}
USAGE = {
    "unknown option": (PRUNE + "--sparse 0.5", "--sparse"),
    "unknown command": ("plant", "plant"),
    "unknown subcommand": ("protect plant", "plant"),
    "one argument too many": (PRUNE + "more", "more"),
    "no data": ("prune --out new", "data"),
    "unknown name to fetch": ("data fetch digit", "did you mean digits"),
    "sparsity a word": (PRUNE + "--sparsity half", "half"),
}


@cases(APPLYING)
def test_apply_and_check_refuse(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(SERVING)
def test_serve_refuses(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(SIGNING)
def test_signing_and_trusting_refuse(command, word, place, capsys):
    pytest.importorskip("cryptography")
    assert_refused(command, word, place=place, capsys=capsys)


@cases(BUILDING)
def test_build_refuses(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(USAGE)
def test_wrong_usage_is_refused(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


def test_the_good_files_are_good(place, capsys):
    assert run(APPLY.format("good.txt", "new.txt").split()) == 0
    assert capsys.readouterr().err == ""
    assert len((place / "new.txt").read_text().splitlines()) == 3


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_an_unwritable_folder_is_refused(place, capsys):
    (place / "folder").chmod(0o500)
    assert_refused(APPLY.format("good.txt", "folder/new.txt"), "folder", place=place, capsys=capsys)


def test_logging_is_not_left_to_tell_of_bad_input(place, capsys, caplog):
    with caplog.at_level(logging.INFO):
        assert_refused("prune digits --out folder", "folder", place=place, capsys=capsys)
    assert caplog.messages == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        APPLY.format("nan.csv", "new.csv"),
        "protect check truncated.safetensors",
        "prune digits --out run --sparsity 0.5",
        "prune digits --bogus",
    ],
)
def test_a_process_prints_one_line_and_exits_2(command, place):
    before = snapshot(place)
    python = [sys.executable, "-m", "privet"]
    done = subprocess.run([*python, *command.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("privet: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert snapshot(place) == before
