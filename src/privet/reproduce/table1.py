"""SP-ASPP's Table 1 (Electronics 2024): pruned defense models against unpruned, several seeds.

What a row is stands in `privet.reproduce.attribute_plans` and how one seed of it is made in
`privet.reproduce.attribute_rows` (the first SP-ASPP), both in `privet.reproduce.membership_rows`
for the second. This module puts seeds side by side with the published figures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from privet.data.registry import DATASETS, load
from privet.errors import OptionError
from privet.files import write_json
from privet.jobs.stages import versions
from privet.progress import track
from privet.reproduce import attribute_plans, attribute_rows, membership_rows

Document = dict[str, Any]
ScaleName = Literal["small", "paper"]


def _published(*rows: tuple[float, float, float, float]) -> Mapping[float, Mapping[str, float]]:
    names = ("accuracy", "parameters", "attack_accuracy")
    return {speedup: dict(zip(names, rest, strict=True)) for speedup, *rest in rows}


PUBLISHED: Mapping[str, Mapping[float, Mapping[str, float]]] = {
    "att": _published(
        (1, 0.4549, 401.04e6, 0.3531),
        (50, 0.4586, 7.01e6, 0.2863),
        (100, 0.4555, 3.00e6, 0.2967),
        (150, 0.4506, 2.01e6, 0.2937),
        (200, 0.4433, 0.99e6, 0.3112),
    ),
    "location": _published(
        (1, 0.8575, 0.0492e6, 0.5946),
        (20, 0.8575, 0.0024e6, 0.6147),
        (40, 0.8575, 0.0012e6, 0.5951),
        (60, 0.8525, 0.0008e6, 0.5949),
    ),
    "texas100": _published(
        (1, 0.7360, 0.0671e6, 0.5715),
        (20, 0.7355, 0.0033e6, 0.5677),
        (40, 0.7353, 0.0016e6, 0.5673),
        (60, 0.7350, 0.0010e6, 0.5663),
    ),
    "ch-mnist": _published(
        (1, 0.7075, 0.0435e6, 0.5435),
        (50, 0.7050, 0.0008e6, 0.5442),
        (100, 0.7025, 0.0004e6, 0.5429),
        (150, 0.7075, 0.0003e6, 0.5495),
        (200, 0.7075, 0.0002e6, 0.6449),
    ),
}
"""Table 1 as printed, by data set and the speed-up that the paper names."""


def reproduce_table1(
    dataset: str, *, out: Path, scale: ScaleName, seeds: Sequence[int]
) -> Document:
    """Build and attack every row on every seed; write ``table1.json`` to ``out`` and return it.

    Each seed has a folder in ``out``; the same call on the same folder takes up what is finished.

    Parameters
    ----------
    dataset
        A registered name, or the path of a table.
    scale
        "paper" is the paper's size; "small" takes minutes.

    Raises
    ------
    OptionError
        On no seed, one named twice, or settings that the data set cannot have.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise OptionError(f"reproducing takes each seed once, and at least one; got {seeds}")
    table = load(dataset)
    kind = (DATASETS[dataset].protects if dataset in DATASETS else None) or "attribute"
    rows: Callable[..., Document]
    size: Any
    if kind == "attribute":
        rows, size = attribute_rows.rows, attribute_plans.SCALES[scale]
    else:
        rows, size = membership_rows.rows, membership_rows.scale_of(table, scale)
    found = [
        rows(table, size, dataset=dataset, seed=seed, folder=out / f"seed-{seed}")
        for seed in track(seeds, "seeds")
    ]
    document = {
        "dataset": dataset,
        "kind": kind,
        "scale": scale,
        "settings": asdict(size),
        "seeds": list(seeds),
        **summed_up(found, PUBLISHED.get(dataset, {})),
        "versions": versions(),
    }
    write_json(out / "table1.json", document)
    return document


def summed_up(
    seeds: Sequence[Document], published: Mapping[float, Mapping[str, float]]
) -> Document:
    """Return the figures of all seeds: means, and standard deviations over the seeds.

    Parameters
    ----------
    seeds
        What ``rows`` of either module returned, a document a seed, with equal rows in equal order.
    published
        The paper's figures by the speed-up that it names; see `PUBLISHED`.
    """
    first = seeds[0]
    rows = [_row(group, published) for group in zip(*(one["rows"] for one in seeds), strict=True)]
    return {
        "budgets": first["budgets"],
        "attacker": first["attacker"],
        "attackers": first["attackers"],
        "unprotected": _attackers([one["unprotected"] for one in seeds]),
        "rows": rows,
        "target": [one["target"] for one in seeds if "target" in one],
        "notes": first["notes"],
    }


def _row(group: Sequence[Document], published: Mapping[float, Mapping[str, float]]) -> Document:
    """Return one row over all seeds; the attacker that the paper has comes first."""
    first = group[0]
    attackers = _attackers([one["attackers"] for one in group])
    main = next(iter(attackers.values()))
    nominal = first["nominal_speedup"]
    return {
        "method": first["method"],
        "about": first["about"],
        "control": first["control"],
        "nominal_speedup": nominal,
        "speedup": first["speedup"],
        "parameters": first["parameters"],
        "macs": first["macs"],
        "attacked": first["attacked"],
        **spread("accuracy", [one["accuracy"] for one in group]),
        "attack_accuracy": main["accuracy"],
        "attack_accuracy_sd": main["accuracy_sd"],
        "attack_accuracy_by_budget": main["accuracy_by_budget"],
        "attackers": attackers,
        **{key: [one[key] for one in group] for key in first["each_seed"]},
        "paper": None if nominal is None else published.get(nominal),
    }


def _attackers(seeds: Sequence[Mapping[str, Document]]) -> Document:
    """Return every attacker's figures over all seeds, each with a mean over the budgets."""
    return {name: _attacker([one[name] for one in seeds]) for name in seeds[0]}


def _attacker(seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> Document:
    """Return one attacker's figures, such as its accuracy, by budget and on the mean."""
    document: Document = {}
    for figure in seeds[0]:
        budgets = list(seeds[0][figure])
        means = [float(np.mean(list(one[figure].values()))) for one in seeds]
        document |= spread(figure, means)
        document[f"{figure}_by_budget"] = {
            budget: float(np.mean([one[figure][budget] for one in seeds])) for budget in budgets
        }
        document[f"{figure}_each_seed"] = means
    return document


def spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation, which is None for a single seed."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {name: float(np.mean(values)), f"{name}_sd": sd}
