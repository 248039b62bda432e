"""Compare the learned attacks with the way they are published, on the same evidence.

The published way: the same networks on plain confidences, SGD (learning rate 1e-3, momentum 0.9,
weight decay 5e-4), batches of 128, 100 epochs over all rows, plain cross-entropy, and the larger
of the two outputs decides; SAMIA's network normalizes its inputs by batch. Prunes Location and
its shadow models first, which is not timed. Seconds are processor time of one thread. Needs the
data set: `privet data fetch location`. About four minutes; `--attacks samia` with all epochs takes
a quarter of an hour a seed.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from privet import query
from privet.attacks import ATTACKS, Verdict, networks
from privet.attacks.learned import Features
from privet.data import DATASETS, status
from privet.data.registry import load
from privet.data.splits import pruning_split, shadow_pool, train_fraction
from privet.fit import seeded
from privet.jobs.audit_run import PruneAgain
from privet.jobs.inputs import dense, joined
from privet.jobs.settings import recommended
from privet.jobs.shadows import Attacker, gather
from privet.metrics import auc, balanced_accuracy
from privet.models import FullyConnected
from privet.seeds import derive, generator
from privet.signals import BoolArray, Evidence, FloatArray, Signals

FIRST_SEED = 2000
OURS = ("nn", "nn-top3", "nn-class", "samia", "boosting", "multi-release")


def confidences(signals: Signals) -> FloatArray:
    return np.exp(signals.log_confidences()[0])


def one_hot(signals: Signals) -> FloatArray:
    return np.eye(signals.classes)[signals.labels]


def samia_network(width: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(width), networks.ClassTransformer(width // 3))


PUBLISHED: dict[str, tuple[Features, Callable[[int], nn.Module]]] = {
    "nn": (confidences, networks.perceptron_network),
    "nn-top3": (lambda s: -np.sort(-confidences(s))[:, :3], networks.perceptron_network),
    "nn-class": (lambda s: np.hstack([confidences(s), one_hot(s)]), networks.perceptron_network),
    "samia": (
        lambda s: np.hstack([confidences(s), s.sensitivity[0], one_hot(s)]),
        samia_network,
    ),
}


def published(name: str, evidence: Evidence, *, epochs: int, seed: int) -> Verdict:
    """Attack as published; the larger output decides, a threshold of zero on their difference."""
    features, build = PUBLISHED[name]
    shadow, members = evidence.known()
    inputs = torch.from_numpy(
        np.concatenate([features(shadow.one(model)) for model in range(shadow.models)])
    ).float()
    labels = torch.from_numpy(members.ravel().astype(np.int64))
    with seeded(seed):
        network = build(inputs.shape[1])
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
        network.train()
        for _ in range(epochs):
            for batch in torch.randperm(len(inputs)).split(128):
                loss = cross_entropy(network(inputs[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    outputs = query.logits(network, torch.from_numpy(features(evidence.target)).float()).double()
    return Verdict((outputs[:, 1] - outputs[:, 0]).numpy(), 0.0)


def location(defense: str, seed: int, shadows: int, folder: Path) -> tuple[Evidence, BoolArray]:
    """Prune a target and its shadow models, ask them, and return the evidence and the truth."""
    table = load("location")
    split = pruning_split(table, seed)
    parts = (split.train, split.test, split.attacker, split.dev)
    members, outside, own, dev = (dense(table, rows) for rows in parts)
    audited = joined(members, outside)
    count = len(audited[1])
    pool = shadow_pool(len(own[1]), seed, train_fraction(table))
    pool = replace(pool, pool=pool.pool + count, dev=pool.dev + count)
    architecture = FullyConnected(446, (256, 128), 30, dropout=0.1)
    make = PruneAgain(architecture.build, recommended(defense))
    evidence = gather(
        make(members, dev, derive(seed, "target")),
        Attacker(joined(audited, own), count, pool, make, seed),
        folder=folder,
        shadows=shadows,
        jobs=1,
    )
    return evidence, np.arange(count) < len(members[1])


def figures(attack: Callable[[], Verdict], members: BoolArray) -> tuple[float, float, float]:
    """Return processor seconds, balanced accuracy and AUC of one attack.

    On one thread these are the seconds of an idle machine, whoever else is busy on this one.
    """
    started = time.process_time()
    verdict = attack()
    seconds = time.process_time() - started
    return seconds, balanced_accuracy(verdict.decisions, members), auc(verdict.scores, members)


def compare(name: str, evidence: Evidence, members: BoolArray, *, epochs: int, seed: int) -> dict:
    """Return the figures of one attack, each way there is."""
    ways = {"ours": lambda: ATTACKS[name].attack(evidence, generator(seed, name))}
    if name in PUBLISHED:
        ways["published"] = lambda: published(name, evidence, epochs=epochs, seed=seed)
    return {way: figures(attack, members) for way, attack in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attacks", default="nn,nn-top3,nn-class,boosting", help=", ".join(OURS))
    parser.add_argument("--defense", default="none")
    parser.add_argument("--epochs", type=int, default=100, help="of the published way")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--shadows", type=int, default=5)
    options = parser.parse_args()
    if status(DATASETS["location"]) != "ready":
        print("left out: needs the data set, see `privet data fetch location`")
        return
    torch.set_num_threads(1)
    names = options.attacks.split(",")
    found: dict[str, list[dict]] = {name: [] for name in names}
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        with TemporaryDirectory() as folder:
            evidence, members = location(options.defense, seed, options.shadows, Path(folder))
            for name in names:
                found[name].append(
                    compare(name, evidence, members, epochs=options.epochs, seed=seed)
                )
    print(f"Location, defense {options.defense}; {options.epochs} epochs the published way")
    print("attack         way        seconds   balanced accuracy   AUC")
    for name, runs in found.items():
        for way in reversed(runs[0]):
            figure = np.array([run[way] for run in runs])
            (seconds, balanced, area), (_, balanced_sd, area_sd) = figure.mean(0), figure.std(0)
            print(
                f"{name:14} {way:9} {seconds:8.1f}   {balanced:.3f} +- {balanced_sd:.3f}     "
                f"{area:.3f} +- {area_sd:.3f}"
            )
        if "published" in runs[0]:
            seconds = {way: sum(run[way][0] for run in runs) for way in runs[0]}
            print(f"{name:14} {seconds['published'] / seconds['ours']:.0f} times as fast")


if __name__ == "__main__":
    main()
