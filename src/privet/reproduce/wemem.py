"""WeMem's comparison of defenses (NDSS 2025): what each keeps, costs and leaks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from privet.defenses import choose
from privet.errors import DataError, OptionError, UnsuitableError
from privet.files import read_json, write_json
from privet.jobs.audit import Settings
from privet.jobs.audit_run import audit_run
from privet.jobs.prune import PruneSettings, Source, prune_source
from privet.jobs.stages import versions
from privet.metrics import clopper_pearson
from privet.progress import track
from privet.reproduce.rows import Row

Document = dict[str, Any]

PUBLISHED: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("location", "base"): {"test_accuracy": 0.641, "samia_accuracy": 0.906},
    ("location", "rsw"): {"test_accuracy": 0.640, "samia_accuracy": 0.756},
    ("location", "swmr"): {"test_accuracy": 0.633, "samia_accuracy": 0.718},
}
"""What public re-runs of the paper's code report for Location. Their attack accuracy is *not*
balanced: members outnumber nonmembers, so it cannot be compared with a balanced one."""


POOLED = ("conf", "entr", "mentr", "hconf", "nn", "nn-top3", "nn-class", "samia")
"""The paper's attacks that hold all samples to one rule."""
THRESHOLDS = POOLED[:4]
"""Those of them that learn nothing but a threshold, and cost nothing."""
CALIBRATED = ("lira", "lira-offline", "rmia", "rmia-offline", "calibrated")
"""Attacks that hold each sample to models that did and did not train on it."""


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is, beside the data set.

    Parameters
    ----------
    samples, model, width
        See `privet.jobs.cases.Source`; 0 and "auto" take the usual ones.
    changes
        Changes to the usual settings, such as fewer epochs.
    options, own
        Changes to defenses' options, and to the settings they come with, by the defense's name.
    rows, sparsities, seeds
        What is reproduced unless asked for otherwise.
    """

    samples: int = 0
    model: str = "auto"
    width: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rows: tuple[str, ...] = ("all",)
    sparsities: tuple[float, ...] = (0.5, 0.6, 0.7)
    seeds: int = 3


SCALES: Mapping[str, Scale] = {
    "cifar10-images": Scale(
        samples=2000,
        width=8,
        changes={"dense_epochs": 20, "rounds": 3, "epochs": 8, "score_epochs": 15},
        # Networks teach here. They need no flattening, and their student few epochs: with more it
        # learns their answers by heart, and how sure it is then gives members away: see
        # benchmarks/picture_recipes.py.
        options={"distill": {"folds": 5, "power": 1.0}},
        own={
            "distill": {
                "batch_size": 64,
                "learning_rate": 4e-3,
                "weight_decay": 3e-3,
                "dense_epochs": 10,
                "epochs": 5,
            }
        },
        rows=(
            "base",
            "rsw",
            "swmr",
            "relaxloss",
            "radd",
            "distill",
            "distill-hard",
            "unpruned",
            "one-shot",
        ),
        sparsities=(0.6,),
        seeds=1,
    ),
}
"""What two processor cores manage within the hour, for data sets that would take longer. Of 2,000
pictures 900 train; all 2,000 test pictures are kept, half for the target, half for the attacker."""


def reproduce_wemem(
    dataset: str,
    *,
    out: Path,
    rows: Sequence[Row],
    sparsities: Sequence[float] = (0.6,),
    seeds: Sequence[int] = (0, 1, 2),
    scale: Scale | None = None,
    settings: Settings,
) -> Document:
    """Prune and audit ``dataset`` in every row's way; write ``wemem.json`` and return it.

    Runs stay in ``out``, a folder for each row, sparsity and seed; the same call on the same
    folder takes up finished ones, so an interrupted reproduction goes on where it stopped. The
    seed fixes the split, the target, the shadow models and the attacks together. Rows that fix
    their own sparsity are run once.

    Parameters
    ----------
    scale
        By default `SCALES`, or everything as usual.
    settings
        How each run is audited; its seed is replaced by the run's.

    Raises
    ------
    OptionError
        On no seed or sparsity at all.
    """
    if not seeds or not sparsities or len(set(seeds)) < len(seeds):
        raise OptionError(f"reproducing takes a sparsity, and each seed once; got {seeds}")
    scale = SCALES.get(dataset, Scale()) if scale is None else scale
    plans = _plans(rows, sparsities, scale)
    found: list[list[tuple[Document, Document]]] = [[] for _ in plans]
    skipped: dict[str, str] = {}
    # All ways for the first seed, then the next: an interrupted table is a table of fewer seeds.
    work = [(seed, number) for seed in seeds for number in range(len(plans))]
    for seed, number in track(work, "runs"):
        row, pruning = plans[number]
        if row.name in skipped:
            continue
        folder = out / f"{row.name}-{pruning.sparsity:g}-seed-{seed}"
        source = Source(
            dataset, model=scale.model, width=scale.width, samples=scale.samples, seed=seed
        )
        try:
            pruned = prune_source(source, pruning, out=folder)
        except UnsuitableError as error:
            skipped[row.name] = str(error)
            continue
        found[number].append((pruned, _audited(folder, replace(settings, seed=seed))))
    document = {
        "dataset": dataset,
        "sparsity": sparsities[0] if len(sparsities) == 1 else list(sparsities),
        "scale": json.loads(json.dumps(asdict(scale))),  # tuples as lists
        "seeds": list(seeds),
        "shadows": settings.shadows,
        "attacks": "all" if settings.attacks == "all" else sorted(settings.chosen),
        "adaptive": settings.adaptive,
        "online": settings.online,
        "pooled": list(POOLED),
        "calibrated": list(CALIBRATED),
        "rows": [
            _row(dataset, row, pruning, runs)
            for (row, pruning), runs in zip(plans, found, strict=True)
            if runs
        ],
        "skipped": skipped,
        "versions": versions(),
    }
    write_json(out / "wemem.json", document)
    return document


def _plans(
    rows: Sequence[Row], sparsities: Sequence[float], scale: Scale
) -> list[tuple[Row, PruneSettings]]:
    """Return each row with its settings at each sparsity; all are checked before anything runs."""
    plans: list[tuple[Row, PruneSettings]] = []
    for sparsity in sparsities:
        for row in rows:
            options, own = scale.options.get(row.defense, {}), scale.own.get(row.defense, {})
            plan = (row, row.settings(sparsity, scale.changes, options, own))
            if plan not in plans:
                plans.append(plan)
    return plans


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
    dataset: str, row: Row, pruning: PruneSettings, runs: Sequence[tuple[Document, Document]]
) -> Document:
    """Return one row over all seeds: means, standard deviations, pooled intervals."""
    names = [finding["attack"] for finding in runs[0][1]["findings"]]
    by_attack = {
        name: _attack(
            [
                finding
                for _, audit in runs
                for finding in audit["findings"]
                if finding["attack"] == name
            ]
        )
        for name in names
    }
    chosen = choose(pruning.defense, pruning.defense_options)
    published = PUBLISHED.get((dataset, row.name)) if pruning.sparsity == 0.6 else None
    return {
        "defense": row.name,
        "control": row.control,
        "about": row.about,
        "sparsity": pruning.sparsity,
        "setting": ", ".join(f"{key} {value}" for key, value in vars(chosen).items()),
        "settings": asdict(pruning),
        **_spread("test_accuracy", [pruned["test_accuracy"] for pruned, _ in runs]),
        **_spread("train_accuracy", [pruned["train_accuracy"] for pruned, _ in runs]),
        **_spread("seconds", [pruned["seconds"] for pruned, _ in runs]),
        **_spread("audit_seconds", [audit["seconds"] for _, audit in runs]),
        "guarantee": runs[0][0].get("guarantee"),
        "attacks": by_attack,
        **_spread("threshold_balanced_accuracy", [_mean(audit, THRESHOLDS) for _, audit in runs]),
        **_spread("pooled_balanced_accuracy", [_mean(audit, POOLED) for _, audit in runs]),
        "strongest_pooled": _strongest(by_attack, POOLED),
        "strongest_calibrated": _strongest(by_attack, CALIBRATED),
        **_spread("mean_advantage", [_mean_advantage(audit) for _, audit in runs]),
        "published": published,
    }


def _mean(audit: Document, among: Sequence[str]) -> float | None:
    """Return the mean balanced accuracy of some attacks, None unless all of them were run."""
    found = {finding["attack"]: finding["balanced_accuracy"] for finding in audit["findings"]}
    known = [found[name] for name in among if found.get(name) is not None]
    return float(np.mean(known)) if len(known) == len(among) else None


def _strongest(by_attack: Mapping[str, Document], among: Sequence[str]) -> Document | None:
    """Return the attack with the highest mean AUC of some, None where none of them was run."""
    known = [name for name in among if name in by_attack]
    if not known:
        return None
    name = max(known, key=lambda each: float(by_attack[each]["auc"]))
    return {"attack": name, "auc": by_attack[name]["auc"], "auc_sd": by_attack[name]["auc_sd"]}


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
