"""NPZ files: the one array of records that goes by a known name, and what else they hold.

Rows are streamed out of the archive and into the next, so memory does not grow with their number.
An array in Fortran order has its rows everywhere, and is read whole. What is no array of records is
refused, dropped, or put behind it byte by byte.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy

from privet.device.formats.columns import listed
from privet.device.formats.layout import Table, Wanted, Write
from privet.device.network import Array
from privet.errors import DataError

ARRAYS = ("records", "inputs", "X", "confidences", "logits")
MOST_HEADER = 10_000  # bytes; NumPy reads no longer one either, but looks only once it is in memory
CHUNK = 1 << 20  # bytes of another array at one time


@dataclass(frozen=True)
class _Member:
    """An array in an archive, before its values are read, and what else is there."""

    info: ZipInfo
    others: list[ZipInfo]
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        return _name(self.info)


def open_npz(file: IO[bytes], wanted: Wanted) -> Table:
    """Open the records of an NPZ file; nothing is unpickled.

    Raises
    ------
    DataError
        When the file is damaged, holds none or several of the arrays looked for, or others that
        ``wanted.extra`` refuses, or the array is not made of numbers of shape (n, features).
    """
    try:
        archive = ZipFile(file)
        member = _find(archive, wanted)
    except DataError:
        raise
    except Exception as error:
        raise _unsound(wanted, error) from None
    if member.shape[1:] != (wanted.features,) or member.dtype.kind not in "fiub":
        raise DataError(
            f"{wanted.place}: {member.name} must be numbers of shape (n, {wanted.features}); "
            f"got {member.dtype} of shape {member.shape}"
        )
    total = -(-member.shape[0] // wanted.rows)
    writing = partial(_writing, member=member, source=archive, wanted=wanted)
    return Table(
        _blocks(archive, member, wanted), writing, logits=member.name == "logits", total=total
    )


@contextmanager
def _writing(
    out: IO[bytes], *, member: _Member, source: ZipFile, wanted: Wanted
) -> Iterator[Write]:
    """Write an array like ``member``; what were logits are confidences now."""
    name = "confidences" if member.name == "logits" else member.name
    begun = False
    with ZipFile(out, "w") as archive:
        with archive.open(_like(member.info, f"{name}.npy"), "w", force_zip64=True) as stream:

            def write(block: Array) -> None:
                nonlocal begun
                if not begun:
                    kind = npy.dtype_to_descr(block.dtype)
                    header = {"descr": kind, "fortran_order": False, "shape": member.shape}
                    npy.write_array_header_1_0(stream, header)
                    begun = True
                stream.write(block.tobytes())

            yield write
        for other in member.others if wanted.extra == "keep" else ():
            info = _like(other, other.filename)
            with archive.open(info, "w", force_zip64=True) as stream:
                for chunk in _chunks(source, other, wanted):
                    stream.write(chunk)


def _like(info: ZipInfo, name: str) -> ZipInfo:
    """Return an entry dated 1980, so that the same records are the same bytes."""
    entry = ZipInfo(name)
    entry.compress_type = info.compress_type
    return entry


def _find(archive: ZipFile, wanted: Wanted) -> _Member:
    """Return the one array that goes by a known name."""
    entries = archive.infolist()
    known = [info for info in entries if _name(info) in ARRAYS]
    others = [info for info in entries if _name(info) not in ARRAYS]
    names = [_name(info) for info in others]
    if len(known) != 1:
        held = ", ".join(map(_name, entries[:9])) or "nothing"
        raise DataError(f"{wanted.place} must hold one of: {'; '.join(ARRAYS)}. It holds {held}")
    if names and wanted.extra == "refuse":
        raise DataError(
            f"{wanted.place}: beside {_name(known[0])} it holds {listed(names)}; keep or drop what "
            f"is no record"
        )
    if len(set(names)) < len(names):
        raise ValueError("it holds two arrays of one name")
    # Other ways unpack without limit, and NumPy writes none of them.
    if any(info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for info in entries):
        raise ValueError("it is compressed otherwise than by deflating")
    with archive.open(known[0]) as stream:
        return _Member(known[0], others, *_header(stream))


def _name(info: ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read what stands before an array's values: shape, order and type."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"unknown version {version} of an array")
    first = version == (1, 0)
    field = stream.read(2 if first else 4)
    size = int.from_bytes(field, "little")
    if size > MOST_HEADER:
        raise ValueError(f"an array's header has {size} bytes, of {MOST_HEADER} at most")
    read = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
    shape, fortran, dtype = read(BytesIO(field + stream.read(size)))
    return shape, fortran, dtype


def _blocks(archive: ZipFile, member: _Member, wanted: Wanted) -> Iterator[Array]:
    count, width = member.shape
    try:
        with archive.open(member.info) as stream:
            _header(stream)
            size = stream.tell() + count * width * member.dtype.itemsize
            if member.info.file_size != size:
                raise ValueError(f"{member.name} has {member.info.file_size} bytes, not {size}")
            if member.fortran:
                columns = _values(stream, count * width, member).reshape(width, count)
                for at in range(0, count, wanted.rows):
                    yield np.ascontiguousarray(columns[:, at : at + wanted.rows].T)
                return
            for at in range(0, count, wanted.rows):
                rows = min(wanted.rows, count - at)
                yield _values(stream, rows * width, member).reshape(rows, width)
    except Exception as error:
        raise _unsound(wanted, error) from None


def _values(stream: IO[bytes], count: int, member: _Member) -> Array:
    """Read some of an array; the last of it also compares the archive's checksum."""
    size = count * member.dtype.itemsize
    values = stream.read(size)
    if len(values) != size:
        raise ValueError(f"{member.name} ends too early")
    return np.frombuffer(values, member.dtype)


def _chunks(archive: ZipFile, info: ZipInfo, wanted: Wanted) -> Iterator[bytes]:
    """Read what an entry holds, a little at a time."""
    try:
        with archive.open(info) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except Exception as error:
        raise _unsound(wanted, error) from None


def _unsound(wanted: Wanted, error: Exception) -> DataError:
    """Return the error for what zipfile, zlib and NumPy raise on damaged files: many kinds."""
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"cannot read {wanted.place}: {error.strerror}")
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{wanted.place} is not a sound NPZ file: {reason}")
