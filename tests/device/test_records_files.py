import json

import numpy as np
import pytest

from privet.device import Bundle, Settings, protect_file
from privet.device.network import softmax
from privet.errors import DataError, OptionError


@pytest.fixture(scope="module")
def bundle(guesser):
    names = tuple(f"app{i}" for i in range(300))
    return Bundle("attribute", guesser, feature_names=names, class_names=tuple("ABCDEF"))


@pytest.fixture(scope="module")
def guard(detector):
    return Bundle("membership", detector, settings=Settings(max_steps=60))


def as_text(records):
    lines = []
    for record in records:
        present = np.flatnonzero(record)
        lines.append(" ".join(f"{i}:{round(float(record[i]), 1)}" for i in present))
    return "\n".join(lines) + "\n"


def from_text(text, features=300):
    records = np.zeros((len(text.splitlines()), features))
    for row, line in enumerate(text.splitlines()):
        for pair in line.split():
            index, score = pair.split(":")
            records[row, int(index)] = float(score)
    return records


def tidy(ratings):
    return np.round(ratings.astype(np.float64), 1)


def test_text_is_protected_like_arrays_and_written_in_one_style(bundle, ratings, key, tmp_path):
    records = np.tile(tidy(ratings), (10, 1))  # several blocks
    source, out = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text(as_text(records))
    summary = protect_file(source, bundle, budget=2, key=key, out=out)
    release = bundle.protect(records, budget=2, key=key)
    np.testing.assert_array_equal(from_text(out.read_text()), release.records)
    assert out.read_text() == as_text(release.records)
    assert summary["records"] == 600
    assert summary["mean_cost"] == pytest.approx(release.cost.mean())
    assert summary["mean_expected_cost"] <= 2
    assert summary["changed"] == (release.cost > 0).sum()
    assert summary["unreached"] == (~release.reached).sum()


def test_input_spelling_never_shows_in_the_output(bundle, ratings, key, tmp_path):
    # Unsorted pairs, other spellings, CRLF, trailing blanks: all look alike afterwards.
    records = tidy(ratings[:5])
    odd = "\r\n".join(
        " ".join(f"{i:04d}:{record[i]:.3f}" for i in np.flatnonzero(record)[::-1]) + "  "
        for record in records
    )
    (tmp_path / "odd.txt").write_bytes(odd.encode())
    (tmp_path / "even.txt").write_text(as_text(records))
    for name in ("odd", "even"):
        protect_file(tmp_path / f"{name}.txt", bundle, budget=3, key=key, out=tmp_path / name)
    assert (tmp_path / "odd").read_bytes() == (tmp_path / "even").read_bytes()


def test_changes_tell_the_whole_story(bundle, ratings, key, tmp_path):
    records = tidy(ratings)
    source, out, notes = (tmp_path / name for name in ("in.txt", "out.txt", "changes.json"))
    source.write_text(as_text(records))
    protect_file(source, bundle, budget=4, key=key, out=out, changes=notes)
    entries = json.loads(notes.read_text())
    assert [entry["record"] for entry in entries] == list(range(60))
    replayed = records.copy()
    for entry in entries:
        assert entry["target"] in "ABCDEF"
        assert entry["cost"] == len(entry["changes"])
        for change in entry["changes"]:
            feature = int(change["feature"].removeprefix("app"))
            assert replayed[entry["record"], feature] == change["before"]
            replayed[entry["record"], feature] = change["after"]
    np.testing.assert_array_equal(replayed, from_text(out.read_text()))


@pytest.mark.parametrize("header", [True, False])
def test_csv_keeps_header_and_columns(bundle, ratings, key, tmp_path, header):
    records = tidy(ratings)
    lines = [",".join(f"{value:g}" for value in record) for record in records]
    names = ",".join(f'"app {i}"' for i in range(300))
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("\n".join([names] * header + lines) + "\n", encoding="utf-8-sig")
    protect_file(source, bundle, budget=2, key=key, out=out)
    written = out.read_text().splitlines()
    if header:
        assert written.pop(0) == names.replace('"', "")
    release = bundle.protect(records, budget=2, key=key)
    assert written == [",".join(f"{value:g}" for value in record) for record in release.records]


@pytest.mark.parametrize("name", ["records", "inputs", "X"])
def test_npz_keeps_name_and_dtype(bundle, ratings, key, tmp_path, name):
    source, out = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(source, secret=np.arange(3), **{name: ratings})
    protect_file(source, bundle, budget=2, key=key, out=out)
    with np.load(out, allow_pickle=False) as file:
        assert file.files == [name]
        assert file[name].dtype == np.float32
        release = bundle.protect(ratings, budget=2, key=key)
        np.testing.assert_array_equal(file[name], release.records)


def test_membership_files(guard, logits, key, tmp_path):
    np.savez(tmp_path / "logits.npz", logits=logits)
    summary = protect_file(
        tmp_path / "logits.npz",
        guard,
        budget=0.3,
        key=key,
        out=tmp_path / "out.npz",
        changes=tmp_path / "notes.json",
    )
    assert summary["mean_expected_cost"] <= 0.3
    assert summary["mean_cost"] > 0
    with np.load(tmp_path / "out.npz") as file:
        released = file["confidences"]
    np.testing.assert_allclose(released.sum(axis=1), 1)
    assert json.loads((tmp_path / "notes.json").read_text())[3]["target"] == logits[3].argmax()
    rows = [",".join(map(str, row)) for row in softmax(logits).tolist()]
    (tmp_path / "in.csv").write_text("\n".join(rows))
    protect_file(tmp_path / "in.csv", guard, budget=0.3, key=key, out=tmp_path / "out.csv")
    again = np.loadtxt(tmp_path / "out.csv", delimiter=",")
    np.testing.assert_allclose(again, released, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "holds no records"),
        ("a.txt", "1:0.2\n2:1.0 300:0.4\n", r"line 2: index 300 is out of range.*0\.\.299"),
        ("a.txt", "1:1.2\n", r"line 1: score '1.2' of index 1 is not in 0\.\.1"),
        ("a.txt", "1:nan\n", "score 'nan'"),
        ("a.txt", "1:-0.5\n", "score '-0.5'"),
        ("a.txt", "1:0.2 1:0.4\n", "index 1 stands there twice"),
        ("a.txt", "1:0.2\nhello\n", "line 2: 'hello' is not an index:score pair"),
        ("a.txt", "-1:0.2\n", "'-1:0.2' is not"),
        ("a.txt", "0.5,0.5\n", "'0.5,0.5' is not"),
        ("a.txt", b"\xff\xfe\x00", "not readable text"),
        ("a.csv", "", "is empty"),
        ("a.csv", "1,0,1\n", "line 1: 3 columns, not 300"),
        ("a.csv", "a,b\n", "header has 2 columns"),
        ("a.csv", "0," * 299 + "0\n" + "0," * 299 + "x\n", "line 2, column 300: 'x' is not in"),
        ("a.csv", "0," * 299 + "2\n", "column 300: '2' is not in 0..1"),
        ("a.csv", "0," * 299 + "nan\n", "column 300: 'nan'"),
        ("a.csv", "," * 299 + "\n", "column 1: '' is not"),
        ("a.csv", "a," * 299 + "0\n", "column 1: 'a' is not"),
        ("a.csv", "a," * 299 + "a\n", "holds no records"),
        ("a.npz", b"PK\x03\x04 no zip", "not a readable NPZ"),
        ("a.npz", b"", "not a readable NPZ"),
        ("none.txt", None, "cannot read"),
    ],
)
def test_bad_files_are_named_and_leave_nothing(bundle, key, tmp_path, name, content, message):
    source = tmp_path / name
    if content is not None:
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
    out, notes = tmp_path / "out", tmp_path / "notes"
    out.write_text("before")
    with pytest.raises(DataError, match=message) as caught:
        protect_file(source, bundle, budget=2, key=key, out=out, changes=notes)
    assert name in str(caught.value)
    assert out.read_text() == "before"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == ({name} if content is not None else set()) | {"out"}


def test_bad_arrays_are_named(bundle, guard, ratings, logits, key, tmp_path):
    path, out = tmp_path / "a.npz", tmp_path / "out"
    wrong = ratings.copy()
    wrong[30, 7] = 3
    nan = logits.copy()
    nan[5, 5] = np.nan
    cases = [
        (bundle, {"records": wrong}, "record 30, feature 7 is 3.0"),
        (bundle, {"records": ratings[:, 1:]}, r"shape \(n, 300\)"),
        (bundle, {"records": ratings, "X": ratings}, "one array"),
        (bundle, {"other": ratings}, "one array"),
        (bundle, {"records": np.array([[object()] * 300])}, "NPZ"),
        (guard, {"confidences": softmax(logits) * 2}, "record 0 is no probability vector"),
        (guard, {"logits": nan}, "record 5 holds NaN"),
    ]
    for one, arrays, message in cases:
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            protect_file(path, one, budget=2, key=key, out=out)
    (tmp_path / "a.txt").write_text("1:0.5")
    with pytest.raises(DataError, match=r"\.csv or \.npz"):
        protect_file(tmp_path / "a.txt", guard, budget=2, key=key, out=out)
    assert not out.exists()


def test_out_may_be_the_source_but_not_the_changes(bundle, ratings, key, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(as_text(tidy(ratings)))
    with pytest.raises(OptionError, match="both"):
        protect_file(path, bundle, budget=2, key=key, out=path, changes=path)
    protect_file(path, bundle, budget=2, key=key, out=path)
    release = bundle.protect(tidy(ratings), budget=2, key=key)
    assert path.read_text() == as_text(release.records)
