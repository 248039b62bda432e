"""What every reader of tables does alike: whole NPZ files, and what separates cells."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privet.errors import DataError


def read_npz(
    path: Path, groups: Sequence[Sequence[str]], *, optional: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Read the one of some ``groups`` of arrays that an NPZ file holds; nothing is unpickled.

    Arrays named in ``optional`` are read too where they are there.

    Raises
    ------
    DataError
        When the file is missing or damaged, claims more than memory holds, or holds none or
        several of the groups.
    """
    try:
        # Opened here, since np.load leaves the file open when it is not an archive.
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is a single array, not an NPZ file")
            held = [group for group in groups if set(group) <= set(file.files)]
            if len(held) != 1:
                raise DataError(
                    f"{path} must hold one of: {'; '.join(' and '.join(g) for g in groups)}. "
                    f"It holds {', '.join(file.files[:9]) or 'nothing'}"
                )
            arrays = {name: file[name] for name in (*held[0], *optional) if name in file}
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds on damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} is not a sound NPZ file: {reason}") from None
    # What is no array inside the archive comes back as bytes.
    odd = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
    if odd is not None:
        raise DataError(f"{path} is not a sound NPZ file: {odd} is no array")
    return arrays


def delimiter(path: Path, first_line: str) -> str:
    """Return what separates a table's cells.

    Tabs in a ``.tsv``, else commas, or semicolons in a file whose first line has no comma.
    """
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if ";" in first_line and "," not in first_line else ","
