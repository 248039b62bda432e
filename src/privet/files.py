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

UNFINISHED = ".privet-"  # how names of files begin that a killed process left behind
NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY


@contextmanager
def replacing(path: Path, *, mode: int | None = None, source: Path | None = None) -> Iterator[Path]:
    """Give a temporary path that replaces ``path`` atomically when the block succeeds.

    On any exception, Ctrl-C included, ``path`` stays as it was and the temporary file is gone; a
    process that is killed leaves it behind, under a name that starts with a dot. Only this user can
    read it. Parent folders are created, and stay. A link is followed: what it points to is
    replaced.

    Parameters
    ----------
    mode
        Permissions of the result, such as 0o600, which is then this user's. By default the result
        has permissions, owner and group of the file that it replaces, or of any new file, as far
        as this user may give them. Where the group is another, it may do what all others may.
    source
        A file whose content goes into the result: nobody may read that who may not read this.

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
    before = _replaceable(path)
    origin = source.stat() if source is not None and source.is_file() else None
    # Not the target's name, which may be too long for more; some writers go by the suffix.
    temporary = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}{path.suffix[:16]}")
    try:
        usual = _usual_mode(temporary)
        os.close(os.open(temporary, NEW, 0o600))
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if mode is None:
            mode = _handed_on(temporary, before, origin=origin, usual=usual)
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _replaceable(path: Path) -> os.stat_result | None:
    """Return what is known of the file at ``path``, None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OptionError(f"{path} is a folder or a device; name a file to write")
    return found


def _usual_mode(path: Path) -> int:
    """Return what the umask gives a new file: without changing it, only a file can tell."""
    handle = os.open(path, NEW, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
        path.unlink()


def _handed_on(
    path: Path, before: os.stat_result | None, *, origin: os.stat_result | None, usual: int
) -> int:
    """Give ``path`` the owner and group that it shall have; return the permissions to go with them.

    The owner is handed on where origin and replaced file have the same, the group always; a new
    file takes its origin's.
    """
    mode = usual if before is None else before.st_mode & 0o777
    if origin is not None:
        mode &= origin.st_mode | 0o600
    like = before or origin
    if like is None or os.name != "posix":
        return mode
    owner = -1 if before is None else before.st_uid
    if origin is not None and origin.st_uid != owner:
        owner = -1
    handed = any(_owned(path, each, like.st_gid) for each in (owner, -1))
    if handed and (origin is None or origin.st_gid == like.st_gid):
        return mode
    return mode & (0o707 | (mode & 0o007) << 3)


def _owned(path: Path, owner: int, group: int) -> bool:
    """Give a file an owner, -1 for the one it has, and a group; say whether this user may."""
    try:
        os.chown(path, owner, group)
    except OSError:
        return False
    return True


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
