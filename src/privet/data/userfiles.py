"""A user's own tables: CSV, TSV and NPZ files."""

import csv
import logging
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from privet.data.table import Indices, Table
from privet.errors import DataError
from privet.tabular import delimiter, read_npz

logger = logging.getLogger(__name__)


def load_csv(path: Path) -> Table:
    """Read a table of numbers with one label column.

    The label column is the one named ``label``, or the last. A first line that names it, or that
    holds no number, is a header. Labels are names or integers, numbered from 0 in sorted order;
    as they stand in the file they become ``class_names``. See `privet.tabular.delimiter` for what
    separates cells.

    Raises
    ------
    DataError
        Naming line and column, when a cell is not a finite number, or a line is short.
    """
    first = _first_line(path)
    separator = delimiter(path, first)
    cells = [cell.strip() for cell in next(csv.reader([first], delimiter=separator))]
    if len(cells) < 2:
        raise DataError(f"{path}, line 1: one column only; expected features and a label")
    lowered = [cell.lower() for cell in cells]
    header = "label" in lowered or not any(map(_is_number, cells))
    label = lowered.index("label") if "label" in lowered else len(cells) - 1
    features = [column for column in range(len(cells)) if column != label]
    names = tuple(cells[column] for column in features) if header else None
    if names is not None and (len(set(names)) < len(names) or "" in names):
        raise DataError(
            f"{path}, line 1: every column needs a name of its own; got {', '.join(cells)}"
        )
    if names is not None and all(map(_is_number, names)):
        names = None  # numbers for names could not be told from a record later
    labels = [
        _label(row, label, columns=len(cells), where=f"{path}, line {line}")
        for line, row in _rows(path, separator, header=header)
    ]
    if not labels:
        raise DataError(f"{path} has a header and no rows")
    try:
        with np.errstate(over="ignore"):
            inputs = np.loadtxt(
                path,
                dtype=np.float32,
                delimiter=separator,
                usecols=features,
                skiprows=int(header),
                comments=None,
                quotechar='"',
                encoding="utf-8-sig",
                ndmin=2,
            )
        sound = bool(np.isfinite(inputs).all())
    except ValueError:
        sound = False
    if not sound:
        _refuse_cell(path, separator, header=header, features=features)
    numbers, found = _number_labels(np.array(labels), str(path))
    return Table(
        inputs,
        numbers,
        classes=len(found),
        name=path.stem,
        feature_names=names,
        class_names=found,
    )


def load_npz(path: Path) -> Table:
    """Read arrays ``inputs`` and ``labels`` (or ``X`` and ``y``) from an NPZ file.

    Inputs are numbers of shape (n, features), or images of shape (n, 3, height, width): bytes,
    or floats in [0, 1]. Labels are numbered from 0 in sorted order, and become ``class_names``.
    Pickled objects are refused.
    """
    (x, inputs), (y, labels) = read_npz(path, [("inputs", "labels"), ("X", "y")]).items()
    if inputs.dtype.kind not in "buif" or inputs.ndim == 0:
        raise DataError(
            f"{path}: {x} must be rows of numbers; got {inputs.dtype} of shape {inputs.shape}"
        )
    if labels.shape != inputs.shape[:1]:
        raise DataError(
            f"{path}: {y} must hold one label for each of {len(inputs)} rows; got {labels.shape}"
        )
    scale = np.float32(255 if inputs.ndim == 4 and inputs.dtype == np.uint8 else 1)
    numbers, found = _number_labels(labels, str(path))
    with np.errstate(over="ignore"):  # what became infinite is refused by name
        values = inputs.astype(np.float32) / scale
    return Table(values, numbers, classes=len(found), name=path.stem, class_names=found)


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline().rstrip("\r\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8") from None
    if not first.strip():
        raise DataError(f"{path} is empty, or its first line is")
    return first


def _rows(path: Path, separator: str, *, header: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of every line that is not blank, after the header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, delimiter=separator)
            if header:
                next(reader)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None


def _label(row: list[str], column: int, *, columns: int, where: str) -> str:
    if len(row) != columns:
        raise DataError(f"{where}: {len(row)} columns; line 1 has {columns}")
    label = row[column].strip()
    if not label:
        raise DataError(f"{where}: the label is empty")
    return label


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _refuse_cell(path: Path, separator: str, *, header: bool, features: list[int]) -> NoReturn:
    """Find the first cell at fault, slowly, and raise the `DataError` that names it."""
    largest = float(np.finfo(np.float32).max)
    for line, row in _rows(path, separator, header=header):
        for column in features:
            cell = row[column]
            if not _is_number(cell) or not abs(float(cell)) <= largest:
                raise DataError(
                    f"{path}, line {line}, column {column + 1}: {cell!r} is not a finite number; "
                    "features must be numbers, only the label may be a name"
                )
    raise DataError(f"{path} is not a table of numbers with a label column")


def _number_labels(labels: NDArray[Any], where: str) -> tuple[Indices, tuple[str, ...]]:
    """Give labels numbers from 0 in sorted order, integers by value; refuse fractions.

    Returns the numbers, and how the label of each number was called.
    """
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind == "U":
        with suppress(ValueError):
            labels = labels.astype(np.float64)
    if labels.dtype.kind == "f":
        fractions = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))
        if fractions.size:
            raise DataError(
                f"{where}: row {fractions[0]} has label {labels[fractions[0]]}; labels must be "
                "integers or names (is the label column the last, or named 'label'?)"
            )
    elif labels.dtype.kind not in "buiU":
        raise DataError(f"{where}: labels must be integers or names; got {labels.dtype}")
    found, numbers = np.unique(labels, return_inverse=True)
    if found.size < 2:
        raise DataError(f"{where}: all labels are {found[0] if found.size else 'missing'}")
    whole = found.dtype.kind == "f"
    names = tuple(f"{label:.0f}" if whole else str(label) for label in found.tolist())
    if found.dtype.kind == "U" or not np.array_equal(found, np.arange(found.size)):
        shown = ", ".join(chain(names[:5], ["..."] if found.size > 5 else []))
        logger.info("%s: classes 0..%d are the labels %s", where, found.size - 1, shown)
    return numbers.astype(np.int64), names
