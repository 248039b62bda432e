"""Private pruning on Location against a plain DataLoader loop: an epoch, and a whole run.

The plain loop is what one writes without thinking: ``DataLoader(TensorDataset(...))`` with default
settings, `torch.optim.Adam`, and the pruning mask applied after each step. Both train the same
network (446-256-128-30, dropout 0.1) with the same settings, as many epochs, on one thread a
process, in alternation. A whole run is a target and five shadow models, trained and pruned in five
rounds, without early stopping so that nobody has less to do; development accuracy is measured
after every epoch. Where Location is absent, rows drawn at random have its shape.

About three minutes on two idle cores. Read the ratios: both sides slow down together.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from privet.data import DATASETS, status
from privet.data.registry import load
from privet.data.splits import pruning_split
from privet.fit import Dense, Setup, adam, epochs
from privet.jobs.inputs import dense
from privet.jobs.prune_network import PruneSettings, prune_network
from privet.models import FullyConnected
from privet.pruning.magnitude import Magnitude
from privet.query import accuracy

SETTINGS = PruneSettings(patience=None)
HIDDEN, DROPOUT, MODELS = (256, 128), 0.1, 6

Parts = tuple[Dense, Dense, Dense]
"""Training, development and test part."""


def location(seed: int) -> Parts:
    table = load("location")
    split = pruning_split(table, seed)
    return dense(table, split.train), dense(table, split.dev), dense(table, split.test)


def synthetic(seed: int) -> Parts:
    """Return binary rows around 30 centers, as many, as wide and as sparse as Location's."""
    centers = np.random.default_rng(0).random((30, 446)) ** 4
    rng = np.random.default_rng(seed + 1)
    labels = rng.integers(0, 30, 2505)
    rows = rng.random((2505, 446)) < 0.6 * centers[labels]
    inputs, classes = torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(labels)
    first, second, third = (
        (inputs[part], classes[part]) for part in np.split(np.arange(2505), [2004, 2171])
    )
    return first, second, third


def network(train: Dense) -> nn.Module:
    width, classes = train[0].shape[1], int(train[1].max()) + 1
    return FullyConnected(width, HIDDEN, classes, dropout=DROPOUT).build()


class PlainLoop:
    """What `privet.fit` is compared with."""

    def __init__(self, model: nn.Module, train: Dense) -> None:
        self.model = model
        self.loader = DataLoader(
            TensorDataset(*train), batch_size=SETTINGS.batch_size, shuffle=True
        )
        self.hidden = [m for m in model.modules() if isinstance(m, nn.Linear)][:-1]
        self.prune(0.0)

    def prune(self, sparsity: float) -> None:
        """Zero the smallest weights of the hidden layers, and start the optimizer afresh."""
        self.masks = [
            (w.abs() >= w.abs().flatten().sort().values[int(sparsity * w.numel())]).float()
            for w in (layer.weight.detach() for layer in self.hidden)
        ]
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay
        )
        self.hold()

    @torch.no_grad()
    def hold(self) -> None:
        """Hold pruned weights at zero."""
        for layer, mask in zip(self.hidden, self.masks, strict=True):
            layer.weight.mul_(mask)

    def epoch(self) -> None:
        """Train one epoch."""
        self.model.train()
        for inputs, labels in self.loader:
            self.optimizer.zero_grad()
            cross_entropy(self.model(inputs), labels).backward()
            self.optimizer.step()
            self.hold()


def plain_run(parts: Parts) -> float:
    """Train and prune by the plain loop; return test accuracy."""
    train, dev, test = parts
    loop = PlainLoop(network(train), train)
    lengths = [SETTINGS.dense_epochs, *[SETTINGS.epochs] * SETTINGS.rounds]
    for sparsity, length in zip((0.0, *SETTINGS.plan.sparsities), lengths, strict=True):
        loop.prune(sparsity)
        for _ in range(length):
            loop.epoch()
            accuracy(loop.model, *dev)
    return accuracy(loop.model, *test)


def our_run(parts: Parts, seed: int) -> float:
    torch.set_num_threads(1)
    train, dev, test = parts
    pruned = prune_network(lambda: network(train), train, dev, settings=SETTINGS, seed=seed)
    return accuracy(pruned.model, *test)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(what: str, times: dict[str, list[float]], *, unit: float) -> None:
    """Print each way's median, and the median and range of its ratio to the first one, paired."""
    (_, base), *_ = times.items()
    for name, each in times.items():
        ratios = np.array(base) / np.array(each)
        print(
            f"{what:10} {name:28} {np.median(each) * unit:8.1f}   {np.median(ratios):5.2f} x "
            f"({ratios.min():.2f} to {ratios.max():.2f})"
        )


def an_epoch(train: Dense, repetitions: int) -> None:
    torch.manual_seed(0)
    plain, model = PlainLoop(network(train), train), network(train)
    plain.prune(SETTINGS.sparsity)
    pruner, example = Magnitude(), train[0][:1]
    sizes = pruner.sizes(model, example)
    hold = pruner.prune(model, pruner.allot(model, sizes, SETTINGS.sparsity), example)
    setup = Setup(
        model,
        *train,
        adam(SETTINGS.learning_rate),
        SETTINGS.batch_size,
        weight_decay=SETTINGS.weight_decay,
        after_step=hold,
    )
    ours = epochs(setup, 0)
    first = seconds(lambda: next(ours))
    plain.epoch()
    times: dict[str, list[float]] = {"plain DataLoader loop": [], "privet": []}
    for _ in range(repetitions):
        times["plain DataLoader loop"].append(seconds(plain.epoch))
        times["privet"].append(seconds(lambda: next(ours)))
    report("epoch, ms", times, unit=1e3)
    print(f"           privet's first epoch in a process took {first:.2f} s")


def whole_runs(data: Callable[[int], Parts], *, repetitions: int, jobs: int) -> None:
    parts = [data(seed) for seed in range(MODELS)]
    reached: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], list[float]]) -> None:
        start = time.perf_counter()
        reached.setdefault(name, []).extend(work())
        times.setdefault(name, []).append(time.perf_counter() - start)

    def ours(processes: int) -> list[float]:
        work = (delayed(our_run)(each, seed) for seed, each in enumerate(parts))
        done: list[float] = Parallel(n_jobs=processes)(work)
        return done

    for _ in range(repetitions):
        timed("plain DataLoader loop", lambda: [plain_run(each) for each in parts])
        timed("privet, 1 process", lambda: ours(1))
        if jobs > 1:
            timed(f"privet, {jobs} processes", lambda: ours(jobs))
    report("run, s", times, unit=1)
    for name, each in reached.items():
        print(f"           {name:28} test accuracy {np.mean(each):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30, help="timed epochs of each way")
    parser.add_argument("--runs", type=int, default=2, help="timed whole runs of each way")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ready = status(DATASETS["location"]) == "ready"
    data = location if ready else synthetic
    train = data(0)[0]
    density = float(train[0].count_nonzero()) / train[0].numel()
    print(
        f"{'Location' if ready else 'synthetic rows (see `privet data fetch location`)'}: "
        f"{len(train[1])} rows, {train[0].shape[1]} features, {density:.0%} nonzero; "
        f"torch {torch.__version__}, one thread a process"
    )
    an_epoch(train, options.epochs)
    if options.runs:
        whole_runs(data, repetitions=options.runs, jobs=options.jobs)


if __name__ == "__main__":
    main()
