"""Algorithm 2, phase I: a plain loop over vectors against the batched search.

One command, one thread, under a minute: ``python benchmarks/membership_noise.py``. Both compute
their gradients analytically; the confidences and the defense model are synthetic.
"""

import os
import sys
from pathlib import Path
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from device.plain_loops import plain_noise
from privet.device import Network
from privet.device.membership import find_noise
from privet.device.network import softmax

CLASSES, VECTORS, LOOPED = 30, 2000, 25


def synthetic_network(hidden: tuple[int, ...], rng: np.random.Generator) -> Network:
    """Return a random network, its output centered so that it is torn about the vectors."""
    sizes = (CLASSES, *hidden, 1)
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    weights = tuple(rng.normal(0, np.sqrt(2 / s[1]), s).astype(np.float32) for s in shapes)
    biases = [rng.normal(0, 0.1, s[0]).astype(np.float32) for s in shapes]
    vectors = np.sort(softmax(synthetic_logits(rng)), axis=1)
    middle = np.median(Network(weights, tuple(biases)).logits(vectors))
    return Network(weights, (*biases[:-1], biases[-1] - middle.astype(np.float32)))


def synthetic_logits(rng: np.random.Generator) -> np.ndarray:
    """Return logits of a classifier that is sure of some inputs and in doubt about others."""
    return rng.normal(0, 1, (VECTORS, CLASSES)) * rng.uniform(1, 4, (VECTORS, 1))


def main() -> None:
    rng = np.random.default_rng(0)
    logits = synthetic_logits(rng)
    title = f"{'plain, s a vector':>19}{'privet, s a vector':>20}{'ratio':>7}"
    print(f"{'hidden':<14}{title}  noise found  same noise")
    for hidden in ((256, 128, 64), (41, 20, 10)):
        network = synthetic_network(hidden, rng)
        began = perf_counter()
        noise = find_noise(network, logits)
        fast = (perf_counter() - began) / VECTORS
        began = perf_counter()
        plain = [plain_noise(network, row) for row in logits[:LOOPED]]
        slow = (perf_counter() - began) / LOOPED
        # Six rounds of steps magnify float32 rounding in a few vectors; hence the tolerance.
        same = sum(
            np.allclose(noise.before[i] if after is None else after, noise.after[i], atol=1e-4)
            for i, after in enumerate(plain)
        )
        figures = f"{slow:>19.5f}{fast:>20.5f}{slow / fast:>7.1f}{noise.found.mean():>13.3f}"
        print(f"{'-'.join(map(str, hidden)):<14}{figures}  {same}/{LOOPED}")


if __name__ == "__main__":
    main()
