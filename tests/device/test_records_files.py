import json
import os
import stat
import sys
from contextlib import contextmanager
from io import BytesIO
from types import SimpleNamespace

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
    records = np.tile(tidy(ratings), (20, 1))  # several blocks
    source, out = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text(as_text(records))
    summary = protect_file(source, bundle, budget=2, key=key, out=out)
    release = bundle.protect(records, budget=2, key=key)
    np.testing.assert_array_equal(from_text(out.read_text()), release.records)
    assert out.read_text() == as_text(release.records)
    assert summary["records"] == 1200
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
    names = ",".join(f'"app{i}"' for i in range(300))
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
    np.savez(source, **{name: ratings})
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
        ("a.csv", "a,b\n", "has no 'app0', 'app1', 'app2' and 297 more and has 'a', 'b', unknown"),
        ("a.csv", "0," * 299 + "0\n" + "0," * 299 + "x\n", "line 2, column 300: 'x' is not in"),
        ("a.csv", "0," * 299 + "2\n", "column 300: '2' is not in 0..1"),
        ("a.csv", "0," * 299 + "nan\n", "column 300: 'nan'"),
        ("a.csv", "," * 299 + "\n", "column 1: '' is not"),
        ("a.csv", "a," * 299 + "0\n", "column 1: 'a' is not"),
        ("a.csv", ",".join(f"app{i}" for i in range(300)) + "\n", "holds no records"),
        ("a.npz", b"PK\x03\x04 no zip", "not a sound NPZ"),
        ("a.npz", b"", "not a sound NPZ"),
        ("a.tsv", "0\t" * 299 + "2\n", "column 300: '2' is not in 0..1"),
        ("a.csv", "\n" + "0," * 299 + "0\n", "first line"),
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
        (bundle, {"records": ratings, "X": ratings}, "one of: records; inputs"),
        (bundle, {"other": ratings}, "It holds other"),
        (bundle, {"records": np.array([[object()] * 300])}, "numbers of shape.*got object"),
        (guard, {"confidences": softmax(logits) * 2}, "record 0 is no probability vector"),
        (guard, {"logits": nan}, "record 5 holds NaN"),
    ]
    for one, arrays, message in cases:
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            protect_file(path, one, budget=2, key=key, out=out)
    (tmp_path / "a.txt").write_text("1:0.5")
    with pytest.raises(DataError, match=r"\.tsv or \.npz"):
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


def table(records, names=None, separator=","):
    lines = [separator.join(f"{value:g}" for value in record) for record in records]
    return "\n".join([separator.join(names or ())] * bool(names) + lines) + "\n"


def test_columns_are_told_by_their_names(bundle, ratings, key, tmp_path):
    records, names = tidy(ratings), list(bundle.feature_names)
    source, out, notes = (tmp_path / name for name in ("in.csv", "out.csv", "notes.json"))
    release = bundle.protect(records, budget=2, key=key)
    assert (release.records != records).any()
    for order in (range(300), range(299, -1, -1), np.random.default_rng(0).permutation(300)):
        order = list(order)
        header = [names[column] for column in order]
        source.write_text(table(records[:, order], header))
        protect_file(source, bundle, budget=2, key=key, out=out, changes=notes)
        assert out.read_text() == table(release.records[:, order], header)
        for entry, before, after in zip(
            json.loads(notes.read_text()), records, release.records, strict=True
        ):
            changed = [names[column] for column in np.flatnonzero(before != after)]
            assert [change["feature"] for change in entry["changes"]] == changed


def test_a_cell_at_fault_is_named_by_its_place_in_the_file(bundle, key, tmp_path):
    names = list(bundle.feature_names)[::-1]
    (tmp_path / "a.csv").write_text(table(np.zeros((1, 300)), names) + "7," + "0," * 298 + "0\n")
    with pytest.raises(DataError, match="line 3, column 1: '7'"):
        protect_file(tmp_path / "a.csv", bundle, budget=2, key=key, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: [*names[:7], "other", *names[8:]], "no 'app7' and has 'other', unknown"),
        (lambda names: [*names, "label"], "has 'label', unknown"),
        (lambda names: names[:-1], "has no 'app299'"),
        (lambda names: [name.upper() for name in names], "and 297 more"),
        (lambda names: [*names, "app5"], "names 'app5' twice"),
    ],
)
def test_headers_that_do_not_fit_the_bundle_are_refused(bundle, key, tmp_path, change, message):
    names = change(list(bundle.feature_names))
    (tmp_path / "a.csv").write_text(table(np.zeros((2, len(names))), names))
    with pytest.raises(DataError, match=message):
        protect_file(tmp_path / "a.csv", bundle, budget=2, key=key, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_are_partly_numbers_are_a_header_too(detector, key, tmp_path):
    names = ("1990", "2000", "nan", "age", "a", "b", "c", "d")
    network = detector.__class__(
        (detector.weights[0], np.ones((2, 24), "f4")), (detector.biases[0], np.zeros(2, "f4"))
    )
    bundle = Bundle("attribute", network, feature_names=names)
    plain = Bundle("attribute", network)
    (tmp_path / "a.csv").write_text(table(np.zeros((1, 8)), names))
    assert (
        protect_file(tmp_path / "a.csv", bundle, budget=2, key=key, out=tmp_path / "o")["records"]
        == 1
    )
    with pytest.raises(DataError, match="line 1, column 1: '1990'"):
        protect_file(tmp_path / "a.csv", plain, budget=2, key=key, out=tmp_path / "o")
    (tmp_path / "a.csv").write_text(table(np.zeros((1, 8)), "abcdefgh"))
    assert (
        protect_file(tmp_path / "a.csv", plain, budget=2, key=key, out=tmp_path / "o")["records"]
        == 1
    )
    (tmp_path / "a.csv").write_text(table(np.zeros((1, 7)), "abcdefg"))
    with pytest.raises(DataError, match="header has 7 columns, not 8"):
        protect_file(tmp_path / "a.csv", plain, budget=2, key=key, out=tmp_path / "o")


@pytest.mark.parametrize(
    ("name", "separator"), [("in.tsv", "\t"), ("in.TSV", "\t"), ("in.csv", ";")]
)
@pytest.mark.parametrize("header", [True, False])
def test_other_separators_are_read_and_kept(
    bundle, ratings, key, tmp_path, name, separator, header
):
    records, names = tidy(ratings), bundle.feature_names if header else None
    source, out = tmp_path / name, tmp_path / "out"
    source.write_text(table(records, names, separator))
    protect_file(source, bundle, budget=2, key=key, out=out)
    release = bundle.protect(records, budget=2, key=key)
    assert out.read_text() == table(release.records, names, separator)


def test_confidences_may_be_a_tsv(guard, logits, key, tmp_path):
    rows = ["\t".join(map(str, row)) for row in softmax(logits).tolist()]
    (tmp_path / "in.tsv").write_text("\n".join(rows))
    protect_file(tmp_path / "in.tsv", guard, budget=0.3, key=key, out=tmp_path / "out.tsv")
    released = np.loadtxt(tmp_path / "out.tsv", delimiter="\t")
    np.testing.assert_allclose(released.sum(axis=1), 1)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_only_the_owner_may_read_what_was_changed(bundle, ratings, key, tmp_path):
    source, out, notes = (tmp_path / name for name in ("in.txt", "out.txt", "notes.json"))
    source.write_text(as_text(tidy(ratings)))
    out.write_text("earlier")
    out.chmod(0o640)
    notes.write_text("earlier")
    notes.chmod(0o644)
    protect_file(source, bundle, budget=2, key=key, out=out, changes=notes)
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_nobody_new_may_read_what_was_kept(bundle, ratings, key, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(table(tidy(ratings)[:3], bundle.feature_names))
    for of_source, before, after in (
        (0o600, None, 0o600),
        (0o640, None, 0o640),
        (0o400, None, 0o600),
        (0o666, None, 0o644),
        (0o600, 0o644, 0o600),
        (0o644, 0o664, 0o644),
    ):
        source.chmod(of_source)
        out.unlink(missing_ok=True)
        if before is not None:
            out.write_text("earlier")
            out.chmod(before)
        umask = os.umask(0o022)
        try:
            protect_file(source, bundle, budget=2, key=key, out=out, extra="keep")
        finally:
            os.umask(umask)
        assert stat.S_IMODE(out.stat().st_mode) == after


@contextmanager
def small_files_only(size):
    """Let no file grow beyond ``size`` bytes, as if the disk were full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".npz", ".parquet"])
@pytest.mark.parametrize(("list_name", "limit"), [("big.json", 10_000), ("small.txt", 600)])
def test_a_full_disk_leaves_all_as_it_was(
    guesser, key, tmp_path, monkeypatch, suffix, list_name, limit
):
    network = guesser.__class__((guesser.weights[0][:, :8], guesser.weights[1]), guesser.biases)
    small = Bundle("attribute", network, feature_names=tuple("abcdefgh"))
    records = np.tile([[0.2, 0.4, 0.6, 0, 0, 0, 0, 1]], (80, 1))
    source, notes = tmp_path / f"in{suffix}", tmp_path / list_name
    if suffix == ".npz":
        np.savez(source, records=records)
    elif suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = dict(zip("abcdefgh", records.T, strict=True))
        parquet.write_table(pytest.importorskip("pyarrow").table(columns), source)
    else:
        source.write_text(as_text(records) if suffix == ".txt" else table(records))
    before = source.read_bytes()
    notes.write_text("earlier")
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=BytesIO()))
    for out in (source, tmp_path / f"new{suffix}", "-"):
        with small_files_only(limit), pytest.raises(OSError, match="too large"):
            protect_file(source, small, budget=0.01, key=key, out=out, changes=notes)
    assert source.read_bytes() == before
    assert notes.read_text() == "earlier"
    assert sys.stdout.buffer.getvalue() == b""
    assert {path.name for path in tmp_path.iterdir()} == {source.name, notes.name}


def test_nothing_needed_is_overwritten(bundle, ratings, tmp_path):
    source, secret, out = (tmp_path / name for name in ("in.txt", "key", "out.txt"))
    source.write_text(as_text(tidy(ratings)))
    secret.write_text("precious")
    (tmp_path / "link").symlink_to(secret)
    (tmp_path / "folder").mkdir()
    unwritable = [tmp_path / "folder"]
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
        unwritable.append(tmp_path / "pipe")
    odd = tmp_path / "folder" / ".." / "key"
    coming = tmp_path / "coming"

    def protect(**paths):
        protect_file(
            source, bundle, budget=2, key=pytest.fail, untouchable=(secret, coming), **paths
        )

    for path in (secret, str(secret), odd, tmp_path / "link", coming):
        with pytest.raises(OptionError, match="would be overwritten"):
            protect(out=path)
        with pytest.raises(OptionError, match="would be overwritten"):
            protect(out=out, changes=path)
    for path in (source, out):
        with pytest.raises(OptionError, match="both"):
            protect(out=out, changes=path)
    for path in unwritable:
        with pytest.raises(OptionError, match="folder or a device"):
            protect(out=path)
        with pytest.raises(OptionError, match="folder or a device"):
            protect(out=out, changes=path)
    assert secret.read_text() == "precious"
    assert not out.exists()


def test_a_key_is_made_only_once_all_looks_right(bundle, guard, ratings, key, tmp_path):
    asked = []

    def make():
        asked.append(1)
        return key

    good, bad, out = (tmp_path / name for name in ("good.txt", "bad.txt", "out.txt"))
    good.write_text(as_text(np.tile(tidy(ratings), (20, 1))))  # several blocks
    bad.write_text("0:0.5\n300:1\n")
    (tmp_path / "odd.csv").write_text("0.5," * 7 + "0.5\n")
    for source, one, budget in (
        (bad, bundle, 2),
        (tmp_path / "none.txt", bundle, 2),
        (tmp_path / "odd.csv", guard, 2),
        (good, bundle, 0),
        (good, bundle, float("nan")),
    ):
        with pytest.raises((DataError, OptionError)):
            protect_file(source, one, budget=budget, key=make, out=out)
    assert asked == []
    protect_file(good, bundle, budget=2, key=make, out=out)
    assert asked == [1]
    first = out.read_bytes()
    protect_file(good, bundle, budget=2, key=key, out=out)
    assert out.read_bytes() == first
