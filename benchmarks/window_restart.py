"""Compare WeMem's window starting over in every round of pruning with one that moves on.

Prunes and audits Location both ways and prints accuracy on the development part against leakage,
on splits that no reported figure uses. Needs the data set: `privet data fetch location`. About two
minutes on one core for three seeds.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from privet.data import DATASETS, status
from privet.jobs.audit import Settings
from privet.jobs.audit_run import audit_run
from privet.jobs.prune import Source, prune_source, recommended

FIRST_SEED = 1000


def figures(defense: str, *, restart: bool, seed: int) -> tuple[float, float]:
    """Return development accuracy and the mean balanced accuracy of the threshold attacks."""
    settings = recommended(defense, {"restart": restart})
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        pruned = prune_source(Source("location", seed=seed), settings, out=run)
        attacks = ("conf", "entr", "mentr", "hconf")
        findings = audit_run(run, Settings(attacks, shadows=2, seed=seed))["findings"]
    return pruned["rounds"][-1]["dev_accuracy"], float(
        np.mean([f["balanced_accuracy"] for f in findings])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    if status(DATASETS["location"]) != "ready":
        print("left out: needs the data set, see `privet data fetch location`")
        return
    print("defense  window     dev accuracy     mean balanced accuracy")
    for defense in ("rsw", "swmr"):
        for restart in (True, False):
            runs = np.array(
                [figures(defense, restart=restart, seed=FIRST_SEED + s) for s in range(seeds)]
            )
            (accuracy, leak), (accuracy_sd, leak_sd) = runs.mean(axis=0), runs.std(axis=0)
            window = "restarts" if restart else "moves on"
            print(
                f"{defense:8} {window:9}  {accuracy:.3f} +- {accuracy_sd:.3f}   "
                f"{leak:.3f} +- {leak_sd:.3f}"
            )


if __name__ == "__main__":
    main()
