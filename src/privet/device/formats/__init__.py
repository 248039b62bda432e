"""A person's file: how each format's records are read and written, block by block.

Every number of a file is written in one style, and ratings in ascending order, whatever the
input looked like: an entry that stood out by its spelling or place would betray the noise.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from privet.device.formats.layout import EXTRAS, FORMATS, ROWS, Extra, Format, Table, Wanted, Write
from privet.device.formats.standard import called, is_standard, seekable_input
from privet.errors import DataError, OptionError

__all__ = ["EXTRAS", "FORMATS", "Extra", "Format", "Table", "Write", "format_of", "opened"]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npz": "npz",
}


def format_of(path: Path | str) -> Format:
    """Return the format that a file's name says; what has no other ending holds pairs."""
    return _SUFFIXES.get(Path(path).suffix.lower(), "pairs")


@contextmanager
def opened(
    path: Path | str,
    features: int,
    *,
    ratings: bool,
    names: Sequence[str] | None = None,
    extra: Extra = "refuse",
    format: Format | None = None,
    rows: int = ROWS,
) -> Iterator[Table]:
    """Open a file of records: CSV, TSV, Parquet, NPZ, or lines of ``index:score`` pairs.

    Memory does not grow with the number of records, but for NPZ arrays in Fortran order. Empty
    lines of CSV and TSV are skipped; an empty line of pairs is a record without entries.

    Parameters
    ----------
    path
        The file, or ``-`` for standard input. Parquet and NPZ have to be read from their end, so
        standard input is first put into a nameless temporary file.
    names
        What the features are called. Columns of a table whose header holds these names in another
        order are brought into theirs, and written in the file's own. Without a header, or without
        ``names``, columns count from the left.
    extra
        What becomes of a table's columns, or an NPZ file's arrays, that are no feature or record;
        see `Wanted`.
    format
        By default what the name says; standard input has none.
    rows
        Most records a block.

    Raises
    ------
    DataError
        When the file is missing or empty, a header lacks names or has unknown ones, or (while
        reading) a line has the wrong number of columns, an index out of range, or a value that is
        no number; for ``ratings``, also when a value lies outside [0, 1]. The message names file,
        line and value.
    OptionError
        On an unknown format or ``extra``, standard input without a format, or Parquet without
        pyarrow.
    """
    kind = _check_options(path, format=format, extra=extra)
    if kind == "pairs" and not ratings:
        raise DataError(
            f"{called(path)} must be a .parquet, .csv, .tsv or .npz file to hold confidences"
        )
    place = called(path)
    wanted = Wanted(place, features, ratings=ratings, names=names, extra=extra, rows=rows)
    # Each format is imported when a file has it: starting up is most of what one record takes.
    if kind == "npz":
        from privet.device.formats.npz import open_npz

        with _bytes(path, seek=True) as file:
            yield open_npz(file, wanted)
    elif kind == "parquet":
        from privet.device.formats.parquet import open_parquet

        with _bytes(path, seek=True) as file:
            yield open_parquet(file, wanted)
    else:
        with _bytes(path) as file:
            text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
            try:
                yield _open_text(text, wanted, kind)
            except UnicodeDecodeError as error:
                raise DataError(f"{place} is not readable text: {error}") from None
            finally:
                text.detach()


def _open_text(text: TextIOWrapper, wanted: Wanted, kind: Format) -> Table:
    if kind == "pairs":
        from privet.device.formats.pairs import open_pairs

        return open_pairs(text, wanted)
    from privet.device.formats.cells import open_cells

    return open_cells(text, wanted, kind)


def _check_options(path: Path | str, *, format: Format | None, extra: Extra) -> Format:
    """Return the format that an option or else the path names."""
    if extra not in EXTRAS:
        raise OptionError(f"extra must be one of {', '.join(EXTRAS)}; got {extra!r}")
    if format is None:
        if is_standard(path):
            raise OptionError(f"standard input needs a format: {', '.join(FORMATS)}")
        return format_of(path)
    if format not in FORMATS:
        raise OptionError(f"format must be one of {', '.join(FORMATS)}; got {format!r}")
    return format


@contextmanager
def _bytes(path: Path | str, *, seek: bool = False) -> Iterator[IO[bytes]]:
    """Open a file, or standard input, copied to where it can be read from any place if need be."""
    if is_standard(path):
        with seekable_input() if seek else nullcontext(sys.stdin.buffer) as file:
            yield file
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        yield file
