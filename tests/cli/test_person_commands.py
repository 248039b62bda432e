"""`privet protect apply` from end to end, as a person uses it."""

import json
import re
import signal
import time

import numpy as np
import pytest

from cli.commands import asked, refusal
from cli.person import (
    APPLY,
    NAMES,
    PATIENCE,
    handmade,
    make_bundle,
    make_tiers,
    process,
    ratings,
    started,
    summary,
    write_csv,
)
from cli.refusals import snapshot
from privet.device import Bundle, write_bundle
from privet.device.bundle import outline
from privet.device.pick import memory_needed

PAIRS = "\n".join("0:0.2 3:0.4" if i % 2 else "1:1 5:0.6" for i in range(30)) + "\n"


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """Whatever a command may leave behind by itself goes here."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.delenv("PRIVET_KEY", raising=False)
    return folder


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "made.safetensors")


@pytest.fixture
def mine(tmp_path):
    return write_csv(tmp_path / "mine.csv", ratings())


@pytest.fixture(scope="module")
def tiers(tmp_path_factory):
    return make_tiers(tmp_path_factory.mktemp("picking") / "tiers")


# Standard input and output.


def in_format(name, folder):
    """Write records as a file of this format."""
    path = folder / f"mine.{name if name != 'pairs' else 'txt'}"
    if name == "pairs":
        path.write_text(PAIRS)
    elif name == "npz":
        np.savez(path, records=ratings())
    elif name == "parquet":
        table, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = dict(zip(NAMES, ratings().T, strict=True))
        parquet.write_table(table.table(columns), path)
    else:
        write_csv(path, ratings(), separator="," if name == "csv" else "\t")
    return path


@pytest.mark.parametrize("name", ["csv", "tsv", "pairs", "npz", "parquet"])
def test_standard_output_holds_the_records_that_a_file_would_and_nothing_else(
    name, bundle, tmp_path
):
    source = in_format(name, tmp_path)
    out, key = source.with_stem("safe"), tmp_path / "key"
    assert asked(f"{APPLY} --key {{}} --out {{}}", source, bundle, key, out)[0] == 0
    assert out.read_bytes() != source.read_bytes()
    piped = f"{APPLY} --format {name} --key {{}} --out -"
    status, printed, err = process(piped, "-", bundle, key, stdin=source.read_bytes())
    assert (status, err) == (0, b"")
    assert printed == out.read_bytes()


def test_a_bad_record_late_in_standard_input_puts_nothing_on_standard_output(bundle, tmp_path):
    records = (PAIRS * 100 + "0:7\n").encode()
    command = f"{APPLY} --format pairs --key {{}} --out -"
    status, printed, err = process(command, "-", bundle, tmp_path / "key", stdin=records)
    assert (status, printed) == (2, b"")
    assert err.startswith(b"privet: standard input")
    assert err.count(b"\n") == 1


def test_a_reader_that_has_gone_ends_it_quietly(bundle, mine, tmp_path):
    running = started(f"{APPLY} --key {{}} --out -", mine, bundle, tmp_path / "key")
    running.stdout.close()
    running.stdin.close()
    err = running.stderr.read()
    running.stderr.close()
    assert (running.wait(PATIENCE), err) == (0, b"")


# Interrupted and killed.


def stopped_midway(how, bundle, folder):
    """Send a signal to a command that has begun to write and waits for more records."""
    out = folder / "safe.txt"
    out.write_text("an earlier result\n")
    before = set(folder.iterdir())
    command = f"{APPLY} --format pairs --key {{}} --out {{}} --changes {{}}"
    places = "-", bundle, folder / "key", out, folder / "changes.json"
    running = started(command, *places)
    running.stdin.write(PAIRS.encode())
    running.stdin.flush()
    deadline = time.monotonic() + PATIENCE
    while set(folder.iterdir()) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    begun = set(folder.iterdir()) - before
    running.send_signal(how)
    printed, err = running.communicate(timeout=PATIENCE)
    assert begun
    assert printed == b""
    assert out.read_text() == "an earlier result\n"
    assert not (folder / "changes.json").exists()
    return running.returncode, err, set(folder.iterdir()) - before


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_an_orderly_end_leave_everything_as_it_was(bundle, tmp_path, how):
    status, err, left = stopped_midway(how, bundle, tmp_path)
    assert (status, err.count(b"\n"), left) == (130, 1, set())
    assert err.startswith(b"privet: interrupted")


def test_a_kill_leaves_the_earlier_result_and_the_next_run_replaces_it(bundle, tmp_path):
    assert stopped_midway(signal.SIGKILL, bundle, tmp_path)[0] == -signal.SIGKILL
    source = in_format("pairs", tmp_path)
    places = source, bundle, tmp_path / "key", tmp_path / "safe.txt"
    assert asked(f"{APPLY} --key {{}} --out {{}}", *places)[0] == 0
    assert len((tmp_path / "safe.txt").read_text().splitlines()) == 30


# Looking before leaping.


def test_a_dry_run_leaves_no_file_and_no_key(bundle, mine, tmp_path, home):
    before = snapshot(tmp_path)
    told = summary(f"{APPLY} --dry-run", mine, bundle)
    assert told["dry_run"] is True
    assert told["records"] == 40
    assert told["changed"] > 0
    status, printed = asked(f"{APPLY} --dry-run", mine, bundle)
    assert (status, "wrote nothing" in printed) == (0, True)
    assert snapshot(tmp_path) == before
    assert snapshot(home) == {}


def test_a_dry_run_under_a_key_tells_what_the_run_will_do(bundle, mine, tmp_path):
    places = mine, bundle, tmp_path / "key"
    assert asked(f"{APPLY} --key {{}} --out {{}}", *places, tmp_path / "first.csv")[0] == 0
    changes = [tmp_path / "dry.json", tmp_path / "run.json"]
    asked(f"{APPLY} --key {{}} --dry-run --changes {{}}", *places, changes[0])
    out = tmp_path / "safe.csv"
    asked(f"{APPLY} --key {{}} --out {{}} --changes {{}}", *places, out, changes[1])
    foreseen, done = (json.loads(path.read_text()) for path in changes)
    assert foreseen == done
    assert out.read_bytes() == (tmp_path / "first.csv").read_bytes()


def test_changes_for_people_are_text_that_only_they_can_read(bundle, mine, tmp_path):
    see = tmp_path / "see.txt"
    told = summary(f"{APPLY} --dry-run --changes {{}}", mine, bundle, see)
    text = see.read_text()
    assert len(re.findall(r"^Record \d+:", text, re.M)) == told["changed"]
    assert "'bank app'" in text
    assert see.stat().st_mode & 0o777 == 0o600


def test_columns_that_the_bundle_does_not_know(bundle, mine, tmp_path, capsys):
    header, *lines = mine.read_text().splitlines()
    texts = [f"id,{header},note", *(f"{i},{line},n{i}" for i, line in enumerate(lines))]
    (tmp_path / "wide.csv").write_text("\n".join(texts) + "\n")
    command = f"{APPLY} --key {{}} --out {{}}"
    places = tmp_path / "wide.csv", bundle, tmp_path / "key"
    before = snapshot(tmp_path)
    assert "'id'" in refusal(command, *places, tmp_path / "new.csv", capsys=capsys)
    assert snapshot(tmp_path) == before
    kept, dropped = tmp_path / "kept.csv", tmp_path / "dropped.csv"
    assert asked(f"{command} --extra keep", *places, kept)[0] == 0
    assert asked(f"{command} --extra drop", *places, dropped)[0] == 0
    cut = [line.split(",", 1)[1].rpartition(",")[0] for line in kept.read_text().splitlines()]
    assert cut == dropped.read_text().splitlines()
    assert [line.split(",")[0] for line in kept.read_text().splitlines()[1:]] == [
        str(i) for i in range(40)
    ]


# A folder of tiers.


def test_of_a_folder_the_strongest_that_fits_is_taken(tiers, mine, tmp_path):
    needs = {path.name: memory_needed(outline(path)) for path in tiers.iterdir()}
    large, small = "cities-x2-float32.safetensors", "cities-x100-float32.safetensors"
    assert needs[large] > needs[small] + 1
    command = f"{APPLY} --key {{}} --dry-run"
    places = mine, tiers, tmp_path / "key"

    def taken(limits):
        return summary(command + limits, *places)["bundle"]

    assert taken("") == str(tiers / large)
    between = (needs[large] + needs[small]) / 2
    assert taken(f" --max-memory {between}") == str(tiers / small)
    assert taken(" --max-memory 1000 --max-ms 60000") == str(tiers / large)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ("--max-memory 5", r"no bundle fits into 5 MB: \S+x100-float32\S+ takes least, about 50"),
        ("--max-ms 0.00001", r"no bundle takes at most 1e-05 ms .*: \S+ is quickest, about [\d.]+"),
        ("--max-memory 0", "must be above 0; got 0"),
        ("--max-ms -1", "must be above 0; got -1"),
    ],
)
def test_where_no_tier_fits_the_least_need_is_named(limits, words, tiers, mine, tmp_path, capsys):
    before = snapshot(tmp_path)
    command = f"{APPLY} --key {{}} --out {{}} {limits}"
    places = mine, tiers, tmp_path / "key", tmp_path / "new.csv"
    assert re.search(words, refusal(command, *places, capsys=capsys))
    assert snapshot(tmp_path) == before


def test_tiers_of_two_kinds_are_nothing_to_choose_from(mine, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    make_bundle(folder / "a.safetensors")
    write_bundle(Bundle("membership", handmade(3, 5, 1)), folder / "b.safetensors")
    err = refusal(f"{APPLY} --dry-run", mine, folder, capsys=capsys)
    assert "bundles of one kind" in err
