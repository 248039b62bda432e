"""Files that would slip records past the protection, or fill the memory."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from privet.device import Bundle, Network, protect_file, write_bundle
from privet.device.formats import lines
from privet.device.formats.layout import Wanted
from privet.errors import DataError

NAMES = ("a", "b", "c", "d")
HEADER = "a,b,c,d,note\n"
TRUE = "0,0,0.4,0.6"  # a record that must not be published as it is


def make_bundle(names=NAMES, features=4):
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (3, features)).astype("f4"), rng.normal(0, 1, (2, 3)).astype("f4")
    network = Network(weights, (np.zeros(3, "f4"), np.zeros(2, "f4")))
    return Bundle("attribute", network, feature_names=names)


@pytest.fixture
def protect(tmp_path, key):
    """Protect a file of some content; return what is written, and how many records they are."""

    def run(content, *, name="in.csv", names=NAMES, extra="refuse"):
        source, out = tmp_path / name, tmp_path / f"out {name}"
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
        summary = protect_file(source, make_bundle(names), budget=1, key=key, out=out, extra=extra)
        return out.read_bytes(), summary["records"]

    return run


@pytest.mark.parametrize("extra", ["keep", "drop"])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (f'{HEADER}0,0,0,1,"oops\n{TRUE},x\n0,0,1,0,y\n', 2),
        (f'{HEADER}0,0,0,1,x\n0,0,0,1,"oops\n{TRUE},"y"\n', 3),
        (f'{HEADER}0,0,0,1,"oops\n{TRUE},x"\n', 2),  # closed again by chance
        (f'{HEADER}0,0,0,1,"oops\r{TRUE},x"\r', 2),
        (f'a,b,c,d,"note\n{TRUE},x"\n0,0,0,1,x\n', 1),
        (f'{HEADER}0,0,0,1,"one" two\n', 2),
        (f"{HEADER}0,0,0,1,x\n0,0,0,1," + "x" * 200_000, 3),
    ],
)
def test_no_cell_swallows_a_record(protect, tmp_path, content, line, extra):
    with pytest.raises(DataError, match=f"line {line} is no row of cells, each with its quotes"):
        protect(content, extra=extra)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_quotes_in_their_place_are_kept(protect):
    notes = ['"said ""oh"", then, left"', '5" wide', '""', '"x\x0b\u2028y"']
    content = HEADER + "".join(f"0,0,0,1,{note}\n\n" for note in notes)
    written, records = protect(content, extra="keep")
    assert records == len(notes)
    for note in ('"said ""oh"", then, left"', '"5"" wide"', "x\x0b\u2028y"):
        assert note.encode() in written


@pytest.mark.parametrize("names", [("0", "1", "2", "3"), ("1990", "1991", "7", "nan")])
def test_a_header_of_numbers_is_one_if_it_is_no_record(protect, names):
    for order in (names, names[::-1]):
        written, records = protect(",".join(order) + f"\n{TRUE}\n", names=names)
        assert records == 1
        assert written.decode().splitlines()[0] == ",".join(order)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("0,1,2,3\n0,0,1,0\n", None),
        ("0,1,2,3\n0,0,1,0\n", NAMES),
        ("1, 0,0.5,1e0\n0,0,1,0\n", ("0", "1", "1e0", "0.5")),
        ("1,0,0.5,1e0,note\n0,0,1,0,x\n", ("0", "1", "1e0", "0.5")),
    ],
)
def test_a_first_line_that_may_be_either_is_refused(protect, content, names):
    with pytest.raises(DataError, match="line 1: its numbers may be names of columns or a record"):
        protect(content, names=names, extra="keep")


def test_a_first_record_is_told_from_a_header_by_its_points(key, tmp_path):
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (3, 2)).astype("f4"), rng.normal(0, 1, (1, 3)).astype("f4")
    guard = Bundle("membership", Network(weights, (np.zeros(3, "f4"), np.zeros(1, "f4"))))
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("0,1\n0.75,0.25\n")
    with pytest.raises(DataError, match="spell such a record with points"):
        protect_file(source, guard, budget=0.5, key=key, out=out)
    source.write_text("0.0,1.0\n0.75,0.25\n")
    assert protect_file(source, guard, budget=0.5, key=key, out=out)["records"] == 2


ODD = ["1_0e-1", "0_1", "\u0661", "\xa01", "\u20030.2", "inf", "nan", "1e", "0x1", "--1", "1.0.0"]


@pytest.mark.parametrize("text", ODD)
def test_numbers_have_one_grammar(protect, text):
    with pytest.raises(DataError, match=r"line 2, column 1: .* is not in 0\.\.1"):
        protect(f"a,b,c,d\n{text},0,0,1\n")
    # Not even in a first line, where it would be published as a header if it were a word.
    if text not in ("1e", "0x1", "--1", "1.0.0"):
        with pytest.raises(DataError, match=r"line 1, column 1: .* is not in 0\.\.1"):
            protect(",".join([text] * 4) + "\n0,0,0,1\n", names=None)
    with pytest.raises(DataError, match="line 2: "):
        protect(f"1:0.2\n2:{text}\n".replace("\xa0", "_").replace("\u2003", "_"), name="in.txt")


def test_usual_spellings_stay(protect):
    spelled = protect("0.2,1,.5,0\n 2e-1 ,+1E0,5.e-1\t,-0.00\n")[0].decode().splitlines()
    assert spelled[0] == spelled[1]
    assert protect("0:1.e-1 1:.5 2:+1E0\n", name="in.txt")[1] == 1


@pytest.mark.parametrize(("name", "unit"), [("in.csv", "0,"), ("in.txt", "3:x ")])
def test_lines_without_end_are_not_read(protect, name, unit):
    content = unit * (60_000_000 // len(unit))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="line 1: it has more than 8388736 characters"):
            protect(content, name=name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - len(content) < 50e6  # the test's own bytes are among them


def test_blocks_of_long_lines_are_short(protect, monkeypatch):
    monkeypatch.setattr(lines, "ROOM", 2_000)
    content = HEADER + "".join(f"0,0,0,1,{'x' * 900}\n" for _ in range(50))
    kept, records = protect(content, extra="keep")
    assert records == 50
    assert kept.count(b"x" * 900 + b"\n") == 50
    wanted = Wanted("in.csv", 4, ratings=True)
    blocks = list(lines.in_blocks(["x" * 1000] * 6, wanted, first=7))
    assert [(first, len(block)) for first, block in blocks] == [(7, 3), (10, 3)]


def archive(**entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def test_a_header_of_an_array_is_not_read_to_its_end(protect):
    size = 64 << 20
    bomb = archive(records=b"\x93NUMPY\x02\x00" + struct.pack("<I", size) + b" " * size)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="an array's header has 67108864 bytes, of 10000"):
            protect(bomb, name="in.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5e6


def test_arrays_are_as_long_as_they_say(protect):
    header = npy(np.zeros((5, 4)))[:-160]
    for content in (header + bytes(159), header + bytes(161), header):
        with pytest.raises(DataError, match=r"records has \d+ bytes, not 288"):
            protect(archive(records=content), name="in.npz")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("records.npy", npy(np.zeros((5, 4))))
    with pytest.raises(DataError, match="compressed otherwise than by deflating"):
        protect(stream.getvalue(), name="in.npz")


def test_fortran_order_is_protected_in_blocks(protect, key, tmp_path):
    bundle, peaks = make_bundle(), []
    rng = np.random.default_rng(1)
    records = rng.integers(0, 6, (6000, 4)) / 5
    for order in "CF":
        np.savez(tmp_path / "in.npz", records=np.asarray(records, order=order))
        tracemalloc.start()
        protect_file(tmp_path / "in.npz", bundle, budget=1, key=key, out=tmp_path / f"{order}.npz")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "C.npz").read_bytes() == (tmp_path / "F.npz").read_bytes()
    assert peaks[1] < peaks[0] + 3 * records.nbytes


def test_other_arrays_are_refused_kept_or_dropped(protect):
    records = np.zeros((5, 4))
    label = np.array([{"never": "unpickled"}])
    source = archive(label=npy(label), records=npy(records), x=b"no array at all")
    with pytest.raises(DataError, match="beside records it holds 'label', 'x'; keep or drop"):
        protect(source, name="in.npz")
    dropped, _ = protect(source, name="in.npz", extra="drop")
    assert dropped == protect(archive(records=npy(records)), name="in.npz")[0]
    kept, _ = protect(source, name="in.npz", extra="keep")
    with zipfile.ZipFile(io.BytesIO(kept)) as file, zipfile.ZipFile(io.BytesIO(dropped)) as bare:
        assert file.namelist() == ["records.npy", "label.npy", "x.npy"]
        assert file.read("label.npy") == npy(label)
        assert file.read("x.npy") == b"no array at all"
        assert file.read("records.npy") == bare.read("records.npy")
    at = source.index(b"no array") if b"no array" in source else source.index(b"x.npy") + 7
    with pytest.raises(DataError, match="not a sound NPZ"):
        protect(source[:at] + b"!!" + source[at + 2 :], name="in.npz", extra="keep")
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as file:
        for name in ("records.npy", "x.npy", "x"):
            file.writestr(name, npy(records))
    with pytest.raises(DataError, match="two arrays of one name"):
        protect(twice.getvalue(), name="in.npz", extra="keep")


def test_parquet_columns_are_told_by_whole_names(key, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    names = ("a", "a.b", "c", "d")
    columns = {"a.b": [0.2, 0.4], "d.e": ["x", "y"], "a": [0.0, 1.0], "c": [0.6, 0.6]}
    columns |= {"d": [0.8, 1.0], "c.a": [{"b": 7}] * 2}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    protect_file(
        tmp_path / "in.parquet",
        make_bundle(names),
        budget=1,
        key=key,
        out=tmp_path / "out.parquet",
        extra="drop",
    )
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == ["a.b", "a", "c", "d"]
    true = np.column_stack([columns[name] for name in names])
    released = make_bundle(names).protect(true, budget=1, key=key).records
    np.testing.assert_array_equal(np.column_stack([found[name] for name in names]), released)


WIDE = """
import os, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from privet.device import load_bundle, protect_file
bundle, folder, count, extra = load_bundle(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
schema = pa.schema([*((name, pa.float32()) for name in "abcd"), ("note", pa.string())])
columns = [pa.array(np.full(200, 0.2, "f4"))] * 4
with pq.ParquetWriter(f"{folder}/in.parquet", schema, use_dictionary=False) as writer:
    for _ in range(count):
        notes = [os.urandom(10_000).hex() for _ in range(200)]
        writer.write_table(pa.table([*columns, pa.array(notes)], schema=schema))
protect_file(f"{folder}/in.parquet", bundle, budget=1, key=bytes(32), out=f"{folder}/out.parquet",
             extra=extra)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize("extra", ["keep", "drop"])
def test_memory_does_not_grow_with_wide_columns(tmp_path, extra):
    pytest.importorskip("pyarrow.parquet")
    write_bundle(make_bundle(), tmp_path / "bundle.safetensors")
    peaks = []
    for count in (10, 40):  # 40 and 160 MB of notes
        command = [sys.executable, "-c", WIDE, str(tmp_path / "bundle.safetensors")]
        command += [str(tmp_path), str(count), extra]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 40_000  # kB
