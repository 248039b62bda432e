"""What both protections share: from one defense model to checked tiers (SP-ASPP, section 3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from privet.device import Bundle, Network, quantized, write_bundle
from privet.device.quantize import Precision, check_precision
from privet.errors import OptionError
from privet.fit import Fitted, Labelled, seeded
from privet.jobs.stages import Stages
from privet.models import Architecture, FullyConnected, linear_layers, load_weights, macs
from privet.pruning.speedup import widths_at
from privet.pruning.structural import Structural
from privet.sparse import take

AnyBuilt = TypeVar("AnyBuilt", bound="Built")


@dataclass(frozen=True)
class Thresholds:
    """The bounds of SP-ASPP's Definitions 1-3 that a tier must meet.

    Parameters
    ----------
    m
        Definition 1: most difference of the accuracies of D and d.
    r
        Definition 2: most parameters of d as a share of those of D.
    q, n
        Definition 3: most attack accuracy on d's noise, and most difference to that on D's.
    """

    m: float
    r: float
    q: float
    n: float


def check_tier(thresholds: Thresholds, measured: Thresholds) -> dict[str, Any]:
    """Hold one tier's measured m, r, q, n against the bounds; name those that are missed."""
    figures, bounds = asdict(measured), asdict(thresholds)
    failed = [name for name in bounds if not figures[name] <= bounds[name]]
    return {"measured": figures, "bounds": bounds, "failed": failed, "passed": not failed}


def check_all(thresholds: Thresholds, tiers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the bounds, and whether every tier's ``definitions`` (see `check_tier`) hold."""
    passed = bool(tiers) and all(tier["definitions"]["passed"] for tier in tiers)
    return {**asdict(thresholds), "passed": passed}


def check_speedups(speedups: Sequence[float]) -> None:
    """Raise `OptionError` unless there are speed-ups, each finite, at least 1, and named once."""
    if not speedups or not all(1 <= speedup < np.inf for speedup in speedups):
        raise OptionError(f"speed-ups must be at least 1; got {speedups}")
    if len(set(speedups)) < len(speedups):
        raise OptionError(f"each speed-up makes one tier; got {speedups}")


def check_precisions(precisions: Sequence[str]) -> tuple[Precision, ...]:
    """Return precisions; `OptionError` unless there are some, each a known one, and named once."""
    for precision in precisions:
        check_precision(precision)
    if not precisions or len(set(precisions)) < len(precisions):
        raise OptionError(f"name each precision of the tiers once; got {precisions}")
    return cast(tuple[Precision, ...], tuple(precisions))


@dataclass(frozen=True, eq=False)
class Built:
    """A network, trained or about to be, and the architecture it was built from."""

    model: nn.Module
    architecture: Architecture


@dataclass(frozen=True, eq=False)
class Trained(Built):
    """A fully connected one, such as every defense model and attack model."""

    architecture: FullyConnected


def train_stage(
    stages: Stages,
    name: str,
    untrained: Callable[[], AnyBuilt],
    train: Callable[[nn.Module], Fitted],
) -> AnyBuilt:
    """Return a trained network: from its finished stage, or by training it now.

    ``untrained`` makes the network as training starts; ``train`` trains it in place.
    """
    network = untrained()
    if (finished := stages.recall(name)) is not None:
        load_weights(network.model, finished[1])
        return network
    fitted = train(network.model)
    record = {"architecture": asdict(network.architecture), "training": asdict(fitted)}
    stages.keep(name, record, network.model.state_dict())
    return network


def fresh(architecture: FullyConnected, seed: int, *, glorot: bool = False) -> Trained:
    """Return a network with initial weights from ``seed``.

    ``glorot`` draws Glorot's uniform weights and zero biases, as Keras does and the papers' plain
    SGD needs: from torch's own, smaller ones their classifiers never start to learn.
    """
    with seeded(seed):
        model = architecture.build()
        for layer in linear_layers(model) if glorot else ():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return Trained(model, architecture)


def make_tier(
    base: Trained,
    speedup: float,
    *,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    pruner: Structural = Structural(),  # noqa: B008  (frozen)
    judged: Labelled | None = None,
) -> Trained:
    """Return a copy of ``base``, pruned to an exact speed-up, with other dropout for retraining.

    SP-ASPP section 4.1: DepGraph groups, importance by L1; the base stays as it is. ``judged`` are
    the samples whose loss Taylor importance differentiates.
    """
    model = deepcopy(base.model)
    if pruner.needs_gradients and judged is not None:
        model.eval()  # dropout would draw from whatever generator is about
        inputs, labels = judged
        cross_entropy(model(take(inputs, torch.arange(len(labels)))), labels).backward()  # type: ignore[no-untyped-call]
    original = base.architecture
    widths = widths_at(original.inputs, original.hidden, original.outputs, speedup=speedup)
    example = torch.zeros(1, original.inputs)
    layers = [name for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    pruner.prune(model, dict(zip(layers[:-1], widths, strict=True)), example)
    pruned = replace(original, hidden=widths, dropout=dropout, input_dropout=input_dropout)
    network = fresh(pruned, 0).model  # its weights are replaced at once
    for layer, source in zip(linear_layers(network), linear_layers(model), strict=True):
        layer.load_state_dict(source.state_dict())
    return Trained(network, pruned)


def to_device(model: nn.Module) -> Network:
    """Return the network as the person's device runs it: plain NumPy arrays in float32."""
    layers = linear_layers(model)
    return Network(
        weights=tuple(layer.weight.detach().numpy().copy() for layer in layers),
        biases=tuple(layer.bias.detach().numpy().copy() for layer in layers),
    )


def in_precisions(
    trained: Mapping[float, Trained], precisions: Sequence[Precision]
) -> Iterator[tuple[float, Precision, Trained]]:
    """Yield every tier in every precision, with its speed-up: what its file will hold.

    Only the weights are coarser; they are not retrained. So whoever measures these measures what
    ships.
    """
    for speedup, tier in trained.items():
        for precision in precisions:
            yield speedup, precision, _rounded(tier, precision)


def _rounded(tier: Trained, precision: Precision) -> Trained:
    """Return the tier with the weights that a device computes with after such a file."""
    if precision == "float32":
        return tier
    network, model = quantized(to_device(tier.model), precision), deepcopy(tier.model)
    arrays = zip(linear_layers(model), network.weights, network.biases, strict=True)
    with torch.no_grad():
        for layer, weight, bias in arrays:
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    return Trained(model, tier.architecture)


def size(architecture: FullyConnected) -> dict[str, int]:
    """Return the parameters and MACs of a network, as reports quote them."""
    widths = [architecture.inputs, *architecture.hidden, architecture.outputs]
    return {"parameters": macs(widths) + sum(widths[1:]), "macs": macs(widths)}


def write_tier(
    bundle: Bundle, folder: Path, name: str, *, precision: Precision = "float32"
) -> dict[str, Any]:
    """Write one tier's bundle; return where it is and how many bytes it takes."""
    suffix = "" if precision == "float32" else f"-{precision}"
    path = folder / f"{name}{suffix}.safetensors"
    write_bundle(bundle, path, precision=precision)
    return {"bundle": str(path), "bytes": path.stat().st_size}


def mean_accuracy(by_budget: Mapping[str, float]) -> float:
    """Return the mean attack accuracy over the budgets, as the paper's table quotes it."""
    return float(np.mean(list(by_budget.values())))
