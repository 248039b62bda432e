"""``privet data``: what is there, and getting what is not."""

import json as json_text
from typing import TYPE_CHECKING, Any

from privet.cli.console import Json, progress

if TYPE_CHECKING:
    from privet.data import Dataset


def list_(*, json: Json = False) -> None:
    """List the datasets privet knows, and which are ready to use.

    Any CSV, TSV or NPZ file and any folder of pictures (one folder a class) can be used by its
    path instead of a name.

    Parameters
    ----------
    json
        Print one JSON object instead of a table.
    """
    from privet.data import DATASETS, home

    described = [_describe(dataset) for dataset in DATASETS.values()]
    if json:
        print(json_text.dumps({"home": str(home()), "datasets": described}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(title=f"Datasets in {home()}", caption="Get one with: privet data fetch NAME")
    for heading in ("name", "status", "check", "protects", "what it is"):
        grid.add_column(heading, overflow="fold")
    for entry in described:
        check = "-" if entry["status"] == "builtin" else entry["check"]
        grid.add_row(entry["name"], entry["status"], check, entry["protects"], entry["summary"])
    Console().print(grid)


def fetch(name: str) -> None:
    """Download a dataset into the data cache (PRIVET_DATA sets where that is).

    Downloads resume where they broke off and are checked against the published digest. Files
    already there are checked and kept.

    Parameters
    ----------
    name
        One of the names `privet data list` shows.
    """
    from privet.data.fetch import digest_of
    from privet.data.registry import fetch_files, find

    dataset = find(name)
    if not dataset.files:
        print(f"{name} needs no download: {dataset.source}")
        return
    with progress():
        paths = fetch_files(dataset)
    for file, path in zip(dataset.files, paths, strict=True):
        check = "verified" if file.digest else f"unverified, {digest_of(path)}"
        print(f"{path} ({check})")


def _describe(dataset: "Dataset") -> dict[str, Any]:
    from privet.data import status

    digests = sorted({(file.digest or "unverified").partition(":")[0] for file in dataset.files})
    return {
        "name": dataset.name,
        "summary": dataset.summary,
        "status": status(dataset),
        "protects": dataset.protects,
        "check": ", ".join(digests) or None,
        "source": dataset.source,
        "folder": str(dataset.folder) if dataset.files else None,
        "downloadable": dataset.downloadable,
        "files": [
            {
                "name": file.name,
                "url": file.url,
                "digest": file.digest,
                "present": (dataset.folder / file.name).is_file(),
            }
            for file in dataset.files
        ],
    }
