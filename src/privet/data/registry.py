"""The one door to all data: `load`, by a name from the catalog or by a path."""

import difflib
import logging
from pathlib import Path
from typing import Literal

from privet.data import images, userfiles
from privet.data.catalog import DATASETS, Dataset
from privet.data.fetch import fetch, verify
from privet.data.table import Table
from privet.errors import DataError

__all__ = ["DATASETS", "Dataset", "Status", "fetch_files", "find", "load", "status"]

logger = logging.getLogger(__name__)

Status = Literal["ready", "missing", "builtin"]

# Larger files are verified when fetched; hashing them at every load would take seconds.
_VERIFIED_AT_LOAD = 100_000_000


def status(dataset: Dataset) -> Status:
    """Say whether a dataset's files are all there, some are missing, or it needs none."""
    if not dataset.files:
        return "builtin"
    there = all((dataset.folder / file.name).is_file() for file in dataset.files)
    return "ready" if there else "missing"


def load(name_or_path: str) -> Table:
    """Load a dataset by its registered name, or from a path.

    A path is a ``.csv``, ``.tsv`` or ``.npz`` file (see `privet.data.userfiles`), or a folder,
    ``.tar``, ``.tar.gz``, ``.tgz`` or ``.zip`` of pictures in one folder a class (see
    `privet.data.images`). A registered name wins over a file of that name; write ``./name`` for
    the file. Nothing is downloaded.

    Raises
    ------
    DataError
        When the name is unknown, the files are not in the cache, or the data is malformed.
    OptionError
        When reading it needs a package that is not installed.
    """
    if name_or_path in DATASETS:
        return _load_registered(DATASETS[name_or_path])
    path = Path(name_or_path).expanduser()
    if not path.exists():
        if path.suffix or len(path.parts) > 1:
            raise DataError(f"{path} does not exist")
        raise _unknown(name_or_path)
    name = path.name.lower()
    if name.endswith((".csv", ".tsv")):
        return userfiles.load_csv(path)
    if name.endswith(".npz"):
        return userfiles.load_npz(path)
    if path.is_dir() or name.endswith((".tar", ".tar.gz", ".tgz", ".zip")):
        return images.load_images(path)
    raise DataError(
        f"{path}: unknown kind of file; expected .csv, .tsv, .npz, or pictures in a folder, "
        ".tar, .tar.gz, .tgz or .zip"
    )


def find(name: str) -> Dataset:
    """Return the dataset registered as ``name``; `DataError` lists near matches and all names."""
    if name not in DATASETS:
        raise _unknown(name)
    return DATASETS[name]


def fetch_files(dataset: Dataset) -> tuple[Path, ...]:
    """Download what is missing of a dataset into the cache and return all its files.

    Raises
    ------
    DataError
        As `privet.data.fetch.fetch` does; files that arrived before stay.
    """
    return tuple(fetch(file, dataset.folder) for file in dataset.files)


def _load_registered(dataset: Dataset) -> Table:
    missing = [file.name for file in dataset.files if not (dataset.folder / file.name).is_file()]
    if missing:
        remedy = f"run `privet data fetch {dataset.name}`, or " if dataset.downloadable else ""
        raise DataError(
            f"{dataset.name} is not in the data cache: {remedy}put {', '.join(missing)} "
            f"into {dataset.folder}"
        )
    for file in dataset.files:
        if file.size is not None and file.size < _VERIFIED_AT_LOAD:
            verify(file, dataset.folder / file.name)
    logger.debug("loading %s", dataset.name)
    return dataset.load(dataset.folder)


def _unknown(name: str) -> DataError:
    near = difflib.get_close_matches(name.lower(), DATASETS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return DataError(
        f"no dataset or file is called {name!r}; {hint}known datasets: {', '.join(DATASETS)}"
    )
