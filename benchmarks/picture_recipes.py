"""How long, and in how large steps, `distill` should train on pictures, on splits of no table.

Each recipe prunes a network on the pictures of `privet reproduce wemem --dataset cifar10-images`,
and is held against rows it never met: test accuracy, and the AUC of three scores that give members
away, the negative entropy of the answer, its largest confidence, and that of the true label. The
first recipe is the one that the table uses. On labels alone the recipe has no teacher.

    python benchmarks/picture_recipes.py                    four minutes a seed on an idle core
"""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from privet import query
from privet.fit import Dense
from privet.jobs.cases import Case, Source, open_case
from privet.jobs.inputs import dense
from privet.jobs.prune_network import prune_network
from privet.metrics import auc
from privet.reproduce.rows import ROWS
from privet.reproduce.wemem import SCALES
from privet.seeds import derive

SCALE = SCALES["cifar10-images"]
SMALL_STEPS = {"learning_rate": 1e-3, "weight_decay": 3e-4}
RECIPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "10 + 5 epochs, rate 4e-3": ("distill", {}),
    "14 + 6 epochs, rate 4e-3": ("distill", {"dense_epochs": 14, "epochs": 6}),
    "14 + 6 epochs, rate 2e-3": (
        "distill",
        {"dense_epochs": 14, "epochs": 6, "learning_rate": 2e-3},
    ),
    "20 + 8 epochs, rate 1e-3": ("distill", {"dense_epochs": 20, "epochs": 8, **SMALL_STEPS}),
    "40 + 16 epochs, rate 1e-3": ("distill", {"dense_epochs": 40, "epochs": 16, **SMALL_STEPS}),
    "10 + 5 epochs, labels alone": ("distill-hard", {}),
    "base, as in the table": ("base", {}),
    "rsw, as in the table": ("rsw", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("recipe                         accuracy   entropy   confidence   true label (AUC)")
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        case = open_case(
            Source("cifar10-images", samples=SCALE.samples, width=SCALE.width, seed=seed)
        )
        table, split = case.made.table, case.made.split
        train, dev, test = (dense(table, rows) for rows in (split.train, split.dev, split.test))
        for name, (row, changes) in RECIPES.items():
            figures = measured(case, row, changes, data=(train, dev, test), seed=seed)
            print(f"{seed} {name:28}", *(f"{figure:.3f}     " for figure in figures), flush=True)


def measured(
    case: Case, row: str, changes: Mapping[str, Any], *, data: tuple[Dense, Dense, Dense], seed: int
) -> list[float]:
    """Return test accuracy, and the AUC of each score, of a network pruned by a recipe."""
    chosen, (train, dev, test) = ROWS[row], data
    own = {**SCALE.own.get(chosen.defense, {}), **changes}
    settings = chosen.settings(0.6, SCALE.changes, SCALE.options.get(chosen.defense, {}), own)
    pruned = prune_network(
        case.build, train, dev, settings=settings, seed=derive(seed, "target"), fresh=case.build
    )
    inside, outside = (scores(pruned.served, part) for part in (train, test))
    members = np.arange(len(train[1]) + len(test[1])) < len(train[1])
    found = [auc(np.r_[one, other], members) for one, other in zip(inside, outside, strict=True)]
    return [query.accuracy(pruned.served, *test), *found]


def scores(model: torch.nn.Module, data: Dense) -> list[np.ndarray[Any, Any]]:
    log = query.logits(model, data[0]).double().log_softmax(1)
    posterior = log.exp()
    true = posterior[torch.arange(len(data[1])), data[1]]
    return [each.numpy() for each in ((posterior * log).sum(1), posterior.amax(1), true)]


if __name__ == "__main__":
    main()
