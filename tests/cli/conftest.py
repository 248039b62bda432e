"""Folders that commands work in: made once, and copied for each test."""

import shutil

import pytest

from cli.commands import make_run
from cli.places import make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A folder with every file and run that the commands name."""
    folder = tmp_path_factory.mktemp("bad") / "template"
    make_template(folder)
    return folder


@pytest.fixture
def place(template, tmp_path, monkeypatch):
    """A fresh copy of the folder to work in, with an empty data cache elsewhere."""
    folder = tmp_path / "place"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PRIVET_DATA", str(tmp_path / "cache"))
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Finished runs, without a defense, with one, and on few rows; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    runs = {name: make_run(folder / name, f"--defense {name}") for name in ("base", "rsw")}
    return {**runs, "small": make_run(folder / "small", "--defense base --samples 240")}


@pytest.fixture
def undefended(finished, tmp_path):
    return shutil.copytree(finished["base"], tmp_path / "base")


@pytest.fixture
def defended(finished, tmp_path):
    return shutil.copytree(finished["rsw"], tmp_path / "rsw")


@pytest.fixture
def small(finished, tmp_path):
    """A run on so few rows that attacks that learn take a moment."""
    return shutil.copytree(finished["small"], tmp_path / "small")
