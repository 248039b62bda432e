"""Lines of text, as many at a time as memory has room for, however long they are."""

from collections.abc import Iterable, Iterator
from typing import TextIO

from privet.device.formats.layout import Wanted
from privet.errors import DataError

ROOM = 1 << 23  # characters in a line or block, besides what the features may take
EACH = 32  # characters of a feature: its number in full, its index or quotes, what separates it


def each_line(file: TextIO, wanted: Wanted) -> Iterator[str]:
    """Give line by line, ends included.

    Raises
    ------
    DataError
        On a line that is longer than any record; it is not read to its end.
    """
    most, line = _room(wanted), 1
    while text := file.readline(most + 1):
        if len(text) > most:
            raise DataError(f"{wanted.place}, line {line}: it has more than {most} characters")
        yield text
        line += 1


def in_blocks(
    lines: Iterable[str], wanted: Wanted, *, first: int
) -> Iterator[tuple[int, list[str]]]:
    """Give lines in blocks, each with the number of its first line; that of all is ``first``.

    A block has ``Wanted.rows`` lines, or fewer where these are long.
    """
    block: list[str] = []
    held, most = 0, _room(wanted)
    for line in lines:
        block.append(line)
        held += len(line)
        if len(block) == wanted.rows or held > most:
            yield first, block
            first, held, block = first + len(block), 0, []
    if block:
        yield first, block


def _room(wanted: Wanted) -> int:
    return ROOM + EACH * wanted.features
