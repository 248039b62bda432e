"""NPZ files: the one array of records that goes by a known name; others are not carried over.

Rows are streamed out of the archive and into the next, so memory does not grow with their number.
An array in Fortran order has its rows everywhere, and is read whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy

from privet.device.formats.layout import Table, Wanted, Write
from privet.device.network import Array
from privet.errors import DataError

ARRAYS = ("records", "inputs", "X", "confidences", "logits")


@dataclass(frozen=True)
class _Member:
    """An array in an archive, before its values are read."""

    info: ZipInfo
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        return self.info.filename.removesuffix(".npy")


def open_npz(file: IO[bytes], wanted: Wanted) -> Table:
    """Open the records of an NPZ file; nothing is unpickled.

    Raises
    ------
    DataError
        When the file is damaged, holds none or several of the arrays looked for, or the array is
        not made of numbers of shape (n, features).
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
    blocks = _blocks(archive, member, wanted)
    return Table(blocks, partial(_writing, member), logits=member.name == "logits", total=total)


@contextmanager
def _writing(member: _Member, out: IO[bytes]) -> Iterator[Write]:
    """Write an array like ``member``; what were logits are confidences now."""
    name = "confidences" if member.name == "logits" else member.name
    info = ZipInfo(f"{name}.npy")  # dated 1980: the same records are the same bytes
    info.compress_type = min(member.info.compress_type, ZIP_DEFLATED)
    begun = False
    with ZipFile(out, "w") as archive, archive.open(info, "w", force_zip64=True) as stream:

        def write(block: Array) -> None:
            nonlocal begun
            if not begun:
                kind = npy.dtype_to_descr(block.dtype)
                header = {"descr": kind, "fortran_order": False, "shape": member.shape}
                npy.write_array_header_1_0(stream, header)
                begun = True
            stream.write(block.tobytes())

        yield write


def _find(archive: ZipFile, wanted: Wanted) -> _Member:
    """Return the one array that goes by a known name."""
    names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    known = [info for info in archive.infolist() if info.filename.removesuffix(".npy") in ARRAYS]
    if len(known) != 1:
        raise DataError(
            f"{wanted.place} must hold one of: {'; '.join(ARRAYS)}. "
            f"It holds {', '.join(names[:9]) or 'nothing'}"
        )
    with archive.open(known[0]) as stream:
        return _Member(known[0], *_header(stream))


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read what stands before an array's values: shape, order and type."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"unknown version {version} of an array")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def _blocks(archive: ZipFile, member: _Member, wanted: Wanted) -> Iterator[Array]:
    left = member.shape[0]
    rows = left if member.fortran else wanted.rows
    try:
        with archive.open(member.info) as stream:
            _header(stream)
            while left > 0:
                shape = (min(rows, left), wanted.features)
                size = shape[0] * shape[1] * member.dtype.itemsize
                values = stream.read(size)
                if len(values) != size:
                    raise ValueError(f"{member.name} ends too early")
                block = np.frombuffer(values, member.dtype)
                yield block.reshape(shape, order="F" if member.fortran else "C")
                left -= shape[0]
            # Reading to the very end also compares the archive's checksum.
            if stream.read(1):
                raise ValueError(f"{member.name} is longer than it says")
    except Exception as error:
        raise _unsound(wanted, error) from None


def _unsound(wanted: Wanted, error: Exception) -> DataError:
    """Return the error for what zipfile, zlib and NumPy raise on damaged files: many kinds."""
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"cannot read {wanted.place}: {error.strerror}")
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{wanted.place} is not a sound NPZ file: {reason}")
