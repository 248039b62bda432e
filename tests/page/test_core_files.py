"""The page reads and writes a person's files as Python does, and refuses what Python refuses."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from page.made_bundles import KEY, as_text, make_bundle, make_people, stored
from privet.device import load_bundle, protect_file
from privet.device.formats.spelling import is_word, number, shortest
from privet.errors import DataError

FEATURES = 30
NAMES = tuple(f"app {number}" for number in range(FEATURES))
PEOPLE = make_people(5, FEATURES, seed=4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Where a small bundle is, and its bytes as text."""
    return stored(make_bundle((FEATURES, 12, 4), seed=2), tmp_path_factory.mktemp("bundle"))


def as_pairs(records):
    lines = (" ".join(f"{i}:{x}" for i, x in enumerate(record) if x) for record in records)
    return "".join(line + "\n" for line in lines)


def as_table(records, *, header=NAMES, separator=",", end="\n"):
    rows = [header] if header else []
    rows += [[shortest(x) for x in record] for record in records.tolist()]
    return "".join(separator.join(row) + end for row in rows)


BACKWARDS = as_table(PEOPLE[:, ::-1], header=NAMES[::-1])
FILES = {
    "pairs.txt": as_pairs(PEOPLE),
    "unordered": "7:1e0 3:0.20 12:+.4\n\n 5:1e-1\t6:0\u00a01:1e-05  \r\n29:1\r0:0.3000000004",
    "blank lines": "\n\n",
    "commas.csv": as_table(PEOPLE),
    "semicolons.CSV": as_table(PEOPLE, separator=";", end="\r\n"),
    "tabs.tsv": as_table(PEOPLE, separator="\t", header=None),
    "bare.csv": as_table(PEOPLE, header=None).rstrip(),
    "backwards.csv": BACKWARDS,
    "marked.csv": "\ufeff" + BACKWARDS,
    "quoted.csv": BACKWARDS.replace("app 3,", '" app 3 ",').replace("0.2", '"0.2"'),
    "gaps.csv": BACKWARDS.replace("\n", "\n\r\n") + "\n",
    "spelled.csv": as_table(PEOPLE).replace("0.2", " 2e-1 ").replace(",0,", ",-0.00,"),
    "carriage.csv": as_table(PEOPLE, end="\r"),
    "quotes inside.csv": BACKWARDS.replace("app 3,", '" app 3 ",').replace("0.2,", '" 0.2",'),
}


@pytest.mark.parametrize("name", FILES)
def test_same_files(core, bundle, tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name].encode())
    out = tmp_path / f"out {name}"
    protect_file(tmp_path / name, load_bundle(bundle[0]), budget=2.0, key=KEY, out=out)
    given = {"base64": bundle[1], "name": name, "content": as_text(FILES[name].encode())}
    written = core("protectFile", given | {"budget": 2.0, "key": KEY.hex()})
    assert written.encode() == out.read_bytes()
    assert written != FILES[name]


REFUSED = {
    "empty.txt": (b"", "holds no records"),
    "empty.csv": (b"\n1,2", "empty, or its first line is"),
    "only-a-header.csv": (",".join(NAMES).encode() + b"\n", "holds no records"),
    "latin.txt": (b"1:0.5 \xe4", "readable text"),
    "latin.csv": ("\xfc,1".encode("latin1"), "readable text"),
    "index.txt": (b"1:0.2\n30:1", "line 2: index 30 is out of range; indices are 0..29"),
    "score.txt": (b"1:1.2", "line 1: score '1.2' of index 1 is not in 0..1"),
    "endless.txt": (b"1:nan", "score 'nan' of index 1 is not in 0..1"),
    "underscores.txt": (b"1:1__0e-1", "score '1__0e-1' of index 1 is not in 0..1"),
    "underscore.txt": (b"1:0.2\n5:1_0e-1", "line 2: score '1_0e-1' of index 5 is not in 0..1"),
    "indic score.txt": ("1:\u0661".encode(), "score '\u0661' of index 1 is not in 0..1"),
    "sign.txt": (b"-1:0.2", "'-1:0.2' is not an index:score pair such as 17:0.8"),
    "indic.txt": ("\u0661:0.2".encode(), "is not an index:score pair such as 17:0.8"),
    "long.txt": (b"0000000001:1", "is not an index:score pair such as 17:0.8"),
    "colons.txt": (b"1:0.2:3", "score '0.2:3' of index 1 is not in 0..1"),
    "twice.txt": (b"1:0.2 2:1 1:0", "line 1: index 1 stands there twice"),
    "narrow.csv": (b"0,1\n", "line 1: 2 columns, not 30"),
    "short.csv": (BACKWARDS.encode() + b"1,0", "line 7: 2 columns, not 30"),
    "unknown.csv": (
        BACKWARDS.replace("app 9", "x").encode(),
        "has no 'app 9' and has 'x', unknown",
    ),
    "marked twice.csv": (b"\xef\xbb\xbf" * 2 + BACKWARDS.encode(), "has no 'app 29'"),
    "twice.csv": (BACKWARDS.replace("app 9", "app 8").encode(), "has no 'app 9'"),
    "value.csv": (
        BACKWARDS.encode() + b",".join([b"0"] * 27 + [b"2", b"0", b"0"]),
        "line 7, column 28: '2' is not in 0..1",
    ),
    "word.csv": (b",".join([b"0"] * 29 + [b"x"]), "line 1, column 30: 'x' is not in 0..1"),
    "gap.csv": (b",".join([b"0"] * 29 + [b" "]), "line 1, column 30: ' ' is not in 0..1"),
    "indic.csv": (
        as_table(PEOPLE, header=None).replace("0", "\u0660").encode(),
        "line 1, column 1: '\u0660' is not in 0..1",
    ),
    "broken line.csv": (
        BACKWARDS.replace("app 9", '"app\n9"').encode(),
        "line 1 is no row of cells, each with its quotes closed",
    ),
    "open.csv": (
        BACKWARDS.encode() + b'0,"0\n' + b"0," * 29 + b'0"',
        "line 7 is no row of cells, each with its quotes closed",
    ),
    "after quotes.csv": (
        as_table(PEOPLE, header=None).replace(",", '," 0" ,', 1).encode(),
        "line 1 is no row of cells, each with its quotes closed",
    ),
    "counted.csv": (
        as_table(PEOPLE, header=tuple(map(str, range(FEATURES)))).encode(),
        "line 1: its numbers may be names of columns or a record",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_same_refusals(core, bundle, tmp_path, name):
    content, reason = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    error = core("refusedFile", {"base64": bundle[1], "name": name, "content": as_text(content)})
    assert error["kind"] == "DataError"
    assert name in error["message"]
    with pytest.raises(DataError) as python:
        protect_file(
            tmp_path / name, load_bundle(bundle[0]), budget=2.0, key=KEY, out=tmp_path / "out"
        )
    assert reason in error["message"]
    assert reason.replace("\n", "\\n") in str(python.value)


@pytest.mark.parametrize(
    ("names", "header"),
    [
        (("1990", "1991", "2", "nan"), "nan,2, 1990,1991"),
        (("0", "1", "2", "3"), "0,1,2,3"),
        (("0", "1", "0.5", "1.0"), "1,0,0.5,1.0"),
        (("0", "1", "x", "3"), "3,x,1,0"),
    ],
)
def test_headers_of_numbers(core, tmp_path, names, header):
    named = replace(make_bundle((4, 6, 3)), feature_names=names)
    path, content = stored(named, tmp_path)
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(f"{header}\n0.2,1,0,0\n")
    given = {"base64": content, "name": "in.csv", "content": as_text(source.read_bytes())}
    options = {"budget": 1.0, "key": KEY}
    if header.startswith("1,"):
        error = core("refusedFile", given)
        assert "line 1: its numbers may be names of columns or a record" in error["message"]
        with pytest.raises(DataError, match="line 1: its numbers may be names of columns"):
            protect_file(source, load_bundle(path), out=out, **options)
    else:
        protect_file(source, load_bundle(path), out=out, **options)
        written = core("protectFile", given | {"budget": 1.0, "key": KEY.hex()})
        assert written.encode() == out.read_bytes()
        assert len(written.splitlines()) == 2


@pytest.mark.parametrize("blank", ["\u00a0", "\u2003", "\x1c", "\x85", " "])
def test_blanks_of_names_alone_make_no_header(core, tmp_path, blank):
    """A record taken for a header would be written as it stands."""
    named = replace(make_bundle((2, 6, 3)), feature_names=("0", "1"))
    path, content = stored(named, tmp_path)
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(f"0{blank},1\n0.2,0\n", encoding="utf-8")
    given = {"base64": content, "name": "in.csv", "content": as_text(source.read_bytes())}
    with pytest.raises(DataError, match="line 1: its numbers may be names of columns"):
        protect_file(source, load_bundle(path), budget=1.0, key=KEY, out=out)
    error = core("refusedFile", given)
    assert error is not None
    assert "line 1: its numbers may be names of columns or a record" in error["message"]


def test_numbers_are_spelled_as_python_spells_them(core):
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)))
    def spelled_alike(numbers):
        assert core("spelled", numbers) == list(map(repr, numbers))

    spelled_alike()
    assert core("spelled", [0, 1, 1e-4, 9.9e-5, 1e16, 1e15]) == [
        "0.0", "1.0", "0.0001", "9.9e-05", "1e+16", "1000000000000000.0"
    ]  # fmt: skip


def test_numbers_are_read_as_python_reads_them(core):
    pieces = st.sampled_from([*"0019._-+eE \t\x1f\x85\ufeff\u0663x", "inf", "nan", "1_0", "."])

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.lists(pieces, max_size=5).map("".join)))
    def read_alike(texts):
        for text, (value, word) in zip(texts, core("number", texts), strict=True):
            expected = number(text)
            finite = abs(expected) < float("inf")  # also false for NaN
            assert value == expected if finite else not abs(value) < float("inf"), text
            assert word == is_word(text), text

    read_alike()


def test_cells_are_read_as_python_reads_them(core):
    pieces = st.sampled_from(["a", "b", '"', '"', ",", ",", "\n", "\r", "\r\n", " ", '""', '",'])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.lists(pieces, max_size=12).map("".join)))
    def read_alike(texts):
        expected = list(map(strict_rows, texts))
        sound = [text for text, rows in zip(texts, expected, strict=True) if rows is not None]
        assert core("rows", sound) == [rows for rows in expected if rows is not None]
        for text in set(texts) - set(sound):
            with pytest.raises(Exception, match=r"line \d+ is no row of cells"):
                core("rows", [text])

    read_alike()


def strict_rows(text):
    """Return [line, cells] of all rows, None if one is no whole line."""
    lines = enumerate(io.StringIO(text, newline=""), 1)
    try:
        rows = [[line, *csv.reader([row], strict=True)] for line, row in lines]
    except csv.Error:
        return None
    return [row for row in rows if row[1]]
