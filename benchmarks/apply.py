"""Time and peak memory of `privet protect apply`, for one person and for a file of many.

    privet protect build att --hidden 40000 --speedups 200 --out bundles
    python benchmarks/apply.py bundles/att-x200.safetensors

Each is the whole command as a person runs it, in a process of its own, whose resident memory at
its peak is the system's figure. The bare interpreter is measured beside it. Records are the test
users of Att unless a file is named.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from privet.data.registry import find

WATCHED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Return wall seconds, starting a Python for the watching included, and peak memory in MB."""
    began = perf_counter()
    watched = [sys.executable, "-c", WATCHED, *command]
    done = subprocess.run(watched, check=True, capture_output=True, text=True)
    return perf_counter() - began, int(done.stdout) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--records", type=Path, help="app:score text; Att's test users by default")
    parser.add_argument("--budget", default="2")
    options = parser.parse_args()
    if options.records is None:
        options.records = find("att").folder / "test_user.txt"
    nothing, _ = measure([sys.executable, "-c", ""])
    lines = options.records.read_text().splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (1, len(lines)):
            source = folder / f"{count}.txt"
            source.write_text("".join(lines[:count]))
            command = [str(Path(sys.executable).with_name("privet")), "protect", "apply"]
            command += [str(source), "--bundle", str(options.bundle), "--budget", options.budget]
            command += ["--out", str(folder / "out.txt"), "--key", str(folder / "key")]
            seconds, peak = measure(command)
            print(
                f"{count:>6} records: {seconds - nothing:7.2f} s beyond the bare interpreter's "
                f"{nothing:.2f} s, peak memory {peak:6.1f} MB"
            )


if __name__ == "__main__":
    main()
