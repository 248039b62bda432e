"""Killed or interrupted at any moment, the same command ends where an unbroken one would have."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from privet.cli import run
from privet.files import replacing
from privet.jobs.stages import RunFolder

PRIVET = [sys.executable, "-m", "privet"]
PRUNE = "prune synthetic-purchases --defense swmr --epochs 8 --dense-epochs 8 --rounds 4 --seed 5"
DISTILL = (
    "prune synthetic-purchases --defense distill --set teacher=network --set folds=3 "
    "--epochs 8 --dense-epochs 8 --rounds 3 --seed 5"
)
QUICK = "prune digits --epochs 1 --dense-epochs 2 --rounds 2 --seed 5"
AUDIT = "--shadows 3 --jobs 1 --seed 2 --attacks conf,gap,label-only"
BUILD = "protect build synthetic-ratings --hidden 24 --attacker-hidden 16 --speedups 2,4 --seed 4"
CHANCE = np.random.default_rng()
PATIENCE = 60.0  # seconds to wait for a stage before the test gives up


def command(text, out):
    return [*text.split(), "--out", str(out), "--json"]


def stop_at(arguments, file, how, *, later=0.0):
    """Start privet, send it a signal once ``file`` is there, and return how it ended.

    The signal comes up to ``later`` seconds after the file, at a point of nobody's choosing.
    """
    process = subprocess.Popen(
        [*PRIVET, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it runs in the background ignore Ctrl-C, and so would we.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + PATIENCE
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(later * CHANCE.random())
    process.send_signal(how)
    out, err = process.communicate(timeout=PATIENCE)
    assert file.exists(), err
    return process.returncode, out, err


def kill_at(arguments, file):
    """Kill privet in the middle of its work, soon after ``file`` appeared."""
    returncode, out, err = stop_at(arguments, file, signal.SIGKILL, later=0.03)
    assert returncode == -signal.SIGKILL, err
    assert out == ""


def outcome(document):
    """Return a result without what may differ: wall time, and where it lies."""
    if isinstance(document, dict):
        varying = ("seconds", "bundle")
        return {key: outcome(value) for key, value in document.items() if key not in varying}
    return [outcome(entry) for entry in document] if isinstance(document, list) else document


def assert_same_stages(one, other):
    names = sorted(path.name for path in (one / "stages").iterdir() if path.name[0] != ".")
    assert names
    for name in names:
        assert (one / "stages" / name).read_bytes() == (other / "stages" / name).read_bytes(), name


def printed(arguments, capsys):
    capsys.readouterr()
    assert run(arguments) == 0
    return json.loads(capsys.readouterr().out)


def of_session(leader):
    """Return the processes of a session that still run (not the zombies)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session = status.read_text().rpartition(")")[2].split()[:4]
            found += [status.parent.name] if int(session) == leader and state != "Z" else []
    return found


def half_written(folder):
    """Return the temporary files of `privet.files.replacing` below a folder."""
    return list(folder.rglob(".*"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run folder that `PRUNE` filled without a break."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert run(command(PRUNE, folder)) == 0
    return folder


def assert_killed_runs_end_alike(text, phases, *, whole, folder, capsys):
    """Kill a command in each phase, finish it, and hold it against the unbroken run."""
    for stage in phases:
        kill_at(command(text, folder), folder / "stages" / f"{stage}.safetensors")
        assert json.loads((folder / "run.json").read_text())["result"] is None
    done = {path: path.stat().st_mtime_ns for path in (folder / "stages").glob("[!.]*")}
    stages = json.loads((folder / "run.json").read_text())["stages"]
    result = printed(command(text, folder), capsys)
    expected = json.loads((whole / "run.json").read_text())["result"]
    assert outcome(result) == outcome(expected)
    assert_same_stages(whole, folder)
    for path, when in done.items():
        assert path.stem not in stages or path.stat().st_mtime_ns == when, f"{path} made twice"


@pytest.mark.slow
def test_prune_killed_again_and_again_gives_the_unbroken_result(unbroken, tmp_path, capsys):
    assert_killed_runs_end_alike(
        PRUNE,
        ("score-model-1", "score-model-4", "dense", "round-1"),
        whole=unbroken,
        folder=tmp_path / "run",
        capsys=capsys,
    )


@pytest.mark.slow
def test_distillation_killed_among_teachers_and_rounds_too(tmp_path, capsys):
    assert run(command(DISTILL, tmp_path / "whole")) == 0
    assert_killed_runs_end_alike(
        DISTILL,
        ("teacher-0", "dense", "round-0"),
        whole=tmp_path / "whole",
        folder=tmp_path / "run",
        capsys=capsys,
    )


def test_rewound_rounds_resume_to_the_same_weights(tmp_path, capsys, monkeypatch):
    text = f"{QUICK} --rewind 1 --rounds 3".replace("--rounds 2 ", "")
    expected = printed(command(text, tmp_path / "whole"), capsys)
    folder, keep = tmp_path / "run", RunFolder.keep

    def killed(self, name, record, tensors):
        if name == "round-1":
            raise MemoryError("killed")
        keep(self, name, record, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "keep", killed)
        with pytest.raises(MemoryError):
            run(command(text, folder))
    assert outcome(printed(command(text, folder), capsys)) == outcome(expected)
    assert_same_stages(tmp_path / "whole", folder)


@pytest.mark.slow
def test_audit_killed_after_a_shadow_model_gives_the_unbroken_findings(unbroken, tmp_path, capsys):
    expected = printed(["audit", str(unbroken), *AUDIT.split(), "--json"], capsys)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "stages").symlink_to(unbroken / "stages")
    (folder / "run.json").write_bytes((unbroken / "run.json").read_bytes())
    arguments = ["audit", str(folder), *AUDIT.split(), "--json"]
    first = folder / "shadows" / "online-seed-2" / "0000.npz"
    kill_at(arguments, first)
    trained = first.stat().st_mtime_ns
    assert not (folder / "audit.json").exists()
    assert not first.with_name("0002.npz").exists()
    assert outcome(printed(arguments, capsys)) == outcome(expected)
    assert first.stat().st_mtime_ns == trained, "a finished shadow model was trained again"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for processes in /proc")
def test_no_worker_outlives_an_audit_that_was_killed(unbroken, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "stages").symlink_to(unbroken / "stages")
    (folder / "run.json").write_bytes((unbroken / "run.json").read_bytes())
    arguments = ["audit", str(folder), "--shadows", "40", "--jobs", "2", "--attacks", "conf"]
    process = subprocess.Popen(
        [*PRIVET, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # workers share the session, which tells them from others
    )
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob("shadows/*/[0-9]*.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(of_session(process.pid)) > 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while of_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert of_session(process.pid) == []


@pytest.mark.slow
def test_build_killed_again_and_again_gives_the_unbroken_bundles(tmp_path, capsys):
    whole, folder = tmp_path / "whole", tmp_path / "broken"
    for stage in ("base", "tier-2"):
        kill_at(command(BUILD, folder), folder / "stages" / f"{stage}.safetensors")
        assert not (folder / "protect.json").exists()
        assert not list(folder.glob("*.safetensors"))
    result = printed(command(BUILD, folder), capsys)
    assert outcome(result) == outcome(printed(command(BUILD, whole), capsys))
    assert_same_stages(whole, folder)
    for tier in ("x2", "x4"):
        name = f"synthetic-ratings-{tier}.safetensors"
        assert (whole / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_a_process_in_one_line_with_130(tmp_path):
    folder = tmp_path / "run"
    # Far more epochs than anyone waits for: only Ctrl-C ends this in time.
    arguments = command(PRUNE.replace("--epochs 8", "--epochs 100000"), folder)
    stage = folder / "stages" / "dense.safetensors"
    returncode, out, err = stop_at(arguments, stage, signal.SIGINT)
    assert returncode == 130
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("privet: interrupted")
    assert out == ""
    assert half_written(folder) == []
    assert json.loads((folder / "run.json").read_text())["result"] is None


def test_ctrl_c_while_a_stage_is_written_leaves_nothing_of_it(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    save = safetensors.torch.save_file

    def interrupted(tensors, path):
        if (folder / "stages" / "round-0.safetensors").exists():
            path.write_bytes(b"half of it")
            raise KeyboardInterrupt
        save(tensors, path)

    monkeypatch.setattr(safetensors.torch, "save_file", interrupted)
    assert run(command(QUICK, folder)) == 130
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("privet: interrupted")
    assert half_written(folder) == []
    record = json.loads((folder / "run.json").read_text())
    assert record["stages"].keys() == {"dense", "round-0"}
    assert {path.stem for path in (folder / "stages").iterdir()} == {"dense", "round-0"}


@pytest.mark.parametrize("stage", ["dense", "round-1", "model"])
def test_killed_between_weights_and_record_the_stage_is_redone(
    stage, tmp_path, capsys, monkeypatch
):
    expected = printed(command(QUICK, tmp_path / "whole"), capsys)
    folder, writing = tmp_path / "run", RunFolder._save

    def killed(self):
        if stage in self.record["stages"]:
            raise MemoryError("killed")
        writing(self)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "_save", killed)
        with pytest.raises(MemoryError):
            run(command(QUICK, folder))
    assert (folder / "stages" / f"{stage}.safetensors").exists()
    assert stage not in json.loads((folder / "run.json").read_text())["stages"]
    assert outcome(printed(command(QUICK, folder), capsys)) == outcome(expected)
    assert_same_stages(tmp_path / "whole", folder)


def test_killed_while_the_first_record_is_written_the_run_starts_over(tmp_path, capsys):
    folder = tmp_path / "run"
    with replacing(folder / "run.json") as temporary:
        left_over = temporary
    (folder / "run.json").unlink()
    left_over.write_text('{"format": 1, "ki')
    assert printed(command(QUICK, folder), capsys)["dataset"] == "digits"


@pytest.mark.parametrize("damage", [b"", b"\0" * 500])
def test_a_damaged_stage_is_named_not_used(damage, tmp_path, capsys):
    folder = tmp_path / "run"
    printed(command(QUICK, folder), capsys)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "result": None}))
    (folder / "stages" / "round-0.safetensors").write_bytes(damage)
    assert run(command(QUICK, folder)) == 2
    err = capsys.readouterr().err
    assert err.startswith("privet: ")
    assert err.count("\n") == 1
    assert "round-0.safetensors is damaged" in err
