"""LiRA and RMIA with many shadow models on Location: wall time, memory, and resume after a kill.

Memory should not grow with the number of shadow models: answers go to disk, and attacks read one
model at a time. Needs the data set: `privet data fetch location`. Takes about as long as training
twice the largest number of shadow models.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from privet.data import DATASETS, status

PRIVET = [sys.executable, "-m", "privet"]
ATTACKS = "lira,lira-offline,rmia,rmia-offline,calibrated"
# Run in a process of its own, so that its largest child is the audit.
WATCH = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=sys.stdout);"
    "print('\\n', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stdout);"
    "sys.exit(done.returncode)"
)


def audit(run: Path, shadows: int) -> list[str]:
    numbers = ["--shadows", str(shadows), "--jobs", "2"]
    return [*PRIVET, "audit", str(run), "--attacks", ATTACKS, *numbers, "--json"]


def measured(command: list[str]) -> tuple[dict[str, Any], float, float]:
    """Return what a command printed, its wall seconds, and its peak memory in MB."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *command], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - started
    text, _, kilobytes = done.stdout.rpartition("\n ")
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return json.loads(text), seconds, int(kilobytes) / unit


def prune(run: Path) -> None:
    subprocess.run(
        [*PRIVET, "prune", "location", "--out", str(run), "--json"], capture_output=True, check=True
    )


def killed_and_resumed(run: Path, shadows: int) -> dict[str, Any]:
    """Kill an audit when a third of its shadow models are done, then repeat its command."""
    folder = run / "shadows" / "online-seed-0"
    process = subprocess.Popen(
        audit(run, shadows), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    while len(list(folder.glob("[0-9]*.npz"))) < shadows // 3 and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("[0-9]*.npz")}
    found, seconds, _ = measured(audit(run, shadows))
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    print(f"killed after {len(kept)} of {shadows}; the rest took {seconds:.0f} s")
    return found


def timeless(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in one.items() if k != "seconds"} for one in report["findings"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shadows", type=int, default=64)
    shadows = parser.parse_args().shadows
    if status(DATASETS["location"]) != "ready":
        print("left out: needs the data set, see `privet data fetch location`")
        return
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / name for name in ("few", "many", "killed")]
        for run in runs:
            prune(run)
        print("shadows  seconds  peak memory")
        for run, count in ((runs[0], max(2, shadows // 8)), (runs[1], shadows)):
            found, seconds, memory = measured(audit(run, count))
            print(f"{count:7}  {seconds:7.0f}  {memory:8.0f} MB")
        same = timeless(killed_and_resumed(runs[2], shadows)) == timeless(found)
        print(f"findings after the kill are {'identical' if same else 'DIFFERENT'}")
        for one in found["findings"]:
            low = one["tpr_at_fpr"]["0.01"]
            print(f"{one['attack']:13} AUC {one['auc']:.3f}  TPR at 1 % FPR {low['tpr']:.3f}")
        sys.exit(not same)


if __name__ == "__main__":
    main()
