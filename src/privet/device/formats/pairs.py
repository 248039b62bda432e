"""Lines of ``index:score`` pairs between blanks, a record a line; an empty line is an empty record.

`privet.data.tables.read_scores` reads the same format, whole and into a sparse matrix, for
training; this one streams and needs no SciPy.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, TextIO

import numpy as np

from privet.device.formats.layout import Table, Wanted, Write
from privet.device.formats.lines import each_line, in_blocks
from privet.device.formats.spelling import number
from privet.device.network import Array, Float64
from privet.errors import DataError

# Possessive: text that is no list of pairs fails without trying other ways to split it. What
# float makes of these characters is what `number` does.
_PAIRS = re.compile(r"(?:\s*+[0-9]{1,9}:[-+.0-9eE]++)*+\s*+")


def open_pairs(file: TextIO, wanted: Wanted) -> Table:
    """Open lines of pairs; indices count from 0, scores lie in [0, 1]."""
    return Table(_read(file, wanted), _writing)


def _read(file: TextIO, wanted: Wanted) -> Iterator[Float64]:
    for first, lines in in_blocks(each_line(file, wanted), wanted, first=1):
        block = _parse(lines, wanted.features)
        yield _parse_slowly(lines, first, wanted) if block is None else block


def _parse(lines: Sequence[str], features: int) -> Float64 | None:
    """Read whole lines at once; None if anything is wrong with any of them."""
    text = "".join(lines)
    if not _PAIRS.fullmatch(text):
        return None
    numbers = text.replace(":", " ").split()
    index = np.array(list(map(int, numbers[::2])), dtype=np.intp)
    try:
        score = np.array(list(map(float, numbers[1::2])))
    except ValueError:
        return None
    place = np.repeat(np.arange(len(lines)), [line.count(":") for line in lines]) * features + index
    # Most files list their pairs in order, which is quicker to see than that none stands twice.
    once = (place[1:] > place[:-1]).all() or len(np.unique(place)) == len(place)
    if not (once and (index < features).all() and ((score >= 0) & (score <= 1)).all()):
        return None
    records = np.zeros((len(lines), features))
    records.flat[place] = score
    return records


def _parse_slowly(lines: Sequence[str], first: int, wanted: Wanted) -> Float64:
    """Read pair by pair, and raise the `DataError` that names line and pair at fault."""
    records = np.zeros((len(lines), wanted.features))
    for row, line in enumerate(lines):
        place = f"{wanted.place}, line {first + row}"
        seen: set[int] = set()
        for pair in line.split():
            index, score = _pair(place, pair, wanted.features)
            if index in seen:
                raise DataError(f"{place}: index {index} stands there twice")
            seen.add(index)
            records[row, index] = score
    return records


def _pair(place: str, pair: str, features: int) -> tuple[int, float]:
    """Return the index and score of one pair."""
    name, colon, text = pair.partition(":")
    if not colon or not name.isascii() or not name.isdigit() or len(name) > 9:
        raise DataError(f"{place}: {pair[:40]!r} is not an index:score pair such as 17:0.8")
    if int(name) >= features:
        raise DataError(f"{place}: index {name} is out of range; indices are 0..{features - 1}")
    score = number(text)
    if not 0 <= score <= 1:
        raise DataError(f"{place}: score {text[:40]!r} of index {name} is not in 0..1")
    return int(name), score


@contextmanager
def _writing(out: IO[bytes]) -> Iterator[Write]:
    spelled = lru_cache(10_000)(str)  # scores take few values

    def write(block: Array) -> None:
        rows, columns = np.nonzero(block)
        scores = map(spelled, block[rows, columns].tolist())
        pairs = list(map("{}:{}".format, columns.tolist(), scores))
        ends = np.searchsorted(rows, np.arange(1, len(block) + 1)).tolist()
        starts = [0, *ends[:-1]]
        lines = [" ".join(pairs[at:end]) for at, end in zip(starts, ends, strict=True)]
        out.write(("\n".join(lines) + "\n").encode())

    yield write
