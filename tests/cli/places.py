"""A folder with every file and run that wrong commands name."""

import json
import shutil

import numpy as np

from privet.cli import run
from privet.device import Bundle, Network, write_bundle


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
    "more.csv": rows("a,b,label", *(f"0.1,{i / 30},{i % 2}" for i in range(30))),
    "swapped.csv": rows("b,a,label", *(f"0.1,{i / 30},{i % 2}" for i in range(30))),
    "strange.csv": rows("a,b,label", *(f"0.1,{i / 30},{i % 3}" for i in range(30))),
    "two.csv": rows("a,b,label", "0.1,0.2,0", "0.2,0.1,1"),
    "prose.docx": "not a table",
}


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


def make_template(folder):
    (folder / "folder").mkdir(parents=True)
    (folder / "folder" / "mine.txt").write_text("keep")
    (folder / "earlier.csv").write_text("an earlier result\n")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    np.savez(folder / "images.npz", X=rng.random((200, 3, 4, 4)).astype("f4"), y=labels)
    np.savez(folder / "larger.npz", X=rng.random((60, 3, 8, 8)).astype("f4"), y=labels[:60])
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
