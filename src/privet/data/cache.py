"""Where datasets are kept."""

import os
from pathlib import Path


def home() -> Path:
    """Return the cache folder: ``PRIVET_DATA`` if set, else the user's cache folder for privet.

    It holds one folder a dataset, each with the files as their publisher named them. It may be
    read-only once filled.
    """
    chosen = os.environ.get("PRIVET_DATA")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("privet"))
