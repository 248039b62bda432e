"""A Table 1 so small that all its rows are made within a second."""

from types import MappingProxyType

from privet.data.synthetic import synthetic_ratings
from privet.device import Settings
from privet.jobs.attribute_training import AttributeSettings, Recipe
from privet.jobs.stages import read_run
from privet.reproduce import attribute_plans, attribute_rows, table1
from privet.reproduce.attribute_plans import Scale, rows_at

USERS, FEATURES, CLASSES = 300, 40, 3
BUDGETS = (1.5, 3.0)
SCALE = Scale(
    hidden=32,
    units=(16, 8),
    wide=20,
    few=25,
    controls_at=8,
    paper_epochs=(1, 4),
    attacker_hidden=16,
    others_hidden=8,
    adaptive_users=60,
    attackers=("nn-sgd", "majority"),
    hardened=("distilled",),
    settings=AttributeSettings(
        base=Recipe(epochs=3, learning_rate=0.02, batch_size=20, dropout=0.3),
        tier=Recipe(epochs=2, learning_rate=0.01, batch_size=20, dropout=0.3),
        budgets=BUDGETS,
        search=Settings(max_steps=3),
        rare=0.06,
    ),
)
NETWORKS = {
    "base": 32,
    "base-D-published": 32,
    "tier-16": 16,
    "tier-8": 8,
    "tier-published": 8,
    "tier-random-units": 8,
}
ROWS = [row.name for row in rows_at(SCALE)]


def ratings(seed=3):
    return synthetic_ratings(seed, users=USERS, features=FEATURES, classes=CLASSES)


def in_this_size(patch):
    """Let a reproduction of att run in no time; ``patch`` is setattr, or pytest's."""
    table = ratings()
    patch(table1, "load", lambda dataset: table)
    patch(attribute_plans, "SCALES", MappingProxyType({"small": SCALE}))


def rows(table, folder, *, scale=SCALE, seed=0):
    return attribute_rows.rows(table, scale, dataset="att", seed=seed, folder=folder)


def stages(folder):
    return read_run(folder, "table1").record["stages"]


def weights(folder, name):
    return (folder / "stages" / f"{name}.safetensors").read_bytes()
