"""A person's file: how each format's records are read and written, block by block.

Every number of a file is written in one style, and ratings in ascending order, whatever the
input looked like: an entry that stood out by its spelling or place would betray the noise.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from privet.device.network import Array, Float64, Ints
from privet.errors import DataError
from privet.tabular import delimiter, read_npz

BLOCK = 256
ARRAYS = ("records", "inputs", "X", "confidences", "logits")
Write = Callable[[Array], None]


@dataclass(frozen=True)
class Table:
    """An opened file of records.

    Parameters
    ----------
    blocks
        The records, a few at a time, as dense float arrays of shape (up to 256, features).
    writing
        Opens a path for the protected records, in the same format, with the same header and order
        of columns; gives a function that writes the next block.
    logits
        Whether the file says of its records that they are logits.
    """

    blocks: Iterator[Array]
    writing: Callable[[Path], AbstractContextManager[Write]]
    logits: bool = False


@contextmanager
def opened(
    path: Path, features: int, *, ratings: bool, names: Sequence[str] | None = None
) -> Iterator[Table]:
    """Open ``path`` as NPZ (``.npz``), table (``.csv``, ``.tsv``), or lines of pairs (others).

    Memory does not grow with the length of a text or table; an NPZ file is read whole.

    Parameters
    ----------
    names
        What the features are called. Columns of a table whose header holds these names in another
        order are brought into theirs, and written in the file's own. Without a header, or without
        ``names``, columns count from the left.

    Raises
    ------
    DataError
        When the file is missing or empty, a header lacks names or has unknown ones, or (while
        reading) a line has the wrong number of columns, an index out of range, or a value that is
        no number; for ``ratings``, also when a value lies outside [0, 1]. The message names file,
        line and value.
    """
    if path.suffix.lower() == ".npz":
        yield _open_npz(path, features)
        return
    is_table = path.suffix.lower() in (".csv", ".tsv")
    if not (ratings or is_table):
        raise DataError(f"{path} must be a .csv, .tsv or .npz file to hold confidences")
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    with file:
        try:
            if is_table:
                yield _open_table(path, file, features=features, ratings=ratings, names=names)
            else:
                yield Table(_read_pairs(path, file, features), _writing_pairs)
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} is not readable text: {error}") from None


def _read_pairs(path: Path, file: TextIO, features: int) -> Iterator[Float64]:
    """Read lines of ``index:score`` pairs between blanks; an empty line is an empty record.

    `privet.data.tables.read_scores` reads the same format, whole and vectorized, for training;
    this one streams and needs no SciPy.
    """
    lines = enumerate(file, start=1)
    while block := list(islice(lines, BLOCK)):
        records = np.zeros((len(block), features))
        for row, (number, line) in enumerate(block):
            seen: set[int] = set()
            for pair in line.split():
                index, score = _pair(f"{path}, line {number}", pair, features)
                if index in seen:
                    raise DataError(f"{path}, line {number}: index {index} stands there twice")
                seen.add(index)
                records[row, index] = score
        yield records


def _pair(place: str, pair: str, features: int) -> tuple[int, float]:
    """Return the index and score of one pair."""
    name, colon, text = pair.partition(":")
    if not colon or not name.isascii() or not name.isdigit() or len(name) > 9:
        raise DataError(f"{place}: {pair[:40]!r} is not an index:score pair such as 17:0.8")
    if int(name) >= features:
        raise DataError(f"{place}: index {name} is out of range; indices are 0..{features - 1}")
    score = _float(text)
    if not 0 <= score <= 1:
        raise DataError(f"{place}: score {text[:40]!r} of index {name} is not in 0..1")
    return int(name), score


def _float(text: str) -> float:
    """Return the number that ``text`` spells, NaN if none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _is_word(text: str) -> bool:
    """Tell whether a cell is neither empty nor a number, ``nan`` included."""
    try:
        float(text)
    except ValueError:
        return bool(text.strip())
    return False


@contextmanager
def _writing_pairs(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write(block: Array) -> None:
            for record in block:
                present = np.flatnonzero(record)
                scores = record[present].tolist()
                pairs = zip(present.tolist(), scores, strict=True)
                file.write(" ".join(f"{index}:{score}" for index, score in pairs) + "\n")

        yield write


def _open_table(
    path: Path, file: TextIO, *, features: int, ratings: bool, names: Sequence[str] | None
) -> Table:
    """Open a table of cells, with or without a header."""
    first = file.readline()
    if not first.strip():
        raise DataError(f"{path} is empty, or its first line is")
    separator = delimiter(path, first)
    lines = csv.reader(chain([first], file), delimiter=separator)
    cells = next(lines)
    rows: Iterator[list[str]] = chain([cells], lines)
    header: list[str] | None = None
    order: Ints | slice = slice(None)
    if _is_header(cells, names):
        rows, header = lines, cells
        order = _order(path, cells, features=features, names=names)

    @contextmanager
    def writing(target: Path) -> Iterator[Write]:
        with target.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, delimiter=separator, lineterminator="\n")
            if header is not None:
                writer.writerow(header)

            def write(block: Array) -> None:
                columns = np.empty_like(block)
                columns[:, order] = block
                writer.writerows(map(_cells, columns.tolist()))

            yield write

    numbered = ((lines.line_num, row) for row in rows if row)
    blocks = _read_cells(path, numbered, features=features, ratings=ratings)
    return Table((block[:, order] for block in blocks), writing)


def _is_header(cells: list[str], names: Sequence[str] | None) -> bool:
    """Tell a header from a record: words only, or exactly the features' names, a word among them.

    A first line with any other number or gap is a record, never passed through unprotected.
    """
    words = [_is_word(cell) for cell in cells]
    named = names is not None and sorted(_stripped(cells)) == sorted(_stripped(names))
    return all(words) or (named and any(words))


def _order(
    path: Path, header: list[str], *, features: int, names: Sequence[str] | None
) -> Ints | slice:
    """Return the column of every feature, told by its name where features have names."""
    if names is None:
        if len(header) != features:
            raise DataError(f"{path}: the header has {len(header)} columns, not {features}")
        return slice(None)
    cells, names = _stripped(header), _stripped(names)
    if cells == names:
        return slice(None)
    places = {name: column for column, name in enumerate(cells)}
    known = set(names)
    missing = [name for name in names if name not in places]
    unknown = [name for name in cells if name not in known]
    if missing or unknown:
        wrong = [f"has no {_listed(missing)}"] * bool(missing)
        wrong += [f"has {_listed(unknown)}, unknown to the bundle"] * bool(unknown)
        raise DataError(f"{path}: its header {' and '.join(wrong)}; name the bundle's features")
    if len(places) != len(cells):
        twice = next(name for column, name in enumerate(cells) if places[name] != column)
        raise DataError(f"{path}: its header names {twice[:40]!r} twice")
    return np.array([places[name] for name in names])


def _stripped(names: Sequence[str]) -> list[str]:
    return [name.strip() for name in names]


def _listed(names: list[str]) -> str:
    """Name the first three of many."""
    shown = ", ".join(repr(name[:40]) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _cells(record: list[float]) -> list[str]:
    """Spell numbers as short as they read back exactly: 1, 0, 0.2."""
    return [str(value).removesuffix(".0") for value in record]


def _read_cells(
    path: Path, rows: Iterator[tuple[int, list[str]]], *, features: int, ratings: bool
) -> Iterator[Float64]:
    while block := list(islice(rows, BLOCK)):
        for number, row in block:
            if len(row) != features:
                raise DataError(f"{path}, line {number}: {len(row)} columns, not {features}")
        try:
            records = np.array([row for _, row in block], dtype=np.float64)
        except ValueError:
            records = np.array([[_float(cell) for cell in row] for _, row in block])
        wrong = ~np.isfinite(records)
        if ratings:
            wrong |= (records < 0) | (records > 1)
        if wrong.any():
            line, column = (int(place[0]) for place in np.nonzero(wrong))
            number, row = block[line]
            what = "in 0..1" if ratings else "a finite number"
            raise DataError(
                f"{path}, line {number}, column {column + 1}: {row[column][:40]!r} is not {what}"
            )
        yield records


def _open_npz(path: Path, features: int) -> Table:
    """Open the one array of an NPZ file that goes by a known name; others are not carried over."""
    ((found, records),) = read_npz(path, [(name,) for name in ARRAYS]).items()
    if records.ndim != 2 or records.shape[1] != features or records.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: {found} must be numbers of shape (n, {features}); "
            f"got {records.dtype} of shape {records.shape}"
        )
    name = "confidences" if found == "logits" else found

    @contextmanager
    def writing(target: Path) -> Iterator[Write]:
        done: list[Array] = []
        yield done.append
        arrays: dict[str, Any] = {name: np.concatenate(done)}
        with target.open("wb") as out:
            np.savez_compressed(out, **arrays)

    blocks = (records[start : start + BLOCK] for start in range(0, len(records), BLOCK))
    return Table(blocks, writing, logits=found == "logits")
