"""Attribute protection at the paper's size: Algorithm 1's search, and an epoch of training.

The search is AttriGuard's way, a plain loop over pairs of a record and a target that reads all
weights of the unpruned D twice a step, against ours on D and on its pruned tiers, with the same
picks. With Att in the data cache its test users are protected, by networks trained and pruned as
`privet protect build` does; without, records and networks are synthetic. Then an epoch of training
D, dense against ours (see sparse_training.py). One thread; times are processor times, which
neighbors on the machine disturb less.

    python benchmarks/attribute.py                   10 minutes, 12 GB
    python benchmarks/attribute.py --hidden 4000     1 minute, 2 GB
"""

import argparse
import os
import sys
from pathlib import Path
from time import process_time

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import torch
from sparse_training import measure, peak
from sparse_training import rows as synthetic_rows

from device.plain_loops import plain_search
from privet.data.cache import home
from privet.data.registry import load
from privet.device import Network
from privet.device.attribute import search
from privet.jobs.attribute_training import (
    AttributeSettings,
    Recipe,
    split_users,
    train_base,
    train_tier,
)
from privet.jobs.stages import Forgetful
from privet.jobs.tiers import to_device

FEATURES, CLASSES = 10_000, 25
SPEEDUPS = (50.0, 100.0, 200.0, 400.0)


def trained(hidden: int, epochs: int) -> tuple[np.ndarray, dict[str, Network]]:
    """Return Att's test records, D and its tiers."""
    settings = AttributeSettings(
        hidden=hidden,
        speedups=tuple(s for s in SPEEDUPS if hidden / s >= 50),
        base=Recipe(epochs=epochs),
        tier=Recipe(epochs=4, dropout=0.5, rating_dropout=0.3),
    )
    users = split_users(load("att"), settings, 0)
    stages = Forgetful()
    base = train_base(users, settings, seed=0, stages=stages)
    networks = {"D": to_device(base.model)}
    for speedup in settings.speedups:
        tier = train_tier(base, users, settings, speedup=speedup, seed=0, stages=stages)
        networks[f"{speedup:g}x"] = to_device(tier.model)
    return users.test_records.toarray(), networks


def synthetic(hidden: int) -> tuple[np.ndarray, dict[str, Network]]:
    """Return records as sparse as Att's, and random networks of D's and the tiers' widths."""
    rng = np.random.default_rng(0)
    widths = {"D": hidden} | {f"{s:g}x": int(hidden // s) for s in SPEEDUPS if hidden / s >= 50}
    networks = {}
    for name, width in widths.items():
        first = rng.standard_normal((width, FEATURES), dtype=np.float32) * np.float32(0.1)
        last = rng.standard_normal((CLASSES, width), dtype=np.float32) * np.float32(0.3)
        biases = (np.zeros(width, np.float32), np.zeros(CLASSES, np.float32))
        networks[name] = Network((first, last), biases)
    return synthetic_rows(1000, FEATURES, rng).toarray(), networks


def compare(
    records: np.ndarray, networks: dict[str, Network], *, looped: int, max_steps: int
) -> None:
    """Print seconds a pair of the plain loop and of ours, and how often their picks agree."""
    pairs = [(i, t) for i in range(looped) for t in range(CLASSES)]
    print(f"{len(records)} users, {CLASSES} targets, at most {max_steps} changes")
    print(
        f"{'':>5}{'hidden':>7}{'changes':>9}{'loop, s a pair':>16}{'ours':>11}"
        f"{'faster':>9}{'than loop on D':>16}  same picks"
    )
    on_base = 0.0
    for name, network in networks.items():
        began = process_time()
        found = search(network, records, max_steps=max_steps)
        ours = (process_time() - began) / found.cost.size
        columns = [found.apply(records[:], np.full(len(records), t)) for t in range(CLASSES)]
        began = process_time()
        expected = [plain_search(network, records[i], t, max_steps=max_steps)[0] for i, t in pairs]
        loop = (process_time() - began) / len(pairs)
        # The looped pairs may take more or fewer changes than all: per change they compare.
        loop *= (1 + found.cost.mean()) / (1 + found.cost[:looped].mean())
        on_base = on_base or loop
        same = sum(
            np.array_equal(x, columns[t][i]) for x, (i, t) in zip(expected, pairs, strict=True)
        )
        print(
            f"{name:>5}{network.sizes[1]:>7}{found.cost.mean():>9.2f}{loop:>16.5f}{ours:>11.6f}"
            f"{loop / ours:>9.1f}{on_base / ours:>16.1f}  {same}/{len(pairs)}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=40_000, help="of D")
    parser.add_argument("--epochs", type=int, default=2, help="of D's training")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--looped", type=int, default=1, help="users for the plain loop")
    parser.add_argument("--max-steps", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="of the training compared")
    parser.add_argument("--skip-dense", action="store_true", help="train our way only")
    parser.add_argument("--skip-training", action="store_true", help="compare searches only")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    real = (home() / "att").is_dir()
    records, networks = trained(asked.hidden, asked.epochs) if real else synthetic(asked.hidden)
    print("Att" if real else "synthetic records and networks")
    compare(records[: asked.users], networks, looped=asked.looped, max_steps=asked.max_steps)
    print(f"{peak()}, the networks' training included")
    del networks
    if not asked.skip_training:
        print()
        measure(asked.hidden, features=FEATURES, steps=asked.steps, dense=not asked.skip_dense)


if __name__ == "__main__":
    main()
