"""What every format needs to know of a file before it is read, and what it makes of one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Literal, get_args

from privet.device.network import Array, Bools

Format = Literal["pairs", "csv", "tsv", "parquet", "npz"]
Extra = Literal["refuse", "keep", "drop"]
FORMATS: tuple[Format, ...] = get_args(Format)
EXTRAS: tuple[Extra, ...] = get_args(Extra)
ROWS = 256

Write = Callable[[Array], None]


@dataclass(frozen=True)
class Wanted:
    """What a file of records has to hold.

    Parameters
    ----------
    place
        What to call the file in messages.
    features
        Entries of a record.
    ratings
        Whether entries are ratings in [0, 1]; else confidences or logits.
    names
        What the features are called, if they have names.
    extra
        What becomes of columns that are no feature, and an NPZ file's other arrays: ``"refuse"``
        the file, ``"keep"`` them as they are, or ``"drop"`` them.
    rows
        Most records a block.
    """

    place: str
    features: int
    ratings: bool
    names: Sequence[str] | None = None
    extra: Extra = "refuse"
    rows: int = ROWS


@dataclass(frozen=True)
class Table:
    """An opened file of records.

    Parameters
    ----------
    blocks
        The records, a few at a time, as dense arrays of shape (up to ``Wanted.rows``, features).
    writing
        Takes a binary stream for the protected records, in the same format, with the same header
        and order of columns; gives a function that writes the next block. Each block has to be
        written before the next is read, since what stands beside its records is kept no longer.
    logits
        Whether the file says of its records that they are logits.
    total
        About how many blocks will come, where the file tells.
    whole
        Shape (features,): which features are stored as whole numbers, where columns have types.
    """

    blocks: Iterator[Array]
    writing: Callable[[IO[bytes]], AbstractContextManager[Write]]
    logits: bool = False
    total: int | None = None
    whole: Bools | None = None
