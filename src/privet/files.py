"""Files that are either whole or not there: write beside the target, then rename."""

import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from privet.errors import DataError, OptionError


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Give a temporary path that replaces ``path`` atomically when the block succeeds.

    On any exception, Ctrl-C included, ``path`` stays as it was and the temporary file is gone.
    Parent folders are created, and stay. A link is followed: what it points to is replaced.

    Parameters
    ----------
    mode
        Permissions of the result, such as 0o600; by default those of the file that it replaces,
        or what the umask gives a new one.

    Raises
    ------
    OptionError
        When ``path`` is a folder or a device, or lies below a file.
    """
    if path.absolute().parts[1:2] in (("dev",), ("proc",)):
        raise OptionError(f"{path} is a folder or a device; name a file to write")
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise OptionError(f"{path} would lie below a file; choose another place") from None
    before = _permissions(path)
    mode = before if mode is None else mode
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{path.suffix}")
    try:
        # Private from the start where the result may have to be.
        first = 0o666 if mode is None else 0o600
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, first))
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _permissions(path: Path) -> int | None:
    """Return the permissions of the file at ``path``, None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OptionError(f"{path} is a folder or a device; name a file to write")
    return found.st_mode & 0o777


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON to ``path`` atomically; NaN is refused, not written."""
    text = json.dumps(value, indent=2, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read JSON from ``path``; `DataError` names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:
        # Not UTF-8, not JSON, or numbers and nesting beyond all reason.
        raise DataError(f"{path} is not readable JSON: {error}") from None
