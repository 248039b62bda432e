"""Seconds per epoch of a wide net on sparse rows: plain dense torch Adam against `LazyAdam`.

Both train the same net (features-hidden-25, ReLU, dropout off so that they can be compared) from
the same weights on the same batches, in one process and one thread; the largest difference of
their logits is printed with the times. Synthetic rows have the shape of the Att data: 23 of the
features on average, by a power law.
"""

import argparse
import resource
import time

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privet.lazy_adam import LazyAdam
from privet.sparse import SparseInputLinear, take

CLASSES, RATE, EPOCH_STEPS = 25, 5e-4, 73


def rows(samples: int, features: int, rng: np.random.Generator) -> sparse.csr_array:
    popularity = 1 / (np.arange(features) + 25.0)
    counts = np.minimum(rng.poisson(rng.gamma(2, 6.0, samples)) + 11, features // 2)
    sample = np.repeat(np.arange(samples), counts)
    feature = rng.choice(features, sample.size, p=popularity / popularity.sum())
    score = rng.integers(1, 6, sample.size).astype(np.float32) / 5
    records = sparse.csr_array((score, (sample, feature)), shape=(samples, features))
    # A feature drawn twice for a row has had its scores summed.
    records.data = np.minimum(records.data, np.float32(1))
    return records


def train(
    model: nn.Module, optimizer: LazyAdam | torch.optim.Adam, *, batches: list, labels: list
) -> float:
    start = time.perf_counter()
    for batch, label in zip(batches, labels, strict=True):
        optimizer.zero_grad()
        cross_entropy(model(batch), label).backward()
        optimizer.step()
    return (time.perf_counter() - start) / len(batches) * EPOCH_STEPS


def net(first: nn.Linear, hidden: int) -> nn.Sequential:
    return nn.Sequential(first, nn.ReLU(), nn.Linear(hidden, CLASSES))


def sparse_run(hidden: int, *, features: int, batches: list, labels: list) -> tuple[float, Tensor]:
    torch.manual_seed(0)
    model = net(SparseInputLinear(features, hidden), hidden)
    optimizer = LazyAdam(model, lr=RATE)
    seconds = train(model, optimizer, batches=batches, labels=labels)
    with torch.no_grad():
        return seconds, model(batches[0])


def dense_run(hidden: int, *, features: int, batches: list, labels: list) -> tuple[float, Tensor]:
    torch.manual_seed(0)
    model = net(nn.Linear(features, hidden), hidden)
    optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
    dense = [batch.to_dense() for batch in batches]
    seconds = train(model, optimizer, batches=dense, labels=labels)
    with torch.no_grad():
        return seconds, model(dense[0])


def peak() -> str:
    """Say how much memory this process has had at most."""
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"peak memory {kibibytes / 2**20:.1f} GiB"


def measure(hidden: int, *, features: int, steps: int, dense: bool) -> None:
    """Print the seconds that an epoch takes either way, judged by its first ``steps`` steps."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    records = rows(200 * steps, features, rng)
    groups = np.arange(200 * steps).reshape(-1, 200)
    task = {
        "features": features,
        "batches": [take(records, group) for group in groups],
        "labels": list(torch.from_numpy(rng.integers(0, CLASSES, groups.shape))),
    }
    touched = np.mean([np.unique(records[group].indices).size for group in groups])
    print(
        f"{features} features, {records.nnz / records.shape[0]:.1f} a row, "
        f"{touched:.0f} a batch of 200; hidden {hidden}, {steps} steps, 1 thread"
    )
    start = time.perf_counter()
    sparse_run(8, **task)
    print(f"compiling, once a process    {time.perf_counter() - start:8.2f} s")
    ours, logits = sparse_run(hidden, **task)
    print(f"LazyAdam                     {ours:8.2f} s an epoch of {EPOCH_STEPS} steps; {peak()}")
    if not dense:
        return
    seconds, reference = dense_run(hidden, **task)
    print(
        f"dense torch Adam             {seconds:8.2f} s an epoch of {EPOCH_STEPS} steps; {peak()}"
    )
    print(f"speed-up                     {seconds / ours:8.1f} x")
    print(
        f"largest logit difference     {(logits - reference).abs().max():8.1e} "
        f"(logits up to {reference.abs().max():.1f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=4000)
    parser.add_argument("--features", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--skip-dense", action="store_true", help="for nets beyond its memory")
    asked = parser.parse_args()
    measure(asked.hidden, features=asked.features, steps=asked.steps, dense=not asked.skip_dense)


if __name__ == "__main__":
    main()
