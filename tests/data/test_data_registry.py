import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from privet.cli import data as commands
from privet.data import DATASETS, catalog, home, load, registry, status
from privet.data.fetch import RemoteFile
from privet.errors import DataError, OptionError

NAMES = {
    "att", "location", "texas100", "purchase100", "ch-mnist", "cifar10", "cifar100",
    "cifar10-images", "digits", "breast-cancer", "synthetic-ratings", "synthetic-purchases",
}  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIVET_DATA", str(tmp_path))
    return tmp_path


def test_home_follows_the_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == cache
    monkeypatch.setenv("PRIVET_DATA", "~/somewhere")
    assert home() == Path.home() / "somewhere"
    monkeypatch.setenv("PRIVET_DATA", "")
    assert home().name == "privet"


def test_catalog_is_sound() -> None:
    assert set(DATASETS) == NAMES
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert dataset.summary
        assert "\n" not in dataset.summary
        for file in dataset.files:
            assert file.url is None or file.url.startswith("https://")
            assert file.url is None or file.url.endswith("/" + file.name)
            algorithm, _, digest = (file.digest or "sha256:" + "0" * 64).partition(":")
            assert (algorithm, len(bytes.fromhex(digest))) == ("sha256", 32)
    assert [name for name in DATASETS if not DATASETS[name].files] == [
        "digits",
        "breast-cancer",
        "synthetic-ratings",
        "synthetic-purchases",
    ]
    assert DATASETS["location"].downloadable
    assert not DATASETS["cifar10-images"].downloadable


@pytest.mark.parametrize(
    "name", ["digits", "breast-cancer", "synthetic-ratings", "synthetic-purchases"]
)
def test_builtin_datasets_need_no_files(cache: Path, name: str) -> None:
    table = load(name)
    assert status(DATASETS[name]) == "builtin"
    assert table.name == name
    assert len(np.unique(table.labels)) == table.classes
    values = table.inputs.data if name == "synthetic-ratings" else table.inputs
    assert np.asarray(values).min() >= 0
    assert np.asarray(values).max() == 1
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", sorted(n for n in NAMES if DATASETS[n].files))
def test_missing_datasets_say_what_to_do(cache: Path, name: str) -> None:
    assert status(DATASETS[name]) == "missing"
    with pytest.raises(DataError) as caught:
        load(name)
    message = str(caught.value)
    assert (f"privet data fetch {name}" in message) == DATASETS[name].downloadable
    assert str(cache / name) in message
    assert all(file.name in message for file in DATASETS[name].files)


def test_small_files_are_verified_at_load(cache: Path) -> None:
    (cache / "location").mkdir()
    (cache / "location" / "dataset_location.tgz").write_bytes(b"something else")
    assert status(DATASETS["location"]) == "ready"
    with pytest.raises(DataError, match="is not the published file"):
        load("location")


def test_a_read_only_cache_will_do(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVET_DATA", str(real_data))
    before = sorted(real_data.rglob("*"))
    assert load("location").inputs.shape == (5010, 446)
    assert load("att").inputs.shape == (14607, 10000)
    assert sorted(real_data.rglob("*")) == before


def test_unknown_names_list_near_matches(cache: Path) -> None:
    with pytest.raises(DataError, match="did you mean purchase100") as caught:
        load("purchases100")
    assert all(name in str(caught.value) for name in NAMES)
    with pytest.raises(DataError, match="did you mean location"):
        registry.find("Location")


def test_paths_that_cannot_be_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load(str(tmp_path / "no.csv"))
    (tmp_path / "x.pkl").write_bytes(b"x")
    with pytest.raises(DataError, match="unknown kind of file"):
        load(str(tmp_path / "x.pkl"))


def test_a_name_wins_over_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert len(load("digits")) == 1797
    with pytest.raises(DataError, match="no pictures"):
        load("./digits")


def test_says_what_to_install_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(OptionError, match=r"pip install 'privet\[train\]'"):
        load("digits")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, privet.data\n"
        "heavy = {'torch', 'sklearn', 'PIL', 'matplotlib', 'numba'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# privet data


def test_list_prints_one_json_object(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.list_(json=True)
    captured = capsys.readouterr()
    listed = json.loads(captured.out)
    assert captured.err == ""
    assert listed["home"] == str(cache)
    entries = {entry["name"]: entry for entry in listed["datasets"]}
    assert set(entries) == NAMES
    assert entries["location"]["check"] == "sha256"
    assert entries["texas100"]["check"] == "unverified"
    assert entries["digits"]["status"] == "builtin"
    assert entries["att"]["status"] == "missing"
    assert [file["present"] for file in entries["att"]["files"]] == [False] * 4


def test_list_prints_a_table(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.list_()
    captured = capsys.readouterr()
    assert all(name in captured.out for name in ("att", "missing", "builtin", "unverified"))
    assert captured.err == ""


def test_fetch_reports_what_is_there(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.fetch("digits")
    assert "needs no download" in capsys.readouterr().out
    files = (RemoteFile("a.txt"),)
    dataset = catalog.Dataset("mine", "x", catalog._load_digits, "x", "membership", files)
    monkeypatch.setattr(registry, "DATASETS", {"mine": dataset})
    with pytest.raises(DataError, match="put it at"):
        commands.fetch("mine")
    (cache / "mine").mkdir()
    (cache / "mine" / "a.txt").write_bytes(b"")
    commands.fetch("mine")
    assert "unverified, sha256:e3b0c442" in capsys.readouterr().out
    with pytest.raises(DataError, match="no dataset or file"):
        commands.fetch("other")
