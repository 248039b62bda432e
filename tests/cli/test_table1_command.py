"""`privet reproduce table1` and the page on what it leaves behind."""

import json

import pytest

from cli.commands import asked, files, refusal, the_json
from cli.refusals import assert_refused, cases, snapshot
from privet.cli import run
from privet.jobs.stages import RunFolder
from reproduce.small_table1 import NETWORKS, SCALE, in_this_size

TABLE1 = "reproduce table1 --dataset att --seeds 2 --first-seed 1 --out {}"
REFUSED = {
    "unknown data set": ("--dataset digit", "did you mean digits"),
    "data that is not here": ("--dataset location", "privet data fetch location"),
    "missing file": ("--dataset missing.csv", "missing.csv"),
    "no seed": ("--dataset fine.csv --seeds 0", "seeds"),
    "negative first seed": ("--dataset fine.csv --first-seed -1", "-1"),
    "seeds in words": ("--dataset fine.csv --seeds three", "three"),
    "unknown scale": ("--dataset fine.csv --scale huge", "huge"),
    "table is a folder": ("--dataset fine.csv --table folder", "folder"),
    "table below a file": ("--dataset fine.csv --table fine.csv/table.md", "fine.csv/table.md"),
    "output is a file": ("--dataset fine.csv --out earlier.csv", "earlier.csv"),
    "images of an attribute": ("--dataset images.npz", "images"),
    "scores outside 0..1": ("--dataset beyond.csv", "[0, 1]"),
    "too few rows": ("--dataset tiny.csv", "tiny"),
    "unknown option": ("--dataset fine.csv --sparsity 0.6", "--sparsity"),
}


@cases(REFUSED)
def test_what_cannot_be_reproduced_is_refused(command, word, place, capsys):
    assert_refused(f"reproduce table1 --out new {command}", word, place=place, capsys=capsys)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A finished reproduction: its folder, its table in Markdown, and what it printed."""
    folder = tmp_path_factory.mktemp("reproduced")
    with pytest.MonkeyPatch.context() as patch:
        in_this_size(patch.setattr)
        document = the_json(f"{TABLE1} --table {{}}", folder / "out", folder / "tables" / "one.md")
    return folder / "out", folder / "tables" / "one.md", document


@pytest.fixture
def small(monkeypatch):
    in_this_size(monkeypatch.setattr)


def test_the_json_is_that_of_the_folder(reproduced):
    out, _, document = reproduced
    assert json.loads((out / "table1.json").read_text()) == document
    assert document["seeds"] == [1, 2]
    assert len(document["rows"]) == 1 + len(SCALE.units) + 6
    assert {each.name for each in out.iterdir()} == {"table1.json", "seed-1", "seed-2"}


def test_the_table_shows_every_attacker(reproduced):
    _, table, document = reproduced
    page = table.read_text()
    assert "`privet reproduce table1 --dataset att --scale small --seeds 2 --first-seed 1`" in page
    for row in document["rows"]:
        assert f"| {row['method']}" in page
    for attacker in ("nn-sgd", "majority", "distilled", "adversarial"):
        assert f"{attacker}: " in page  # who it is
        assert f"| {attacker} |" in page


def test_repeated_it_does_nothing_again(reproduced, small):
    out, _, document = reproduced
    before = files(out / "seed-1") | files(out / "seed-2")
    assert the_json(TABLE1, out) == document
    assert files(out / "seed-1") | files(out / "seed-2") == before


def test_for_people_it_prints_tables_and_where_they_come_from(reproduced, small, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, printed = asked(TABLE1, reproduced[0])
    assert status == 0
    for word in (
        "SP-ASPP",
        "random noise",
        "adversarial",
        f"wrote {reproduced[0] / 'table1.json'}",
    ):
        assert word in printed


def test_a_report_is_one_page_with_curves(reproduced, tmp_path):
    page = tmp_path / "page.html"
    assert asked("report {} --out {}", reproduced[0], page)[0] == 0
    html = page.read_text()
    assert html.lstrip().lower().startswith("<!doctype html")
    assert html.count("<svg") == 1
    for row in reproduced[2]["rows"]:
        assert row["method"] in html
    assert "distilled" in html
    assert asked("report {}", reproduced[0])[0] == 0
    assert (reproduced[0] / "report.html").read_text() == html
    (reproduced[0] / "report.html").unlink()


def test_no_report_on_what_is_not_finished(reproduced, tmp_path, capsys):
    seed = reproduced[0] / "seed-1"
    before = snapshot(seed)
    assert "no finished run" in refusal("report {}", seed, capsys=capsys)
    assert snapshot(seed) == before


def test_interrupted_it_goes_on_with_the_same_command(
    reproduced, small, tmp_path, monkeypatch, capsys
):
    out, keep = tmp_path / "out", RunFolder.keep

    def interrupted(self, name, record, tensors):
        if (self.path.name, name) == ("seed-2", "tier-8"):
            raise KeyboardInterrupt
        keep(self, name, record, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "keep", interrupted)
        capsys.readouterr()
        assert run(["reproduce", "table1", "--seeds", "2", "--first-seed", "1", "--out", str(out)])
        err = capsys.readouterr().err
    assert err.startswith("privet: interrupted")
    assert err.count("\n") == 1
    assert not (out / "table1.json").exists()
    assert list(out.rglob(".*")) == []
    done = files(out / "seed-1")
    assert the_json(TABLE1, out) == reproduced[2]
    assert files(out / "seed-1") == done
    for seed in ("seed-1", "seed-2"):
        for name in NETWORKS:
            file = f"{seed}/stages/{name}.safetensors"
            assert (out / file).read_bytes() == (reproduced[0] / file).read_bytes()


def test_other_data_in_the_same_folder_is_refused(reproduced, small, capsys):
    out = reproduced[0]
    before = snapshot(out)
    command = TABLE1.replace("att", "synthetic-ratings")
    assert "dataset" in refusal(command, out, capsys=capsys)
    assert snapshot(out) == before
