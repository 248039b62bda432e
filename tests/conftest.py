"""Shared by all tests: one thread a process, and the real data where it is at hand."""

import os

# Before anything imports NumPy or torch: two threads on a busy machine can be slower than one.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of published datasets, one folder a dataset; skips where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("PRIVET_DATA") or beside)
    if not root.is_dir():
        pytest.skip("needs the real data: set PRIVET_DATA")
    return root
