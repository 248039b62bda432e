"""Make the README's picture: what each defense keeps and what it leaks, on Location.

    privet data fetch location
    python docs/picture.py

Prunes and audits over several seeds (about three minutes on two cores), prints the table that
the README quotes, and writes ``docs/picture.svg``.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from privet.jobs.audit import Settings
from privet.jobs.audit_run import audit_run
from privet.jobs.prune import PruneSettings, prune_dataset

DEFENSES = ("none", "rsw", "rmr", "swmr")
# Okabe & Ito's palette: told apart by the color-blind too.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")


def figures(defense: str, seed: int) -> tuple[float, float, float]:
    """Return test accuracy, mean balanced accuracy of the attacks, and their strongest AUC."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        pruned = prune_dataset("location", PruneSettings(defense=defense), seed=seed, out=run)
        found = audit_run(run, Settings(shadows=5, seed=seed, jobs=2))["findings"]
    leaks = float(np.mean([finding["balanced_accuracy"] for finding in found]))
    return pruned["test_accuracy"], leaks, max(finding["auc"] for finding in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    print("defense  test accuracy      balanced accuracy  strongest AUC")
    for defense, color in zip(DEFENSES, COLORS, strict=True):
        runs = np.array([figures(defense, seed) for seed in range(seeds)])
        mean, sd = runs.mean(axis=0), runs.std(axis=0, ddof=1)
        figures_shown = (f"{m:.3f} +- {s:.3f}" for m, s in zip(mean, sd, strict=True))
        print(f"{defense:8} " + "   ".join(figures_shown))
        axes.errorbar(mean[1], mean[0], xerr=sd[1], yerr=sd[0], fmt="o", color=color, capsize=3)
        axes.annotate(defense, mean[1::-1], xytext=(8, 8), textcoords="offset points", color=color)
    axes.axvline(0.5, linestyle=":", color="gray")
    axes.annotate(
        "guessing",
        (0.5, 0.02),
        xycoords=("data", "axes fraction"),
        color="gray",
        xytext=(4, 0),
        textcoords="offset points",
    )
    axes.set_xlabel("balanced accuracy of the attacks (lower is more private)")
    axes.set_ylabel("test accuracy")
    axes.set_title(f"Location, 60 % of weights pruned, {seeds} seeds, mean ± sd", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(
        Path(__file__).with_name("picture.svg"), facecolor="white", metadata={"Date": None}
    )


if __name__ == "__main__":
    main()
