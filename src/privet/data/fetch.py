"""Downloads that resume, are checked, and are either whole or not there."""

import hashlib
import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from privet.errors import DataError
from privet.progress import track

logger = logging.getLogger(__name__)

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class RemoteFile:
    """A file of a dataset and where its publisher keeps it.

    Parameters
    ----------
    name
        File name in the dataset's folder.
    url
        http(s) address; None where there is none to download from.
    digest
        ``"sha256:<hex>"`` or ``"md5:<hex>"``; None where none is published.
    size
        Bytes, where known.
    """

    name: str
    url: str | None = None
    digest: str | None = None
    size: int | None = None


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Return the digest of a file as ``"algorithm:hex"``."""
    with path.open("rb") as content:
        return f"{algorithm}:{hashlib.file_digest(content, algorithm).hexdigest()}"


def verify(file: RemoteFile, path: Path) -> None:
    """Check ``path`` against the published digest, if there is one; `DataError` if it differs."""
    if file.digest is None:
        return
    got = digest_of(path, file.digest.partition(":")[0])
    if got != file.digest:
        raise DataError(
            f"{path} is not the published file: expected {file.digest}, got {got}; "
            "delete it and fetch it again"
        )


def fetch(file: RemoteFile, folder: Path) -> Path:
    """Return ``folder / file.name``, downloading it unless it is there and verified.

    Bytes arrive in ``<name>.part``, which is renamed once complete and verified. An interrupted
    download leaves it there, and the next call asks the server only for the rest.

    Raises
    ------
    DataError
        When there is no address, the server cannot be reached or hangs up, the folder cannot be
        written, or the digest differs (the downloaded file is then removed).
    """
    target = folder / file.name
    if target.exists():
        verify(file, target)
        return target
    if file.url is None:
        raise DataError(f"{file.name} has no address to download from; put it at {target}")
    part = folder / f"{file.name}.part"
    try:
        _download(file, part, target)
        _accept(file, part)
        part.replace(target)
    except OSError as error:
        raise DataError(
            f"cannot write {target} ({error.strerror or error}); "
            "choose another folder with PRIVET_DATA"
        ) from None
    return target


def _accept(file: RemoteFile, part: Path) -> None:
    got = digest_of(part, file.digest.partition(":")[0] if file.digest else "sha256")
    if file.digest is None:
        logger.warning("%s: no digest is published to check it against; got %s", file.name, got)
    elif got != file.digest:
        part.unlink()
        raise DataError(
            f"{file.url} sent a wrong file: expected {file.digest}, got {got}; removed it"
        )


def _download(file: RemoteFile, part: Path, target: Path) -> None:
    """Bring ``part`` to its full length, continuing what is there."""
    have = part.stat().st_size if part.exists() else 0
    if file.size is not None and have >= file.size:
        if have == file.size:
            return
        have = 0
    try:
        with _request(file, have, target) as response:
            if response.status == 206 and not _continues(response, have):
                raise _unreachable(file, target, "it sent another range than asked for")
            resumed = response.status == 206
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("ab" if resumed else "wb") as sink:
                _receive(response, sink, file)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not have:
            raise _unreachable(file, target, f"HTTP {error.code} {error.reason}") from None
        # The server has nothing after what we have: either that is all of it, or it is not a
        # beginning of this file and only a fresh start helps.
        if error.headers.get("Content-Range", "") != f"bytes */{have}":
            part.unlink()
            _download(file, part, target)


def _request(file: RemoteFile, have: int, target: Path) -> http.client.HTTPResponse:
    url = file.url or ""
    if not url.startswith(("https://", "http://")):
        raise DataError(f"{url!r} is not an http(s) address")
    request = urllib.request.Request(url, headers={"User-Agent": "privet"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(  # noqa: S310 - scheme checked
            request, timeout=_TIMEOUT
        )
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise _unreachable(file, target, str(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(file, target, str(error) or type(error).__name__) from None
    return response


def _continues(response: http.client.HTTPResponse, have: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _receive(response: http.client.HTTPResponse, sink: BinaryIO, file: RemoteFile) -> None:
    length = response.headers.get("Content-Length", "")
    expected = int(length) if length.isdigit() else None
    total = None if expected is None else -(-expected // _CHUNK)
    received = 0
    for chunk in track(_chunks(response, file), f"downloading {file.name}", total=total):
        sink.write(chunk)
        received += len(chunk)
    # http.client reports a connection closed early as a plain end of data.
    if expected is not None and received < expected:
        raise _broken(file, f"the server hung up after {received} of {expected} bytes")


def _chunks(response: http.client.HTTPResponse, file: RemoteFile) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except http.client.IncompleteRead as error:
            yield error.partial
            raise _broken(file, "the server hung up") from None
        except (OSError, http.client.HTTPException) as error:
            raise _broken(file, str(error) or type(error).__name__) from None
        if not chunk:
            return
        yield chunk


def _broken(file: RemoteFile, why: str) -> DataError:
    return DataError(f"download of {file.url} broke off ({why}); run it again to continue")


def _unreachable(file: RemoteFile, target: Path, why: str) -> DataError:
    return DataError(
        f"could not reach {file.url} ({why}); with a copy from elsewhere, put it at {target}"
    )
