import json
import os
import re
import stat
import tracemalloc

import numpy as np
import pytest

from privet.device import Bundle, Network, Rules, Settings, protect_file
from privet.device.formats import parquet
from privet.device.mechanism import KEY_BYTES
from privet.device.network import softmax
from privet.device.records import rehearsal_key


@pytest.fixture(scope="module")
def bundle(guesser):
    classes = ("north", "south", "east", "west", "new\nline", "[bold]")
    return Bundle("attribute", guesser, class_names=classes)


@pytest.fixture
def people(ratings, tmp_path):
    path = tmp_path / "people.npz"
    np.savez(path, records=ratings)
    return path


def test_json_says_what_was_guessed_before_and_after(bundle, ratings, people, key, tmp_path):
    options = {"budget": 3, "key": key, "out": tmp_path / "out.npz"}
    protect_file(people, bundle, changes=tmp_path / "changes.json", **options)
    entries = json.loads((tmp_path / "changes.json").read_text())
    released = bundle.protect(ratings, budget=3, key=key).records
    before, after = (
        softmax(bundle.network.logits(ratings)),
        softmax(bundle.network.logits(released)),
    )
    assert len(entries) == 60
    for row, entry in enumerate(entries):
        guess = int(before[row].argmax())
        assert entry["guess"] == bundle.class_names[guess]
        assert entry["guess_after"] == bundle.class_names[int(after[row].argmax())]
        assert entry["posterior_before"] == pytest.approx(before[row, guess], abs=1e-5)
        assert entry["posterior_after"] == pytest.approx(after[row, guess], abs=1e-5)


def test_text_tells_each_changed_record_in_two_lines(bundle, people, key, tmp_path):
    options = {"budget": 3, "key": key, "out": tmp_path / "out.npz"}
    protect_file(people, bundle, changes=tmp_path / "changes.json", **options)
    summary = protect_file(people, bundle, changes=tmp_path / "changes.TXT", **options)
    text = (tmp_path / "changes.TXT").read_text()
    changed = [e for e in json.loads((tmp_path / "changes.json").read_text()) if e["changes"]]
    told = re.findall(
        r"^Record (\d+): the guess was ('.*') with ([\d.]+)%; it is .* with ([\d.]+)% for \2\.\n"
        r"  (\d+) changes? towards ('.*'): (.*)$",
        text,
        flags=re.MULTILINE,
    )
    assert len(told) == len(changed) == summary["changed"] > 0
    for line, entry in zip(told, changed, strict=True):
        assert int(line[0]) == entry["record"] + 1
        assert line[1] == repr(entry["guess"])
        assert float(line[2]) == pytest.approx(100 * entry["posterior_before"], abs=0.06)
        assert float(line[3]) == pytest.approx(100 * entry["posterior_after"], abs=0.06)
        assert int(line[4]) == entry["cost"] == len(line[6].split("; "))
        assert line[5] == repr(entry["target"])
        for told_change, change in zip(line[6].split("; "), entry["changes"], strict=True):
            values = f"{change['before']:.3g} -> {change['after']:.3g}"
            assert told_change == f"{change['feature']} {values}"
    unchanged = 60 - len(changed)
    assert f"Of 60 records, {len(changed)} changed and {unchanged} stayed as they were." in text
    assert f"{summary['mean_cost']:.6g} (changed entries); " in text
    assert f"{summary['mean_expected_cost']:.6g} was to be expected, within the budget of 3" in text


def test_a_guess_that_stays_is_said_to_stay(bundle, people, key, tmp_path):
    options = {"budget": 1, "key": key, "out": tmp_path / "out.npz"}
    rules = Rules(keep=np.arange(bundle.features) > 0)  # one entry alone moves few guesses
    for name in ("changes.json", "changes.txt"):
        protect_file(people, bundle, changes=tmp_path / name, rules=rules, **options)
    entries = json.loads((tmp_path / "changes.json").read_text())
    still = [e for e in entries if e["changes"] and e["guess"] == e["guess_after"]]
    text = (tmp_path / "changes.txt").read_text()
    assert still
    for entry in still:
        guess, before, after = (
            entry[name] for name in ("guess", "posterior_before", "posterior_after")
        )
        assert (
            f"Record {entry['record'] + 1}: the guess was {guess!r} with {before:.1%}; "
            f"it is still {guess!r}, with {after:.1%}.\n"
        ) in text


@pytest.mark.parametrize("name", ["logits", "confidences"])
def test_membership_reports(detector, logits, key, tmp_path, name):
    guard = Bundle("membership", detector)
    given = logits if name == "logits" else softmax(logits)
    np.savez(tmp_path / "in.npz", **{name: given})
    for notes in ("notes.json", "notes.txt"):
        options = {"budget": 0.3, "key": key, "out": tmp_path / "out.npz"}
        protect_file(tmp_path / "in.npz", guard, changes=tmp_path / notes, **options)
    entries = json.loads((tmp_path / "notes.json").read_text())
    with np.load(tmp_path / "out.npz") as file:
        after = guard.posterior(file["confidences"])
    before = guard.posterior(softmax(logits))
    found = [(entry["posterior_before"], entry["posterior_after"]) for entry in entries]
    np.testing.assert_allclose(found, np.column_stack([before, after]), atol=2e-5)
    assert entries[3]["target"] == logits[3].argmax()
    assert "guess" not in entries[0]
    text = (tmp_path / "notes.txt").read_text()
    assert text.count("looked like one of the training set") == sum(e["cost"] > 0 for e in entries)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_text_is_for_the_owner_only(bundle, people, key, tmp_path):
    notes = tmp_path / "notes.txt"
    protect_file(people, bundle, budget=1, key=key, out=tmp_path / "o.npz", changes=notes)
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600


def test_a_dry_run_leaves_nothing_but_the_changes(bundle, people, key, tmp_path):
    notes, out = tmp_path / "notes.json", tmp_path / "out.npz"
    dry = protect_file(people, bundle, budget=2, key=key, out=None, changes=notes)
    assert {path.name for path in tmp_path.iterdir()} == {"people.npz", "notes.json"}
    foretold = notes.read_bytes()
    wet = protect_file(people, bundle, budget=2, key=key, out=out, changes=notes)
    assert notes.read_bytes() == foretold
    assert (dry.pop("dry_run"), wet.pop("dry_run")) == (True, False)
    assert dry | {"seconds": 0} == wet | {"seconds": 0}


def test_a_rehearsal_makes_no_key(key, tmp_path):
    path = tmp_path / "folder" / "key"
    first, second = rehearsal_key(path), rehearsal_key(path)
    assert len(first) == len(second) == KEY_BYTES
    assert first != second
    assert not path.parent.exists()
    path.parent.mkdir()
    path.write_bytes(key)
    path.chmod(0o600)
    assert rehearsal_key(path) == key


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".npz", ".parquet"])
def test_memory_does_not_grow_with_the_number_of_records(key, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP", 6000)
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (4, 6)).astype("f4"), rng.normal(0, 1, (2, 4)).astype("f4")
    network = Network(weights, (np.zeros(4, "f4"), np.zeros(2, "f4")))
    bundle = Bundle("attribute", network, settings=Settings(max_steps=2))
    source, peaks = tmp_path / f"in{suffix}", []
    for count in (2100, 6300):
        records = rng.integers(0, 6, (count, 6)) / 5
        if suffix == ".npz":
            np.savez(source, records=records)
        elif suffix == ".txt":
            lines = (" ".join(f"{i}:{v}" for i, v in enumerate(row)) for row in records.tolist())
            source.write_text("\n".join(lines))
        elif suffix == ".csv":
            np.savetxt(source, records, delimiter=",")
        else:
            arrow = pytest.importorskip("pyarrow")
            files = pytest.importorskip("pyarrow.parquet")
            files.write_table(arrow.table({str(i): records[:, i] for i in range(6)}), source)
        options = {"budget": 1, "key": key, "out": tmp_path / f"out{suffix}"}
        del records
        tracemalloc.start()
        protect_file(source, bundle, changes=tmp_path / "notes.txt", **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
