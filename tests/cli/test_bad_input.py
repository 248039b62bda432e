"""Whatever is wrong with the input: one line on stderr, exit status 2, and not a byte changed."""

import json
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from privet.cli import run
from privet.device import Bundle, Network, write_bundle

APPLY = "protect apply {} --bundle bundle.safetensors --budget 2 --key key --out {}"
PRUNE = "prune digits --out new "
QUICK = "--epochs 1 --dense-epochs 1 --rounds 1"
SIGNALS = "audit --signals target.npz "
REPRODUCE = "reproduce wemem --dataset fine.csv --out new "
SMALL = "--hidden 8 --attacker-hidden 8 --speedups 2"


def rows(*lines):
    return "\n".join(lines) + "\n"


FILES = {
    # Records to protect, for a bundle of 4 ratings and 3 classes.
    "good.txt": rows("0:0.2 3:0.4", "", "2:1"),
    "columns.csv": rows("0.5,0,0,1", "0.5,0,0,1,1"),
    "nan.csv": rows("0.5,0,0,1", "0.5,0,nan,1"),
    "word.csv": rows("0.5,0,0,1", "0.5,0,much,1"),
    "range.csv": rows("0.5,0,0,1", "0.5,0,0,1.5"),
    "range.txt": rows("0:0.2 3:0.4", "2:-0.1"),
    "index.txt": rows("0:0.2 4:0.4"),
    "twice.txt": rows("0:0.2 0:0.4"),
    "pair.txt": rows("0.2 0.4"),
    "empty.csv": "",
    "empty.txt": "",
    # Labelled tables to train on.
    "few-columns.csv": rows("a,b,label", "1,2,0", "1,0"),
    "nan-cell.csv": rows("a,b,label", "1,2,0", "nan,3,1"),
    "odd-label.csv": rows("a,b,label", "1,2,0", "2,3,0.5"),
    "one-label.csv": rows("a,b,label", "1,2,0", "2,3,0"),
    "no-rows.csv": rows("a,b,label"),
    "tiny.csv": rows("a,b,label", "0,1,0", "1,0,1", "0,0,0", "1,1,1"),
    "beyond.csv": rows("a,b,label", *(f"{i % 3},0.5,{i % 2}" for i in range(60))),
    "fine.csv": rows("a,b,label", *(f"{i % 3 / 2},0.5,{i % 2}" for i in range(60))),
    "prose.docx": "not a table",
}

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
    "check a truncated bundle": ("protect check truncated.safetensors", "truncated.safetensors"),
    "check a missing bundle": ("protect check no.safetensors", "no.safetensors"),
}
PRUNING = {
    "wrong column count": ("prune few-columns.csv --out new", "line 3"),
    "NaN in CSV": ("prune nan-cell.csv --out new", "line 3"),
    "NaN in NPZ": ("prune nan.npz --out new", "NaN"),
    "labels out of range": ("prune odd-label.csv --out new", "0.5"),
    "labels all the same": ("prune one-label.csv --out new", "label"),
    "empty file": ("prune empty.csv --out new", "empty"),
    "no rows": ("prune no-rows.csv --out new", "no rows"),
    "too few rows": ("prune tiny.csv --out new", "too few"),
    "images for a fully connected network": ("prune images.npz --out new", "images"),
    "truncated NPZ": ("prune truncated.npz --out new", "truncated.npz"),
    "unknown kind of file": ("prune prose.docx --out new", ".csv"),
    "missing file": ("prune missing.csv --out new", "missing.csv"),
    "missing dataset": ("prune att --out new", "privet data fetch att"),
    "unknown dataset": ("prune digit --out new", "did you mean digits"),
    "sparsity 1": (PRUNE + "--sparsity 1.0", "1.0"),
    "sparsity below 0": (PRUNE + "--sparsity -0.1", "-0.1"),
    "sparsity no number": (PRUNE + "--sparsity nan", "nan"),
    "no rounds": (PRUNE + "--rounds 0", "rounds"),
    "no epochs": (PRUNE + "--epochs 0", "epochs"),
    "negative epochs": (PRUNE + "--dense-epochs -1", "-1"),
    "unknown defense": (PRUNE + "--defense hope", "swmr"),
    "unknown pruner": (PRUNE + "--pruner scissors", "magnitude"),
    "unknown model": (PRUNE + "--model oracle", "fc"),
    "option the defense lacks": (PRUNE + "--defense rsw --set wide=3", "width"),
    "option of another type": (PRUNE + "--defense rsw --set width=wide", "width"),
    "option without a value": (PRUNE + "--defense rsw --set width", "width"),
    "negative seed": (PRUNE + "--seed -1", "seed"),
    "no output folder": ("prune digits", "--out"),
    "output in no run": ("prune digits --out folder", "folder"),
    "output is a file": ("prune digits --out earlier.csv", "earlier.csv"),
    "output below a file": ("prune digits --out earlier.csv/new", "earlier.csv"),
    "run with other settings": ("prune digits --out run --sparsity 0.5", "0.6"),
    "run with another seed": ("prune digits --out run --seed 9", "seed"),
    "run of another kind": ("prune digits --out build", "protect"),
    "damaged run.json": ("prune digits --out damaged", "run.json"),
    "one canary": (PRUNE + "--canaries 1", "canaries"),
    "canaries below 0": (PRUNE + "--canaries -2", "-2"),
    "more canaries than half": (PRUNE + "--canaries 360", "718"),
    "canaries a word": (PRUNE + "--canaries many", "many"),
    "run with other canaries": (f"prune digits --out run {QUICK} --canaries 4", "canaries"),
    "no canaries in a run with some": (f"prune digits --out canaried {QUICK}", "canaries"),
}
AUDITING = {
    "unknown attack": ("audit run --attacks conf,guess", "guess"),
    "no attack": ("audit run --attacks ,", "attack"),
    "no shadow models": ("audit run --shadows 0", "shadows"),
    "no jobs": ("audit run --jobs 0", "jobs"),
    "negative seed": ("audit run --seed -1", "seed"),
    "unfinished run": ("audit unfinished --shadows 1 --jobs 1", "not finished"),
    "no run": ("audit folder", "run.json"),
    "missing run": ("audit missing", "missing"),
    "run of another kind": ("audit build", "protect"),
    "truncated weights": ("audit truncated --shadows 1 --jobs 1", "model.safetensors"),
    "nothing to audit": ("audit", "--signals"),
    "a run and signals": ("audit run --signals target.npz", "--signals"),
    "a run and references": ("audit run --reference refs.npz", "--signals"),
    "a run and an output": ("audit run --out found.json", "--out"),
    "references alone": ("audit --reference refs.npz", "--signals"),
    "a shadow model of another size": ("audit stale --shadows 1 --jobs 1", "0000.npz"),
    "a truncated shadow model": ("audit cut --shadows 1 --jobs 1", "0000.npz"),
    "run of another version": ("audit older --shadows 1 --jobs 1", "another version"),
    "attack with no build": ("protect attack good.txt --labels empty.txt --build run", "prune"),
    "attack with no attack model": (
        "protect attack good.txt --labels empty.txt --build build",
        "no attack model",
    ),
    "report on no run": ("report folder", "folder"),
    "report on an unfinished run": ("report unfinished", "no finished run"),
    "report on a damaged run": ("report damaged", "run.json"),
}
RECORDED = {
    "offline": (SIGNALS + "--offline", "--offline"),
    "not adaptive": (SIGNALS + "--non-adaptive", "--non-adaptive"),
    "missing file": ("audit --signals no.npz", "no.npz"),
    "missing references": (SIGNALS + "--reference no.npz", "no.npz"),
    "truncated": ("audit --signals truncated.npz", "truncated.npz"),
    "no NPZ": ("audit --signals good.txt", "good.txt"),
    "a folder": ("audit --signals folder", "folder"),
    "an array lacks": ("audit --signals images.npz", "images.npz"),
    "members no truth": ("audit --signals maybe.npz", "members"),
    "members all alike": ("audit --signals all-in.npz --attacks gap", "nonmember"),
    "members of other samples": ("audit --signals fewer.npz --attacks gap", "membership"),
    "labels beyond the classes": ("audit --signals beyond.npz", "labels"),
    "NaN": ("audit --signals not-finite.npz", "NaN"),
    "robustness above 1": ("audit --signals sure.npz", "robustness"),
    "sensitivity of another shape": ("audit --signals shapeless.npz", "sensitivity"),
    "references to other samples": (SIGNALS + "--reference other-refs.npz", "labels"),
    "one model's references": (SIGNALS + "--reference target.npz", "logits"),
    "attack without references": (SIGNALS + "--attacks conf", "'conf'"),
    "attack without sensitivity": (SIGNALS + "--reference refs.npz --attacks samia", "'samia'"),
    "unknown attack": (SIGNALS + "--attacks guess", "guess"),
    "output is a folder": (SIGNALS + "--attacks gap --out folder", "folder"),
    "output below a file": (SIGNALS + "--attacks gap --out earlier.csv/new.json", "earlier.csv"),
}
REPRODUCING = {
    "unknown defense": (REPRODUCE + "--rows none,hope", "'hope'"),
    "no defense": (REPRODUCE + "--rows ,", "defense"),
    "unknown attack": (REPRODUCE + "--attacks guess", "guess"),
    "no attack": (REPRODUCE + "--attacks ,", "attack"),
    "unknown dataset": ("reproduce wemem --dataset digit --out new", "did you mean digits"),
    "missing dataset": ("reproduce wemem --out new", "privet data fetch location"),
    "images": ("reproduce wemem --dataset images.npz --out new", "images"),
    "no seeds": (REPRODUCE + "--seeds 0", "seeds"),
    "negative seed": (REPRODUCE + "--first-seed -1", "-1"),
    "no shadow models": (REPRODUCE + "--shadows 0", "shadows"),
    "sparsity 1": (REPRODUCE + "--sparsity 1", "sparsity"),
    "output is a file": (REPRODUCE + "--out earlier.csv", "earlier.csv"),
    "unknown paper": ("reproduce winmem", "winmem"),
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


def cases(table):
    return pytest.mark.parametrize(("command", "word"), table.values(), ids=table.keys())


def snapshot(folder):
    """Everything below a folder: the content of files, None for folders."""
    paths = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in paths}


def handmade():
    rng = np.random.default_rng(5)
    sizes = ((6, 4), (3, 6))
    return Network(
        tuple(rng.normal(size=size).astype(np.float32) for size in sizes),
        tuple(rng.normal(size=size[0]).astype(np.float32) for size in sizes),
    )


def make_bundles(folder):
    whole = folder / "bundle.safetensors"
    write_bundle(Bundle("attribute", handmade()), whole)
    content = whole.read_bytes()
    (folder / "truncated.safetensors").write_bytes(content[:-20])
    (folder / "edited.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def make_runs(folder):
    arguments = ["prune", "digits", "--epochs", "1", "--dense-epochs", "1", "--rounds", "1"]
    assert run([*arguments, "--out", str(folder / "run"), "--json"]) == 0
    record = json.loads((folder / "run" / "run.json").read_text())
    shutil.copytree(folder / "run", folder / "unfinished")
    (folder / "unfinished" / "run.json").write_text(json.dumps({**record, "result": None}))
    shutil.copytree(folder / "run", folder / "truncated")
    weights = folder / "truncated" / "stages" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    shutil.copytree(folder / "run", folder / "older")
    settings = {k: v for k, v in record["settings"].items() if k != "canaries"}
    (folder / "older" / "run.json").write_text(json.dumps({**record, "settings": settings}))
    assert run([*arguments, "--canaries", "4", "--out", str(folder / "canaried"), "--json"]) == 0
    for name, text in (("build", json.dumps({**record, "kind": "protect"})), ("damaged", "{")):
        (folder / name).mkdir()
        (folder / name / "run.json").write_text(text)


def make_shadows(folder):
    arguments = ["audit", str(folder / "run"), "--shadows", "1", "--jobs", "1", "--attacks", "gap"]
    shutil.copytree(folder / "run", folder / "spare")
    assert run([*arguments, "--json"]) == 0
    file = "shadows/online-seed-0/0000.npz"
    for name in ("stale", "cut"):
        shutil.copytree(folder / "run", folder / name)
        (folder / name / "audit.json").unlink()
    shutil.rmtree(folder / "run")
    (folder / "spare").rename(folder / "run")
    with np.load(folder / "stale" / file) as held:
        np.savez(folder / "stale" / file, **{name: held[name][:-1] for name in held})
    (folder / "cut" / file).write_bytes((folder / "cut" / file).read_bytes()[:500])


def make_signals(folder):
    rng = np.random.default_rng(1)
    whole = {
        "logits": rng.normal(size=(40, 3)),
        "labels": np.arange(40) % 3,
        "members": np.arange(40) % 2 == 0,
    }
    changes = {
        "target": {},
        "maybe": {"members": np.arange(40)},
        "all-in": {"members": np.ones(40, dtype=bool)},
        "fewer": {"members": whole["members"][1:]},
        "beyond": {"labels": whole["labels"] + 1},
        "not-finite": {"logits": np.full((40, 3), np.nan)},
        "sure": {"robustness": np.full(40, 1.5)},
        "shapeless": {"sensitivity": np.ones(40)},
    }
    for name, change in changes.items():
        np.savez(folder / f"{name}.npz", **{**whole, **change})
    logits, members = rng.normal(size=(4, 40, 3)), rng.random((4, 40)) < 0.5
    np.savez(folder / "refs.npz", logits=logits, members=members)
    np.savez(folder / "other-refs.npz", logits=logits[:, 1:], members=members[:, 1:])


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with every file and run that the commands name."""
    folder = tmp_path_factory.mktemp("bad") / "template"
    (folder / "folder").mkdir(parents=True)
    (folder / "folder" / "mine.txt").write_text("keep")
    (folder / "earlier.csv").write_text("an earlier result\n")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    np.savez(folder / "images.npz", X=rng.random((200, 3, 4, 4)).astype("f4"), y=labels)
    np.savez(folder / "nan.npz", X=np.full((200, 3), np.nan), y=labels)
    (folder / "truncated.npz").write_bytes((folder / "nan.npz").read_bytes()[:300])
    for name, size, mode in (("key", 32, 0o600), ("loose-key", 32, 0o644), ("short-key", 8, 0o600)):
        (folder / name).write_bytes(bytes(size))
        (folder / name).chmod(mode)
    make_bundles(folder)
    make_runs(folder)
    make_shadows(folder)
    make_signals(folder)
    return folder


@pytest.fixture
def place(template, tmp_path, monkeypatch):
    """A fresh copy of the folder to work in, with an empty data cache elsewhere."""
    folder = tmp_path / "place"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PRIVET_DATA", str(tmp_path / "cache"))
    return folder


def assert_refused(command, word, *, place, capsys):
    before = snapshot(place)
    capsys.readouterr()
    # A --key, --bundle or --budget given twice would itself be an error: the last one counts.
    status = run(last_of_each(command.split()))
    out, err = capsys.readouterr()
    assert err.startswith("privet: "), err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    assert word in err
    assert status == 2
    assert out == ""
    assert snapshot(place) == before
    assert not (place.parent / "cache").exists()


def last_of_each(words):
    """Drop options that are given again later, with their values."""
    kept = []
    for position, word in enumerate(words):
        if word.startswith("--") and word in words[position + 1 :]:
            continue
        previous = words[position - 1] if position else ""
        if previous.startswith("--") and previous in words[position:]:
            continue
        kept.append(word)
    return kept


@cases(APPLYING)
def test_apply_and_check_refuse(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(PRUNING)
def test_prune_refuses(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(AUDITING)
def test_audit_and_report_refuse(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(RECORDED)
def test_audit_of_recorded_signals_refuses(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(REPRODUCING)
def test_reproduce_refuses(command, word, place, capsys):
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
    python = [sys.executable, "-c", "from privet.cli import main; main()"]
    done = subprocess.run([*python, *command.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("privet: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert snapshot(place) == before
