import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_bundles.py"


@pytest.mark.slow
def test_five_seconds_of_hostile_files_crash_nothing():
    command = [sys.executable, str(FUZZ), "--minutes", "0.08", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "crashes: 0\n" in done.stdout
    assert "refused: " in done.stdout
    assert "accepted: " in done.stdout
