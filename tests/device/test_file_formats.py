import csv
import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privet.device import Bundle, Network, Rules, protect_file
from privet.device.formats import pairs
from privet.device.formats.layout import Wanted
from privet.device.network import softmax
from privet.errors import DataError, OptionError

NAMES = ("age", "likes tea", "1990", "ä,b", "e", "f", "g", "h")
SCORES = (0.0, 0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BUDGET = 1.5


@pytest.fixture(scope="module")
def pa():
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    return pyarrow


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(4)
    weights = rng.normal(0, 1, (6, 8)).astype("f4"), rng.normal(0, 1, (3, 6)).astype("f4")
    network = Network(weights, (np.zeros(6, "f4"), np.zeros(3, "f4")))
    return Bundle("attribute", network, feature_names=NAMES, class_names=("x", "y", "z"))


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(8)
    return rng.choice(SCORES, (40, 8))


def write_cells(path, records, *, header=NAMES, separator=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([header] * bool(header))
        writer.writerows(records.tolist())


def read_cells(path, separator=","):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=separator))


def write_file(path, records):
    """Write float64 records in the format that the suffix says."""
    if path.suffix == ".npz":
        np.savez(path, records=records)
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        columns = dict(zip(NAMES, records.T, strict=True))
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".txt":
        lines = (" ".join(f"{i}:{row[i]}" for i in np.flatnonzero(row)) for row in records)
        path.write_text("\n".join(lines) + "\n")
    else:
        write_cells(path, records, separator="\t" if path.suffix == ".tsv" else ",")


def read_file(path):
    if path.suffix == ".npz":
        with np.load(path) as file:
            return file["records"]
    if path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        return np.column_stack([table[name].to_numpy() for name in NAMES])
    if path.suffix == ".txt":
        records = np.zeros((len(path.read_text().splitlines()), 8))
        for row, line in enumerate(path.read_text().splitlines()):
            for pair in line.split():
                records[row, int(pair.partition(":")[0])] = float(pair.partition(":")[2])
        return records
    rows = read_cells(path, "\t" if path.suffix == ".tsv" else ",")
    assert tuple(rows[0]) == NAMES
    return np.array(rows[1:], dtype=float)


@pytest.mark.usefixtures("pa")
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    records=st.lists(st.lists(st.sampled_from(SCORES), min_size=8, max_size=8), min_size=1),
    budget=st.floats(0.1, 4),
)
def test_every_format_gets_the_same_answers(small, key, tmp_path, records, budget):
    records = np.array(records)
    expected = small.protect(records, budget=budget, key=key)
    for suffix in (".txt", ".csv", ".tsv", ".npz", ".parquet"):
        source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        write_file(source, records)
        summary = protect_file(source, small, budget=budget, key=key, out=out)
        np.testing.assert_array_equal(read_file(out), expected.records)
        assert summary["records"] == len(records)
        assert summary["mean_cost"] == pytest.approx(expected.cost.mean())
        assert summary["unreached"] == (~expected.reached).sum()


SCRAPS = (
    "0:0.2",
    "007:1",
    "3:.5",
    "7:1e-3",
    "8:0",
    " ",
    "\t",
    ":",
    "1",
    "x",
    "-0",
    ":0",
    "1_0",
    "٣",
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(SCRAPS), max_size=6).flatmap(
            lambda parts: st.sampled_from([" ".join(parts) + "\n", "".join(parts) + "\r\n"])
        ),
        min_size=1,
        max_size=3,
    )
)
def test_reading_pairs_at_once_and_one_by_one_agree(lines):
    at_once = pairs._parse(lines, 8)
    wanted = Wanted("in.txt", 8, ratings=True)
    if at_once is None:
        with pytest.raises(DataError, match=r"in\.txt, line [123]: "):
            pairs._parse_slowly(lines, 1, wanted)
    else:
        np.testing.assert_array_equal(at_once, pairs._parse_slowly(lines, 1, wanted))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_other_columns_are_refused_kept_or_dropped(small, people, key, tmp_path, suffix, pa):
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    order = [5, 0, 1, 7, 2, 3, 4, 6]
    rest = "\nin\r\ntwo lines" if suffix == ".parquet" else ""
    notes = [f'said "{i}",\tand more{rest}' for i in range(len(people))]
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        columns = {NAMES[i]: people[:, i] for i in order[:3]} | {"note": notes}
        columns |= {NAMES[i]: people[:, i] for i in order[3:]} | {"day": [[i] for i in range(40)]}
        pq.write_table(pa.table(columns), source)
    else:
        separator = "\t" if suffix == ".tsv" else ","
        with source.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=separator)
            header = [*(NAMES[i] for i in order[:3]), "note", *(NAMES[i] for i in order[3:]), ""]
            writer.writerow(header)
            for row, note in zip(people, notes, strict=True):
                writer.writerow([*row[order[:3]], note, *row[order[3:]], " 07 "])
    with pytest.raises(DataError, match=r"has 'note', '(day)?', unknown to the bundle; keep or"):
        protect_file(source, small, budget=BUDGET, key=key, out=out)
    released = small.protect(people, budget=BUDGET, key=key).records
    for extra in ("keep", "drop"):
        protect_file(source, small, budget=BUDGET, key=key, out=out, extra=extra)
        kept = extra == "keep"
        if suffix == ".parquet":
            table = pq.read_table(out)
            assert table.column_names == [name for name in columns if kept or name in NAMES]
            found = np.column_stack([table[name].to_numpy() for name in NAMES])
            if kept:
                assert table["note"].to_pylist() == notes
                assert table["day"].to_pylist() == [[i] for i in range(40)]
        else:
            head, *rows = read_cells(out, separator)
            assert head == [name for name in header if kept or name in NAMES]
            places = [head.index(name) for name in NAMES]
            found = np.array([[row[place] for place in places] for row in rows], dtype=float)
            if kept:
                assert [row[3] for row in rows] == notes
                assert {row[9] for row in rows} == {" 07 "}
        np.testing.assert_array_equal(found, released)


def test_other_columns_need_names_to_be_told_apart_by(small, people, key, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    nameless = Bundle("attribute", small.network)
    write_cells(source, np.column_stack([people, people[:, 0]]), header=None)
    for bundle in (small, nameless):
        with pytest.raises(DataError, match="line 1: 9 columns, not 8"):
            protect_file(source, bundle, budget=BUDGET, key=key, out=out, extra="keep")
    write_cells(source, people, header=("a", *NAMES[:-1]))  # without all names, "1990" is a cell
    with pytest.raises(DataError, match="line 1, column 1: 'a'"):
        protect_file(source, small, budget=BUDGET, key=key, out=out, extra="drop")
    write_cells(source, np.column_stack([people, people[:, 0]]), header=(*NAMES, "e"))
    with pytest.raises(DataError, match="names 'e' twice"):
        protect_file(source, small, budget=BUDGET, key=key, out=out, extra="keep")
    with pytest.raises(OptionError, match="extra must be one of refuse, keep, drop"):
        protect_file(source, small, budget=BUDGET, key=key, out=out, extra="ignore")


def test_negative_zero_does_not_stand_out(small, people, key, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    write_cells(source, people)
    protect_file(source, small, budget=BUDGET, key=key, out=out)
    plain = out.read_bytes()
    source.write_bytes(source.read_bytes().replace(b"0.0", b"-0.0"))
    protect_file(source, small, budget=BUDGET, key=key, out=out)
    assert out.read_bytes() == plain


def test_parquet_keeps_types_metadata_and_compression(small, people, key, tmp_path, pa):
    import pyarrow.parquet as pq

    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    binary = np.round(people[:, :3])
    arrays = [
        pa.array(binary[:, 0].astype(np.int8)),
        pa.array(binary[:, 1].astype(np.bool_)),
        pa.array(binary[:, 2].astype(np.uint64)),
        *(pa.array(people[:, i].astype("f4" if i % 2 else "f8")) for i in range(3, 8)),
        pa.array(["one", "two"] * 20).dictionary_encode(),
    ]
    fields = [pa.field(name, array.type) for name, array in zip(NAMES, arrays, strict=False)]
    fields[3] = fields[3].with_metadata({"unit": "stars"})
    schema = pa.schema([*fields, pa.field("word", arrays[-1].type)], metadata={"who": "me"})
    table = pa.table(arrays, schema=schema)
    pq.write_table(table, source, row_group_size=7, compression="zstd")
    protect_file(source, small, budget=BUDGET, key=key, out=out, extra="keep")
    found = pq.read_table(out)
    assert found.schema.types == table.schema.types
    assert found.schema.metadata[b"who"] == b"me"
    assert found.schema.field(3).metadata[b"unit"] == b"stars"
    assert pq.ParquetFile(out).metadata.row_group(0).column(0).compression == "ZSTD"
    assert found["word"].to_pylist() == ["one", "two"] * 20
    exact = np.column_stack([table[name].to_numpy() for name in NAMES]).astype(np.float64)
    released = small.protect(exact, budget=BUDGET, key=key).records
    for feature, name in enumerate(NAMES):
        column = found[name].to_numpy()
        np.testing.assert_array_equal(column, released[:, feature].astype(column.dtype))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda pa, c: c | {"e": ["word"] * 40}, "column 'e' holds string, not numbers"),
        (lambda pa, c: c | {"e": np.zeros(40, "f2")}, "column 'e' holds .*float.*cannot hold"),
        (lambda pa, c: c | {"e": [0.2] * 30 + [None] * 10}, "record 30 has no 'e'"),
        (lambda pa, c: c | {"e": [0.2] * 39 + [float("nan")]}, "record 39, feature 4 is nan"),
        (lambda pa, c: c | {"e": [0.2] * 38 + [1.5, 2]}, "record 38, feature 4 is 1.5"),
        (lambda pa, c: c | {"e": [0] * 39 + [7]}, "record 39, feature 4 is 7"),
        (lambda pa, c: {k: v for k, v in c.items() if k != "e"}, "has no 'e'"),
        (lambda pa, c: {k: v[:0] for k, v in c.items()}, "holds no records"),
    ],
)
def test_bad_parquet_is_named_and_leaves_nothing(small, people, key, tmp_path, pa, spoil, message):
    import pyarrow.parquet as pq

    source = tmp_path / "in.parquet"
    pq.write_table(pa.table(spoil(pa, dict(zip(NAMES, people.T, strict=True)))), source)
    with pytest.raises(DataError, match=message):
        protect_file(source, small, budget=BUDGET, key=key, out=tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_damaged_parquet_is_refused(small, people, key, tmp_path, pa):
    source = tmp_path / "in.parquet"
    write_file(source, people)
    content = source.read_bytes()
    for damaged in (b"", b"PAR1", content[:-30], content[:60] + bytes(500) + content[560:]):
        source.write_bytes(damaged)
        with pytest.raises(DataError, match="is not a sound Parquet file"):
            protect_file(source, small, budget=BUDGET, key=key, out=tmp_path / "out.parquet")


def test_whole_numbers_take_no_ratings_between(small, people, key, tmp_path, pa):
    import pyarrow.parquet as pq

    source = tmp_path / "in.parquet"
    columns = dict(zip(NAMES, people.T, strict=True)) | {"e": np.zeros(40, np.int64)}
    pq.write_table(pa.table(columns), source)
    options = {"budget": BUDGET, "key": key, "out": tmp_path / "out.parquet"}
    with pytest.raises(DataError, match=r"column 'e' holds whole numbers.*0 and 0\.8; store it as"):
        protect_file(source, small, **options, rules=Rules(high=0.8))
    protect_file(source, small, **options, rules=Rules(high=np.where(np.arange(8) == 4, 1, 0.8)))


def test_without_pyarrow_the_remedy_is_named(small, key, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "in.parquet").write_bytes(b"PAR1")
    with pytest.raises(OptionError, match=r"pip install 'privet\[parquet\]'"):
        protect_file(tmp_path / "in.parquet", small, budget=1, key=key, out=tmp_path / "o")


def test_confidences_in_parquet_are_released_in_full_precision(detector, logits, key, tmp_path, pa):
    import pyarrow.parquet as pq

    guard = Bundle("membership", detector)
    given_ = softmax(logits).astype(np.float32)
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({f"c{i}": given_[:, i] for i in range(8)}), source)
    protect_file(source, guard, budget=0.3, key=key, out=out)
    table = pq.read_table(out)
    released = np.column_stack([table[f"c{i}"].to_numpy() for i in range(8)])
    expected = guard.protect(given_, budget=0.3, key=key).records
    np.testing.assert_allclose(released, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(released.argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f4", ">f8", "i1", "?"])
def test_npz_of_either_order_and_any_type(small, people, key, tmp_path, order, dtype):
    source, out = tmp_path / "in.npz", tmp_path / "out.npz"
    records = np.asarray(np.round(people) if dtype in ("i1", "?") else people, dtype, order=order)
    np.savez_compressed(source, X=records)
    protect_file(source, small, budget=BUDGET, key=key, out=out)
    with np.load(out) as file:
        assert file["X"].dtype == np.dtype(dtype)
        released = small.protect(records, budget=BUDGET, key=key).records
        np.testing.assert_array_equal(file["X"], released)


def npz(content, name="records.npy"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def npy(records, **fields):
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": records.shape} | fields
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + records.tobytes()


def test_damaged_npz_is_refused(small, people, key, tmp_path):
    sound = npz(npy(people))
    at = sound.index(people.tobytes())
    cases = [
        npz(b"no array"),
        npz(npy(people)[:-8]),
        npz(npy(people) + b"more"),
        npz(npy(people, shape=(10**12, 8))),
        npz(npy(people, shape=(10**12, 8), fortran_order=True)),
        npz(npy(people, shape=(10**15, 8))[:200]),
        sound[: at + 8] + b"\x01" + sound[at + 9 :],  # the checksum tells
        sound[:50],
    ]
    for content in cases:
        (tmp_path / "in.npz").write_bytes(content)
        with pytest.raises(DataError, match="not a sound NPZ file"):
            protect_file(tmp_path / "in.npz", small, budget=1, key=key, out=tmp_path / "o.npz")
        assert not (tmp_path / "o.npz").exists()
    (tmp_path / "in.npz").write_bytes(npz(npy(people, shape=(0, 8))[:-2560]))
    with pytest.raises(DataError, match="holds no records"):
        protect_file(tmp_path / "in.npz", small, budget=1, key=key, out=tmp_path / "o.npz")


class Stream:
    """Standard input or output that shows its bytes."""

    def __init__(self, content=b""):
        self.buffer = io.BytesIO(content)


@pytest.mark.usefixtures("pa")
@pytest.mark.parametrize("format", ["pairs", "csv", "tsv", "npz", "parquet"])
def test_standard_input_and_output(small, people, key, tmp_path, monkeypatch, format):
    suffix = ".txt" if format == "pairs" else f".{format}"
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write_file(source, people)
    protect_file(source, small, budget=BUDGET, key=key, out=out)
    monkeypatch.setattr(sys, "stdin", Stream(source.read_bytes()))
    monkeypatch.setattr(sys, "stdout", Stream())
    protect_file("-", small, budget=BUDGET, key=key, out="-", format=format)
    assert sys.stdout.buffer.getvalue() == out.read_bytes()
    assert not sys.stdin.buffer.closed


def test_nothing_reaches_standard_output_unless_all_is_right(small, key, monkeypatch):
    content = "0:0.5\n" * 3000 + "9:1\n"
    monkeypatch.setattr(sys, "stdin", Stream(content.encode()))
    monkeypatch.setattr(sys, "stdout", Stream())
    with pytest.raises(DataError, match="standard input, line 3001: index 9"):
        protect_file("-", small, budget=BUDGET, key=key, out="-", format="pairs")
    assert sys.stdout.buffer.getvalue() == b""
    with pytest.raises(OptionError, match="standard input needs a format: pairs, csv"):
        protect_file("-", small, budget=BUDGET, key=key, out="-")


def test_a_format_may_be_named_and_none_is_converted(small, people, key, tmp_path):
    source = tmp_path / "people.dat"
    write_cells(source, people, separator="\t")
    options = {"budget": BUDGET, "key": key}
    protect_file(source, small, out=tmp_path / "out.dat", format="tsv", **options)
    assert len(read_cells(tmp_path / "out.dat", "\t")) == 41
    for name in ("out.csv", "out.npz", "out.parquet"):
        with pytest.raises(OptionError, match=f"{name} would hold tsv"):
            protect_file(source, small, out=tmp_path / name, format="tsv", **options)
    with pytest.raises(OptionError, match="format must be one of pairs, csv"):
        protect_file(source, small, out=tmp_path / "o", format="xlsx", **options)


def test_formats_are_imported_only_for_files_that_have_them():
    script = "import sys, privet.device; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"pyarrow", "lzma", "tempfile", "privet.device.formats.parquet"}
    assert not heavy & set(done.stdout.split())
