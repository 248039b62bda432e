"""Tables of cells, CSV and TSV, with or without a header.

All features are written in one style, whatever the input looked like; what is no feature is
passed through as it stands.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np

from privet.device.formats.columns import Columns, match, stripped
from privet.device.formats.layout import Format, Table, Wanted, Write
from privet.device.formats.spelling import Spelling, is_word, number, shortest
from privet.device.network import Array, Float64, Ints
from privet.errors import DataError
from privet.tabular import delimiter

Rows = Sequence[list[str]]
Spell = Callable[[float], str]


def open_cells(file: TextIO, wanted: Wanted, format: Format) -> Table:
    """Open a table; columns are told by the header, or count from the left where there is none."""
    first = file.readline()
    if not first.strip():
        raise DataError(f"{wanted.place} is empty, or its first line is")
    separator = delimiter(Path(f"table.{format}"), first)
    lines = csv.reader(chain([first], file), delimiter=separator)
    cells = next(lines)
    rows: Iterable[list[str]] = lines
    header: list[str] | None = cells
    if _is_header(cells, wanted):
        columns = match(cells, wanted)
    else:
        rows, header = chain([cells], lines), None
        columns = Columns(tuple(range(wanted.features)))
    numbered = ((lines.line_num, row) for row in rows if row)
    current: list[list[str]] = []  # the rows of the block just read

    def blocks() -> Iterator[Float64]:
        while block := list(islice(numbered, wanted.rows)):
            current[:] = [row for _, row in block]
            yield _read(current, [line for line, _ in block], columns=columns, wanted=wanted)

    keep = bool(columns.others) and wanted.extra == "keep"

    @contextmanager
    def writing(out: IO[bytes]) -> Iterator[Write]:
        text = TextIOWrapper(out, encoding="utf-8", newline="")
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        if header is not None:
            order = sorted(columns.features + columns.others * keep)
            writer.writerow([header[column] for column in order])
        spell = Spelling(shortest).__getitem__ if wanted.ratings else shortest
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


def _is_header(cells: list[str], wanted: Wanted) -> bool:
    """Tell a header from a record: words only, or all the features' names, a word among them.

    A first line with any other number or gap is a record, never passed through unprotected.
    """
    words = [is_word(cell) for cell in cells]
    if all(words) or wanted.names is None or not any(words):
        return all(words)
    return set(stripped(wanted.names)) <= set(stripped(cells))


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
    count = len(rows) * wanted.features
    try:
        cells = np.fromiter(map(float, chain.from_iterable(rows)), np.float64, count)
    except ValueError:
        cells = np.fromiter(map(number, chain.from_iterable(rows)), np.float64, count)
    records = cells.reshape(len(rows), wanted.features)
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
