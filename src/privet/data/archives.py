"""Reading members of tar and zip archives without ever writing one to disk.

Archives come from the network, so a member's name is only ever compared, never used as a path.
Links, devices and folders are skipped.
"""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from privet.errors import DataError

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError)


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged or unreadable archive into one `DataError`."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except DAMAGE as error:
        raise DataError(
            f"{path} is damaged or cut short ({error}); delete it and fetch it again"
        ) from None


@contextmanager
def member(path: Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open the regular file ``name`` inside the tar archive ``path``: its stream and its size.

    Raises
    ------
    DataError
        When the archive is missing or damaged, or has no such member.
    """
    with explaining(path), tarfile.open(path, mode="r:*") as archive:
        for info in archive:
            if info.isreg() and str(PurePosixPath(info.name)) == name:
                stream = archive.extractfile(info)
                assert stream is not None  # noqa: S101 - regular files always have one
                yield stream, info.size
                return
    raise DataError(f"{path} has no member {name!r}: not the archive its name says")


def members(path: Path, suffixes: frozenset[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every regular file in ``path`` with one of the ``suffixes``.

    Hidden files (``.x``, ``__MACOSX/``) are skipped. ``limit`` bounds a member's size in bytes.

    Raises
    ------
    DataError
        When the archive is missing or damaged, or a member exceeds ``limit``.
    """

    def wanted(name: str, size: int) -> bool:
        member = PurePosixPath(name)
        hidden = any(part.startswith((".", "__MACOSX")) for part in member.parts if part != ".")
        if hidden or member.suffix.lower() not in suffixes:
            return False
        if size > limit:
            raise DataError(f"{path}: {name} has {size} bytes; more than {limit} is refused")
        return True

    with explaining(path):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir() and wanted(entry.filename, entry.file_size):
                        yield entry.filename, archive.read(entry)
            return
        with tarfile.open(path, mode="r:*") as bundle:
            for info in bundle:
                if info.isreg() and wanted(info.name, info.size):
                    stream = bundle.extractfile(info)
                    assert stream is not None  # noqa: S101 - regular files always have one
                    yield info.name, stream.read()
