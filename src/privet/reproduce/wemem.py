"""WeMem's comparison of defenses (NDSS 2025): what each keeps, costs and leaks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from privet.defenses import DEFENSES
from privet.errors import DataError, OptionError
from privet.files import read_json, write_json
from privet.jobs.audit import Settings
from privet.jobs.audit_run import audit_run
from privet.jobs.prune import PruneSettings, prune_dataset
from privet.jobs.stages import versions
from privet.metrics import clopper_pearson
from privet.progress import track

Document = dict[str, Any]

PUBLISHED: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("location", "none"): {"test_accuracy": 0.641, "samia_accuracy": 0.906},
    ("location", "rsw"): {"test_accuracy": 0.640, "samia_accuracy": 0.756},
    ("location", "swmr"): {"test_accuracy": 0.633, "samia_accuracy": 0.718},
}
"""What public re-runs of the paper's code report for Location. Their attack accuracy is *not*
balanced: members outnumber nonmembers, so it cannot be compared with a balanced one."""


def reproduce_wemem(
    dataset: str,
    *,
    out: Path,
    defenses: Sequence[str] = tuple(DEFENSES),
    sparsity: float = 0.6,
    seeds: Sequence[int] = (0, 1, 2),
    settings: Settings,
) -> Document:
    """Prune and audit ``dataset`` under every defense and seed; write ``wemem.json`` and return it.

    Runs stay in ``out``, a folder for each defense and seed; the same call on the same folder
    takes up finished ones, so an interrupted reproduction goes on where it stopped. The seed fixes
    the split, the target, the shadow models and the attacks together.

    Parameters
    ----------
    settings
        How each run is audited; its seed is replaced by the run's.

    Raises
    ------
    OptionError
        On an unknown defense, or no seed at all.
    """
    if unknown := [name for name in defenses if name not in DEFENSES]:
        raise OptionError(f"unknown defense {unknown[0]!r}; choose from {', '.join(DEFENSES)}")
    if not seeds or not defenses:
        raise OptionError("reproducing takes at least one seed and one defense")
    if len(set(defenses)) < len(defenses) or len(set(seeds)) < len(seeds):
        raise OptionError(f"name each defense and seed once; got {', '.join(defenses)}")
    pairs = [(defense, seed) for defense in defenses for seed in seeds]
    runs: dict[str, list[tuple[Document, Document]]] = {defense: [] for defense in defenses}
    for defense, seed in track(pairs, "defenses and seeds"):
        folder = out / f"{defense}-seed-{seed}"
        made = PruneSettings(defense=defense, sparsity=sparsity)
        pruned = prune_dataset(dataset, made, seed=seed, out=folder)
        runs[defense].append((pruned, _audited(folder, _seeded(settings, seed))))
    document = {
        "dataset": dataset,
        "sparsity": sparsity,
        "seeds": list(seeds),
        "shadows": settings.shadows,
        "attacks": "all" if settings.attacks == "all" else sorted(settings.chosen),
        "adaptive": settings.adaptive,
        "online": settings.online,
        "rows": [_row(dataset, defense, sparsity, runs[defense]) for defense in defenses],
        "versions": versions(),
    }
    write_json(out / "wemem.json", document)
    return document


def _seeded(settings: Settings, seed: int) -> Settings:
    return Settings(
        tuple(settings.chosen) if settings.attacks != "all" else "all",
        settings.shadows,
        settings.adaptive,
        settings.online,
        seed,
        settings.jobs,
    )


def _audited(folder: Path, settings: Settings) -> Document:
    """Audit a run, unless that very audit is there already."""
    file = folder / ("audit.json" if settings.adaptive else "audit-non-adaptive.json")
    if file.exists():
        found: Document = read_json(file)
        asked = {
            "adaptive": settings.adaptive,
            "online": settings.online,
            "shadows": settings.shadows,
            "seed": settings.seed,
            "versions": versions(),
        }
        try:
            attacks = {finding["attack"] for finding in found["findings"]} | set(found["skipped"])
        except (KeyError, TypeError):
            raise DataError(f"{file} is damaged; delete it and repeat the command") from None
        if attacks == set(settings.chosen) and asked == {key: found.get(key) for key in asked}:
            return found
    return audit_run(folder, settings)


def _row(
    dataset: str, defense: str, sparsity: float, runs: Sequence[tuple[Document, Document]]
) -> Document:
    """Return one defense over all seeds: means, standard deviations, pooled intervals."""
    names = [finding["attack"] for finding in runs[0][1]["findings"]]
    by_attack = {
        name: [
            finding
            for _, audit in runs
            for finding in audit["findings"]
            if finding["attack"] == name
        ]
        for name in names
    }
    advantages = [_mean_advantage(audit) for _, audit in runs]
    return {
        "defense": defense,
        "setting": ", ".join(f"{key} {value}" for key, value in vars(DEFENSES[defense]).items()),
        **_spread("test_accuracy", [pruned["test_accuracy"] for pruned, _ in runs]),
        **_spread("train_accuracy", [pruned["train_accuracy"] for pruned, _ in runs]),
        **_spread("seconds", [pruned["seconds"] for pruned, _ in runs]),
        **_spread("audit_seconds", [audit["seconds"] for _, audit in runs]),
        "attacks": {name: _attack(found) for name, found in by_attack.items()},
        **_spread("mean_advantage", advantages),
        "published": PUBLISHED.get((dataset, defense)) if sparsity == 0.6 else None,
    }


def _mean_advantage(audit: Document) -> float | None:
    """Return the mean of TPR - FPR over the attacks that have a decision rule; 0 is guessing."""
    balanced = [finding["balanced_accuracy"] for finding in audit["findings"]]
    decided = [2 * value - 1 for value in balanced if value is not None]
    return float(np.mean(decided)) if decided else None


def _attack(found: Sequence[Document]) -> Document:
    balanced = [finding["balanced_accuracy"] for finding in found]
    return {
        **_spread("balanced_accuracy", balanced),
        **_spread("auc", [finding["auc"] for finding in found]),
        "tpr_at_fpr": {level: _pooled(found, level) for level in found[0]["tpr_at_fpr"]},
        **_spread("seconds", [finding["seconds"] for finding in found]),
    }


def _pooled(found: Sequence[Document], level: str) -> Document:
    """Return the TPR at an FPR over all seeds, members of all seeds counted together.

    The rate is the mean over seeds, each with its own threshold. The interval is that of the
    members of all seeds together; it takes the thresholds as given (see `privet.metrics.Rate`),
    and is the narrowest that can be claimed.
    """
    members = [finding["members"] for finding in found]
    rates = [finding["tpr_at_fpr"][level] for finding in found]
    caught = sum(round(r["tpr"] * n) for r, n in zip(rates, members, strict=True))
    low, high = clopper_pearson(caught, sum(members))
    return {
        **_spread("tpr", [rate["tpr"] for rate in rates]),
        "low": low,
        "high": high,
        "resolved": all(rate["resolved"] for rate in rates),
    }


def _spread(name: str, values: Sequence[float | None]) -> dict[str, float | None]:
    """Return mean and sample standard deviation, which is None for a single seed.

    Both are None where a seed has no value.
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return {name: None, f"{name}_sd": None}
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {name: float(np.mean(known)), f"{name}_sd": sd}
