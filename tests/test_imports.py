"""Importing privet is light, and a person's device needs next to nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest

import privet
from privet.device import Bundle, Network, write_bundle

HEAVY = ("torch", "torch_pruning", "scipy", "sklearn", "numba", "matplotlib", "joblib", "jinja2")
WITHOUT = (*HEAVY, "PIL", "pandas", "pyarrow", "socket")

LOADED = """
import importlib, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
heavy = set(sys.argv[2].split(","))
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
BLOCKED = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from privet.cli import main
main(sys.argv[2:])
"""


def python(script, *arguments):
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def without(missing, *arguments):
    """Run the command line in a process that lacks some packages."""
    return python(BLOCKED, ",".join(missing), *arguments)


@pytest.fixture
def attribute_bundle(tmp_path):
    rng = np.random.default_rng(0)
    sizes = ((5, 6), (3, 5))
    network = Network(
        tuple(rng.normal(size=size).astype(np.float32) for size in sizes),
        tuple(np.zeros(size[0], np.float32) for size in sizes),
    )
    path = tmp_path / "bundle.safetensors"
    write_bundle(Bundle("attribute", network), path)
    return path


@pytest.mark.parametrize(
    "modules", ["privet", "privet.cli", "privet,privet.device", "privet.errors,privet.files"]
)
def test_importing_loads_nothing_heavy(modules):
    done = python(LOADED, modules, ",".join(HEAVY))
    assert done.stdout == "[]\n", done.stderr + done.stdout


@pytest.mark.parametrize("modules", ["privet.attacks", "privet.findings", "privet.metrics"])
def test_judging_recorded_signals_loads_no_torch(modules):
    done = python(LOADED, modules, "torch,torch_pruning,sklearn,numba,matplotlib")
    assert done.stdout == "[]\n", done.stderr + done.stdout


def test_every_public_name_is_there():
    assert all(callable(getattr(privet, name)) for name in privet.__all__)
    assert set(privet.__all__) <= set(dir(privet))
    with pytest.raises(AttributeError, match="prunes"):
        privet.prunes  # noqa: B018


def test_apply_works_without_torch_scipy_and_all_the_rest(attribute_bundle, tmp_path):
    (tmp_path / "mine.txt").write_text("0:0.2 3:1.0\n\n1:0.6\n")
    arguments = ["protect", "apply", tmp_path / "mine.txt", "--bundle", attribute_bundle]
    arguments += ["--budget", "1", "--key", tmp_path / "key", "--out", tmp_path / "out.txt"]
    done = without(WITHOUT, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == 3
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 3
    assert done.stderr == ""


def test_check_works_without_them_too(attribute_bundle):
    done = without(WITHOUT, "protect", "check", attribute_bundle, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {}), done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["prune", "--help"]])
def test_help_works_without_them_too(arguments):
    done = without(WITHOUT, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    ("missing", "arguments", "remedy"),
    [
        ("torch", ["prune", "synthetic-purchases", "--out", "new"], "privet[train,report]"),
        ("torch", ["protect", "build", "synthetic-ratings", "--out", "new"], "privet[train,"),
        ("sklearn", ["prune", "digits", "--out", "new"], "'sklearn': pip install 'privet[train,"),
        ("jinja2", ["report", "run"], "privet[report]"),
    ],
)
def test_a_missing_package_is_named_in_one_line(missing, arguments, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    record = {"kind": "prune", "result": {"dataset": "x"}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    done = without([missing], *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("privet: ")
    assert done.stderr.count("\n") == 1
    assert remedy in done.stderr
    assert not (tmp_path / "new").exists()
