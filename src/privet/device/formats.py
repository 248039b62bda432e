"""A person's file: how each format's records are read and written, block by block.

Every number of a file is written in one style, and ratings in ascending order, whatever the
input looked like: an entry that stood out by its spelling or place would betray the noise.
"""

import csv
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import numpy as np

from privet.device.network import Array, Float64
from privet.errors import DataError

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
        Opens a path for the protected records, in the same format and with the same header;
        gives a function that writes the next block.
    logits
        Whether the file says of its records that they are logits.
    """

    blocks: Iterator[Array]
    writing: Callable[[Path], AbstractContextManager[Write]]
    logits: bool = False


@contextmanager
def opened(path: Path, features: int, *, ratings: bool) -> Iterator[Table]:
    """Open ``path`` as NPZ (``.npz``), CSV (``.csv``), or lines of ``index:score`` pairs.

    Memory does not grow with the length of a text or CSV file; an NPZ file is read whole.

    Raises
    ------
    DataError
        When the file is missing or empty, or (while reading) a line has the wrong number of
        columns, an index out of range, or a value that is no number; for ``ratings``, also when
        a value lies outside [0, 1]. The message names file, line and value.
    """
    if path.suffix.lower() == ".npz":
        yield _open_npz(path, features)
        return
    is_csv = path.suffix.lower() == ".csv"
    if not (ratings or is_csv):
        raise DataError(f"{path} must be a .csv or .npz file to hold confidences")
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    with file:
        try:
            if is_csv:
                yield _open_csv(path, file, features=features, ratings=ratings)
            else:
                yield Table(_read_pairs(path, file, features), _writing_pairs)
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} is not readable text: {error}") from None


def _read_pairs(path: Path, file: TextIO, features: int) -> Iterator[Float64]:
    """Read lines of ``index:score`` pairs between blanks; an empty line is an empty record."""
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


def _open_csv(path: Path, file: TextIO, *, features: int, ratings: bool) -> Table:
    """Open a CSV file; a first line of words only is its header."""
    lines = csv.reader(file)
    header = next(lines, None)
    if header is None:
        raise DataError(f"{path} is empty")
    rows: Iterator[list[str]] = lines
    # A first line with any number or gap is a record, never passed through unprotected.
    if not all(_is_word(cell) for cell in header):
        rows, header = chain([header], lines), None
    elif len(header) != features:
        raise DataError(f"{path}: the header has {len(header)} columns, not {features}")

    @contextmanager
    def writing(target: Path) -> Iterator[Write]:
        with target.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            if header is not None:
                writer.writerow(header)
            yield lambda block: writer.writerows(map(_cells, block.tolist()))

    numbered = ((lines.line_num, row) for row in rows if row)
    return Table(_read_cells(path, numbered, features=features, ratings=ratings), writing)


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
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            names = [name for name in ARRAYS if name in file.files]
            if len(names) != 1:
                raise DataError(
                    f"{path} must hold one array named {', '.join(ARRAYS)}; got {file.files[:9]}"
                )
            records = file[names[0]]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except (EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a readable NPZ file: {error}") from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a readable NPZ file: {error}") from None
    if records.ndim != 2 or records.shape[1] != features or records.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: {names[0]} must be numbers of shape (n, {features}); "
            f"got {records.dtype} of shape {records.shape}"
        )
    name = "confidences" if names[0] == "logits" else names[0]

    @contextmanager
    def writing(target: Path) -> Iterator[Write]:
        done: list[Array] = []
        yield done.append
        with target.open("wb") as out:
            np.savez_compressed(out, allow_pickle=False, **{name: np.concatenate(done)})

    blocks = (records[start : start + BLOCK] for start in range(0, len(records), BLOCK))
    return Table(blocks, writing, logits=names[0] == "logits")
