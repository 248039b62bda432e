"""Commands run in this process, and what they print and leave behind."""

import json
from contextlib import redirect_stdout
from io import StringIO

import numpy as np

from privet.cli import run

SEED = 3
PRUNE = f"prune digits --epochs 1 --dense-epochs 2 --rounds 2 --seed {SEED}"
ONE_JOB = "--jobs 1 --seed 0"


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


def make_run(folder, options="", *, prune=PRUNE):
    assert asked(f"{prune} {options} --out {{}}", folder)[0] == 0
    return folder
