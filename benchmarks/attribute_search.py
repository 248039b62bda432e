"""Algorithm 1, phase I: a plain loop over records and targets against the batched search.

One command, one thread, under a minute: ``python benchmarks/attribute_search.py``. The records
are synthetic, as sparse as app ratings are: 10,000 features of which about 23 are present.
"""

import os
import sys
from pathlib import Path
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from device.plain_loops import plain_search
from privet.device import Network
from privet.device.attribute import search

FEATURES, CLASSES, RECORDS, LOOPED = 10_000, 25, 400, 4


def synthetic_network(width: int, rng: np.random.Generator) -> Network:
    """Return a random network of one hidden layer."""
    weights = (
        rng.normal(0, 0.1, (width, FEATURES)).astype(np.float32),
        rng.normal(0, 0.3, (CLASSES, width)).astype(np.float32),
    )
    biases = tuple(np.zeros(len(weight), np.float32) for weight in weights)
    return Network(weights, biases)


def main() -> None:
    rng = np.random.default_rng(0)
    records = np.zeros((RECORDS, FEATURES), np.float32)
    present = rng.random(records.shape) < 23 / FEATURES
    records[present] = rng.integers(1, 6, present.sum()) / 5
    print(f"{'hidden':>7}{'plain, s a pair':>17}{'privet, s a pair':>18}{'ratio':>7}  same picks")
    for width in (99, 200, 400):
        network = synthetic_network(width, rng)
        began = perf_counter()
        found = search(network, records)
        fast = (perf_counter() - began) / found.reached.size
        same, pairs = 0, [(i, t) for i in range(LOOPED) for t in range(CLASSES)]
        columns = [found.apply(records[:RECORDS], np.full(RECORDS, t)) for t in range(CLASSES)]
        slow = 0.0
        for i, t in pairs:
            began = perf_counter()
            expected, _ = plain_search(network, records[i], t)
            slow += perf_counter() - began
            same += np.array_equal(expected, columns[t][i])
        slow /= len(pairs)
        print(f"{width:>7}{slow:>17.6f}{fast:>18.6f}{slow / fast:>7.1f}  {same}/{len(pairs)}")


if __name__ == "__main__":
    main()
