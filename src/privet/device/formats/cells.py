"""Tables of cells, CSV and TSV, with or without a header.

All features are written in one style, whatever the input looked like; what is no feature is
passed through as it stands. A row is one line, and quotes end with their cell: what a quote that
was never closed would swallow are records, not to be passed through. Empty lines are no rows.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np

from privet.device.formats.columns import Columns, match, stripped
from privet.device.formats.layout import Format, Table, Wanted, Write
from privet.device.formats.lines import each_line, in_blocks
from privet.device.formats.spelling import is_plain, is_word, number, remembered, shortest
from privet.device.network import Array, Float64, Ints
from privet.errors import DataError
from privet.tabular import delimiter

Rows = Sequence[list[str]]
Spell = Callable[[float], str]


def open_cells(file: TextIO, wanted: Wanted, format: Format) -> Table:
    """Open a table; columns are told by the header, or count from the left where there is none."""
    lines = each_line(file, wanted)
    first = next(lines, "")
    if not first.strip():
        raise DataError(f"{wanted.place} is empty, or its first line is")
    separator = delimiter(Path(f"table.{format}"), first)
    (cells,) = _split([first], 1, separator=separator, place=wanted.place)
    header = cells if _is_header(cells, wanted) else None
    columns = Columns(tuple(range(wanted.features))) if header is None else match(header, wanted)
    rest = chain([first] * (header is None), lines)
    current: list[list[str]] = []  # the rows of the block just read

    def blocks() -> Iterator[Float64]:
        for start, block in in_blocks(rest, wanted, first=1 + (header is not None)):
            rows = _split(block, start, separator=separator, place=wanted.place)
            places = [line for line, row in enumerate(rows, start) if row]
            current[:] = filter(None, rows)
            if current:
                yield _read(current, places, columns=columns, wanted=wanted)

    keep = bool(columns.others) and wanted.extra == "keep"

    @contextmanager
    def writing(out: IO[bytes]) -> Iterator[Write]:
        text = TextIOWrapper(out, encoding="utf-8", newline="")
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        if header is not None:
            order = sorted(columns.features + columns.others * keep)
            writer.writerow([header[column] for column in order])
        spell = remembered if wanted.ratings else shortest
        try:
            if keep:
                yield partial(_write_all, writer, columns=columns, spell=spell, rows=current)
            else:
                rank = np.argsort(columns.features)
                yield partial(_write, text, rank=rank, spell=spell, separator=separator)
        finally:
            text.detach()

    return Table(blocks(), writing)


def _write(text: TextIO, block: Array, *, rank: Ints, spell: Spell, separator: str) -> None:
    """Write features alone, in the columns' order; numbers need no quotes, hence no csv module."""
    rows = block[:, rank].tolist()
    text.write("\n".join(separator.join(map(spell, row)) for row in rows) + "\n")


def _write_all(writer: Any, block: Array, *, columns: Columns, spell: Spell, rows: Rows) -> None:
    """Write the rows as they were read, but for their features."""
    pick = itemgetter(*_places(columns))
    spelled = (list(map(spell, record)) for record in block.tolist())
    writer.writerows(pick(cells + row) for cells, row in zip(spelled, rows, strict=True))


def _places(columns: Columns) -> list[int]:
    """Return where each cell of a row stands in the spelled features with the old row behind."""
    count = len(columns.features)
    feature = {column: number for number, column in enumerate(columns.features)}
    return [feature.get(at, count + at) for at in range(count + len(columns.others))]


def _split(lines: Sequence[str], first: int, *, separator: str, place: str) -> list[list[str]]:
    """Return the cells of lines, the first of them number ``first``; an empty line has none.

    Raises
    ------
    DataError
        On quotes that do not end with their cell, or a cell that is too long.
    """
    try:
        rows = list(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error:
        rows = []
    if len(rows) == len(lines):
        return rows
    # One by one, to name the line at fault, which for the reader goes on into the next.
    rows = []
    for line, text in enumerate(lines, first):
        try:
            rows += csv.reader([text], delimiter=separator, strict=True)
        except csv.Error as error:
            raise DataError(
                f"{place}, line {line} is no row of cells, each with its quotes closed: {error}"
            ) from None
    return rows


def _is_header(cells: list[str], wanted: Wanted) -> bool:
    """Tell a header from a record.

    A header is words only, or all the features' names, with others beside them if any of all is a
    word. A first line with any other number or gap is a record, never passed through unprotected.

    Raises
    ------
    DataError
        On numbers that may be either: 0, 1, ..., which some programs call columns without a name,
        or the features' names where these could be a record.
    """
    words = [is_word(cell) for cell in cells]
    if all(words):
        return True
    found, names = stripped(cells), stripped(wanted.names or ())
    named = bool(names) and set(names) <= set(found) and (any(words) or len(names) == len(found))
    if named and not all(0 <= number(name) <= 1 for name in names):
        return True
    if named or found == [str(feature) for feature in range(wanted.features)]:
        raise DataError(
            f"{wanted.place}, line 1: its numbers may be names of columns or a record; leave such "
            f"a header out, and spell such a record with points: 0.0, 1.0"
        )
    return False


def _read(rows: Rows, lines: Sequence[int], *, columns: Columns, wanted: Wanted) -> Float64:
    """Return the features of some rows; `DataError` names the line and column at fault."""
    width = len(columns.features) + len(columns.others)
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise DataError(f"{wanted.place}, line {line}: {len(row)} columns, not {width}")
    if not columns.in_order:
        # One feature alone comes as a cell and not as a tuple of cells.
        pick = itemgetter(*columns.features, columns.features[0])
        rows = [list(pick(row)[:-1]) for row in rows]
    records = _numbers(rows, len(rows) * wanted.features).reshape(len(rows), -1)
    wrong = ~np.isfinite(records)
    if wanted.ratings:
        wrong |= (records < 0) | (records > 1)
    if wrong.any():
        at, feature = (int(place[0]) for place in np.nonzero(wrong))
        what = "in 0..1" if wanted.ratings else "a finite number"
        raise DataError(
            f"{wanted.place}, line {lines[at]}, column {columns.features[feature] + 1}: "
            f"{rows[at][feature][:40]!r} is not {what}"
        )
    return records


def _numbers(rows: Rows, count: int) -> Float64:
    """Return all cells as numbers; what is none becomes NaN, or infinite."""
    cells = chain.from_iterable
    if is_plain(map("".join, rows)):
        try:
            return np.fromiter(map(float, cells(rows)), np.float64, count)
        except ValueError:
            pass  # an empty cell, or a word
    return np.fromiter(map(number, cells(rows)), np.float64, count)
