"""Parsers of the published tabular datasets, exact about what they refuse.

- Att (AttriGuard): one user a line as ``app:score`` pairs, labels in a file of their own.
- Location, Texas100, Purchase100: comma-separated zeros and ones inside a ``.tgz``, read straight
  from the archive. The first line says how many; every other line must agree.

Errors name the file, the line (counted from 1) and the value.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from privet.data.archives import member
from privet.data.table import Indices, Table
from privet.errors import DataError
from privet.progress import track

_BLOCK = 1 << 24  # bytes of text parsed at a time
_PAIR = re.compile(rb"(\d+):(\d+\.?\d*|\.\d+)")


def load_att(folder: Path) -> Table:
    """Read Att: 10,000 app scores a user, 25 cities; its test users are the ``test`` table.

    App numbers are used as column numbers as they are; they run from 1, so column 0 is empty.
    """
    train, test = (
        Table(
            read_scores(folder / f"{part}_user.txt", features=10_000),
            read_labels(folder / f"{part}_label.txt", classes=25),
            classes=25,
            name=name,
        )
        for part, name in (("train", "att"), ("test", "att (test)"))
    )
    return Table(train.inputs, train.labels, classes=25, name="att", test=test)


def load_location(folder: Path) -> Table:
    """Read Location: 446 binary features, 30 classes (published as 1..30, here 0..29)."""
    path = folder / "dataset_location.tgz"
    with member(path, "bangkok") as (stream, size):
        inputs, labels = _binary_rows(stream, f"{path}:bangkok", size=size)
    return _labelled(inputs, labels, classes=30, name="location")


def load_purchase100(folder: Path) -> Table:
    """Read Purchase100: 600 binary features, 100 classes (published as 1..100)."""
    path = folder / "dataset_purchase.tgz"
    with member(path, "dataset_purchase") as (stream, size):
        inputs, labels = _binary_rows(stream, f"{path}:dataset_purchase", size=size)
    return _labelled(inputs, labels, classes=100, name="purchase100")


def load_texas100(folder: Path) -> Table:
    """Read Texas100: 6,169 binary features, 100 classes (published as 1..100).

    The SP-ASPP paper's text says 6,170 features and 30 classes; the published files, and the 100
    inputs of the paper's own defense model, say otherwise.
    """
    path = folder / "dataset_texas.tgz"
    with member(path, "texas/100/feats") as (stream, size):
        inputs, _ = _binary_rows(stream, f"{path}:texas/100/feats", size=size, labelled=False)
    with member(path, "texas/100/labels") as (stream, _):
        labels = _integers(stream.read(), f"{path}:texas/100/labels")
    return _labelled(inputs, labels, classes=100, name="texas100")


def read_scores(path: Path, *, features: int) -> sparse.csr_array:
    """Read ``index:score`` pairs, one row a line, as float32 CSR of shape (lines, features).

    Vectorized over the whole file, for training; `privet.device.formats` reads the same format
    in a stream and without SciPy, for a person's device.

    Scores lie in [0, 1]. Blanks at the end, either kind of line ending, and empty lines (users
    without scores) are fine.

    Raises
    ------
    DataError
        On an empty file, anything that is not a pair, an index outside ``0 .. features - 1``, a
        score outside [0, 1], or an index that a line repeats.
    """
    text = _text(path)
    buffer = np.frombuffer(text, np.uint8)
    blank = buffer <= ord(" ")
    starts = np.flatnonzero(~blank & np.concatenate([[True], blank[:-1]]))
    owners = np.searchsorted(starts, np.flatnonzero(buffer == ord(":")), side="right") - 1
    numbers = text.replace(b":", b" ").split()
    # One colon a token, and something on both its sides.
    if not np.array_equal(owners, np.arange(starts.size)) or len(numbers) != 2 * starts.size:
        _refuse_pair(text, path, features)
    ends = np.flatnonzero(buffer == ord("\n"))
    rows = np.searchsorted(ends, starts)
    try:
        columns = np.array(numbers[::2], dtype="S").astype(np.int64)
        scores = np.array(numbers[1::2], dtype="S").astype(np.float64)
    except (ValueError, OverflowError):
        _refuse_pair(text, path, features)
    lines = ends.size + (not text.endswith(b"\n"))
    places = rows * features + columns
    sound = (columns >= 0) & (columns < features) & (scores >= 0) & (scores <= 1)
    if not sound.all() or np.unique(places).size != places.size:
        _refuse_pair(text, path, features)
    pointers = np.searchsorted(rows, np.arange(lines + 1))
    table = sparse.csr_array(
        (scores.astype(np.float32), columns.astype(np.int32), pointers.astype(np.int32)),
        shape=(lines, features),
    )
    table.sort_indices()
    table.eliminate_zeros()
    return table


def _refuse_pair(text: bytes, path: Path, features: int) -> NoReturn:
    """Find the first pair at fault, slowly, and raise the `DataError` that names it."""
    for number, line in enumerate(text.splitlines(), start=1):
        seen: set[int] = set()
        for token in line.split():
            pair = _PAIR.fullmatch(token)
            sound = pair is not None and int(pair[1]) < features and float(pair[2]) <= 1
            if pair is None or not sound:
                raise DataError(
                    f"{path}, line {number}: {_shown(token)} is not index:score with an index in "
                    f"0..{features - 1} and a score in [0, 1]"
                )
            if int(pair[1]) in seen:
                raise DataError(f"{path}, line {number}: index {int(pair[1])} appears twice")
            seen.add(int(pair[1]))
    raise DataError(f"{path}: not a file of index:score pairs")


def read_labels(path: Path, *, classes: int) -> Indices:
    """Read one integer in ``0 .. classes - 1`` a line; `DataError` names a line at fault."""
    labels = _integers(_text(path), str(path))
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        raise DataError(
            f"{path}, line {bad[0] + 1}: label {labels[bad[0]]} is not in 0..{classes - 1}"
        )
    return labels


def _text(path: Path) -> bytes:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if not text.strip():
        raise DataError(f"{path} is empty")
    return text


def _integers(text: bytes, where: str) -> Indices:
    lines = text.rstrip().splitlines()
    tokens = [line.strip().strip(b'"') for line in lines]
    try:
        return np.array(tokens, dtype="S").astype(np.int64)
    except (ValueError, OverflowError):
        small = re.compile(rb"-?\d{1,18}")
        number, token = next((i, t) for i, t in enumerate(tokens, 1) if not small.fullmatch(t))
        raise DataError(f"{where}, line {number}: {_shown(token)} is not an integer") from None


def _shown(token: bytes) -> str:
    return repr(token[:40].decode(errors="replace"))


def _labelled(inputs: NDArray[np.uint8], labels: Indices, *, classes: int, name: str) -> Table:
    """Make a table of published rows, whose labels count from 1."""
    bad = np.flatnonzero((labels < 1) | (labels > classes))
    if bad.size:
        raise DataError(f"{name}, line {bad[0] + 1}: label {labels[bad[0]]} is not in 1..{classes}")
    return Table(inputs.astype(np.float32), labels - 1, classes=classes, name=name)


def _binary_rows(
    stream: IO[bytes], where: str, *, size: int, labelled: bool = True
) -> tuple[NDArray[np.uint8], Indices]:
    """Parse lines of an optional label, then zeros or ones, separated by commas."""
    parts, prefixes, line, features = [], [], 1, 0
    blocks = track(_blocks(stream), f"reading {where}", total=-(-size // _BLOCK))
    for block in blocks:
        features = features or block[: block.index(b"\n")].count(b",") + (not labelled)
        if not features:
            raise DataError(f"{where}, line 1: one column only; expected a label and features")
        rows, heads = _binary_block(block, where, features=features, labelled=labelled, line=line)
        parts.append(rows)
        prefixes.extend(heads)
        line += len(rows)
    if not parts:
        raise DataError(f"{where} is empty")
    labels = _integers(b"\n".join(prefixes), where) if labelled else np.zeros(0, np.int64)
    return np.concatenate(parts), labels


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the stream in pieces that end with a line feed, carriage returns removed."""
    rest = b""
    while piece := stream.read(_BLOCK):
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if newline:
            yield (whole + newline).replace(b"\r\n", b"\n")
    if rest.strip():
        yield rest.rstrip() + b"\n"


def _binary_block(
    block: bytes, where: str, *, features: int, labelled: bool, line: int
) -> tuple[NDArray[np.uint8], list[bytes]]:
    """Parse one block whose first line has number ``line``: values, and the text before them."""
    buffer = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(buffer == ord("\n"))
    begins = np.concatenate([[0], ends[:-1] + 1])
    width = 2 * features - 1
    # A row is its label, a comma, and `width` bytes of digits and commas in turn.
    cut = ends - width - labelled
    exact = cut > begins if labelled else cut == begins
    if not exact.all():
        _refuse_row(
            block, int(np.argmin(exact)), where=where, line=line, expected=features + labelled
        )
    body = np.lib.stride_tricks.sliding_window_view(buffer, width + labelled)[cut]
    values, commas = body[:, labelled::2] - np.uint8(ord("0")), body[:, 1 - labelled :: 2]
    exact = (values <= 1).all(axis=1) & (commas == ord(",")).all(axis=1)
    heads = [block[start:stop] for start, stop in zip(begins, cut, strict=True)] if labelled else []
    digits = np.array([head.strip(b'"').isdigit() for head in heads], dtype=bool)
    exact &= digits if labelled else True
    if not exact.all():
        _refuse_row(
            block, int(np.argmin(exact)), where=where, line=line, expected=features + labelled
        )
    return values, heads


def _refuse_row(block: bytes, row: int, *, where: str, line: int, expected: int) -> NoReturn:
    cells = block.split(b"\n")[row].split(b",")
    if len(cells) != expected:
        raise DataError(f"{where}, line {line + row}: {len(cells)} columns; expected {expected}")
    # A first cell that is neither a digit nor a label fails here too, if nothing after it does.
    column = next((c for c, cell in enumerate(cells) if c and cell not in (b"0", b"1")), 0)
    wanted = "0 or 1" if column else "a label, or 0 or 1"
    raise DataError(
        f"{where}, line {line + row}, column {column + 1}: {_shown(cells[column])} is not {wanted}"
    )
