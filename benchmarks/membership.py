"""Algorithm 2, phase I, the original's way against ours, for D and its pruned tiers.

The original's way is MemGuard's: one vector at a time, with a call of torch's autograd each step.
A plain loop with gradients by hand stands between, and says which noise is right. One thread, one
command, a few minutes: ``python benchmarks/membership.py``. With Location in the data cache, its
classifier, D and tiers are built as `privet protect build location` builds them; without, logits
and networks are synthetic. Times are processor times, which neighbors on the machine disturb less.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import torch

from device.plain_loops import plain_noise
from privet.data.cache import home
from privet.device import Network, load_bundle
from privet.device.membership import find_noise
from privet.device.network import softmax

CLASSES, VECTORS, BY_AUTOGRAD, BY_LOOP = 30, 2000, 24, 100
SAME = 1e-3  # largest difference of a confidence
SYNTHETIC = {"D": (256, 128, 64), "20x": (43, 21, 11), "40x": (26, 13, 7), "60x": (19, 9, 7)}


def autograd_noise(network: Network, logits: np.ndarray, max_steps: int = 299) -> np.ndarray | None:
    """Return the confidences after the search as printed, or None; autograd every step."""
    order = np.argsort(softmax(logits[None])[0], kind="stable")
    z = torch.tensor(logits[order], dtype=torch.float64)
    pairs = zip(network.weights, network.biases, strict=True)
    layers = [(torch.from_numpy(weight), torch.from_numpy(bias)) for weight, bias in pairs]

    def h(s: torch.Tensor) -> torch.Tensor:
        values = s.float()
        for weight, bias in layers[:-1]:
            values = torch.relu(torch.nn.functional.linear(values, weight, bias))
        return torch.nn.functional.linear(values, *layers[-1])[0]

    origin = torch.softmax(z, dim=0)
    start = h(origin).item()
    best, c3 = None, 0.1
    while c3 <= 100000 and abs(1 / (1 + np.exp(-start)) - 0.5) > 1e-5:
        e = torch.zeros_like(z, requires_grad=True)
        for step in range(max_steps + 1):
            with torch.no_grad():
                s = torch.softmax(z + e, dim=0)
                done = (z + e).argmax().item() == len(z) - 1 and start * h(s).item() <= 0
            if done or step == max_steps:
                break
            shifted = z + e
            s = torch.softmax(shifted, dim=0)
            loss = (
                h(s).abs()
                + 10 * torch.relu(shifted[:-1].max() - shifted[-1])
                + c3 * (origin - s).abs().sum()
            )
            (gradient,) = torch.autograd.grad(loss, e)
            norm = gradient.norm()
            if norm == 0:
                break
            e = (e - 0.1 * gradient / norm).detach().requires_grad_()
        if not done:
            break
        best, c3 = s.numpy(), c3 * 10
    if best is None:
        return None
    after = np.empty_like(best)
    after[order] = best
    return after


def location() -> tuple[np.ndarray, dict[str, Network]]:
    """Build protection of Location; return the vectors to protect, D and the tiers."""
    from privet.data.registry import load
    from privet.jobs.protect import build_protection
    from privet.jobs.protect_membership import MembershipSettings, observe
    from privet.jobs.stages import read_run
    from privet.jobs.tiers import to_device
    from privet.models import FullyConnected, load_weights

    settings = MembershipSettings()
    with TemporaryDirectory() as folder:
        report = build_protection("location", seed=0, out=Path(folder) / "run")
        run = read_run(Path(folder) / "run", "protect")
        logits = observe(load("location"), settings, seed=0, stages=run).evaluation.logits
        model = FullyConnected(logits.shape[1], settings.defense_hidden, 1).build()
        load_weights(model, run.recall("base")[1])
        networks = {"D": to_device(model)}
        for tier in report["tiers"]:
            if tier["bundle"]:
                networks[f"{tier['asked_speedup']:g}x"] = load_bundle(tier["bundle"]).network
    return logits, networks


def synthetic() -> tuple[np.ndarray, dict[str, Network]]:
    """Return logits of a classifier that is sure of some inputs, and networks torn about them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (VECTORS, CLASSES)) * rng.uniform(1, 4, (VECTORS, 1))
    ascending = np.sort(softmax(logits), axis=1)
    networks = {}
    for name, hidden in SYNTHETIC.items():
        sizes = (CLASSES, *hidden, 1)
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        weights = tuple(rng.normal(0, np.sqrt(2 / s[1]), s).astype(np.float32) for s in shapes)
        biases = [rng.normal(0, 0.1, s[0]).astype(np.float32) for s in shapes]
        middle = np.median(Network(weights, tuple(biases)).logits(ascending)).astype(np.float32)
        networks[name] = Network(weights, (*biases[:-1], biases[-1] - middle))
    return logits, networks


def timed(
    search: Callable[..., Any], network: Network, rows: np.ndarray
) -> tuple[list[Any], float]:
    """Search each row by itself; return what was found and the milliseconds a row."""
    began = process_time()
    found = [search(network, row) for row in rows]
    return found, (process_time() - began) / len(rows) * 1e3


def main() -> None:
    torch.set_num_threads(1)
    real = (home() / "location").is_dir()
    logits, networks = location() if real else synthetic()
    # Members come first; a fixed shuffle shows the slow ways both.
    logits = logits[np.random.default_rng(0).permutation(len(logits))][:VECTORS]
    print(f"{len(logits)} vectors, {'Location' if real else 'synthetic'}; ms a vector")
    print(
        f"{'':5}{'hidden':<12}{'autograd':>9}{'loop':>7}{'ours':>7}{'ratio':>7}  found   same noise"
    )
    for name, network in networks.items():
        began = process_time()
        noise = find_noise(network, logits)
        ours = (process_time() - began) / len(logits) * 1e3
        _, autograd = timed(autograd_noise, network, logits[:BY_AUTOGRAD])
        right, loop = timed(plain_noise, network, logits[:BY_LOOP])
        same = sum(
            abs((noise.before[i] if after is None else after) - noise.after[i]).max() <= SAME
            for i, after in enumerate(right)
        )
        hidden = "-".join(map(str, network.sizes[1:-1]))
        times = f"{autograd:>9.1f}{loop:>7.1f}{ours:>7.3f}{autograd / ours:>7.0f}"
        print(
            f"{name:5}{hidden:<12}{times}{noise.found.mean():>7.3f}   {same}/{BY_LOOP}", flush=True
        )


if __name__ == "__main__":
    main()
