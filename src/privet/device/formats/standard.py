"""Standard input and output in place of files."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

STANDARD = "-"


def is_standard(path: Path | str) -> bool:
    """Tell whether ``path`` means standard input or output; a file ``-`` needs its folder named."""
    return path == STANDARD or path == Path(STANDARD)


def called(path: Path | str) -> str:
    """Return what to call a source in messages."""
    return "standard input" if is_standard(path) else str(path)


@contextmanager
def seekable_input() -> Iterator[IO[bytes]]:
    """Give a nameless copy of all of standard input, which can be read from any place."""
    # Imported here: they bring what few need, such as bz2 and lzma, to every start.
    from shutil import copyfileobj
    from tempfile import TemporaryFile

    with TemporaryFile() as copy:
        copyfileobj(sys.stdin.buffer, copy)
        copy.seek(0)
        yield copy


@contextmanager
def whole_output() -> Iterator[IO[bytes]]:
    """Collect what goes to standard output, and put it there when the block has succeeded."""
    from shutil import copyfileobj
    from tempfile import TemporaryFile

    with TemporaryFile() as copy:
        yield copy
        copy.seek(0)
        copyfileobj(copy, sys.stdout.buffer)
        sys.stdout.buffer.flush()
