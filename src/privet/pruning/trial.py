"""Trying cuts out before they are made: which channels a network can do without."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from math import gcd

import torch
from torch import Tensor, nn

from privet.fit import seeded
from privet.pruning.base import tracing
from privet.pruning.channels import Cut, Group, find, mask, remove


def cuttable(model: nn.Module, example: Tensor) -> dict[str, Group]:
    """Return those groups of `find` that can be cut without breaking the network.

    The graph follows channels through whatever a network computes, and can be wrong about it.
    So cuts are tried, on a copy: a group is safe if cutting about half of its channels gives the
    very outputs that the network has with these channels at zero.
    """
    groups = find(model, example)
    if not groups:
        return groups
    copy = deepcopy(model)
    _disturb(copy)
    chance = torch.Generator().manual_seed(0)
    probe = example[:1].expand(2, *example.shape[1:])
    if probe.is_floating_point():
        probe = torch.rand(probe.shape, generator=chance, dtype=probe.dtype).to(probe.device)
    cuts = {}
    for name, group in groups.items():
        order = torch.randperm(group.channels, generator=chance)
        gone = torch.zeros(group.channels, dtype=torch.bool)
        gone[order[_trial(group.channels) :]] = True
        cuts[name] = (group, gone)
    names = _bisect(copy, cuts, probe)
    return {name: groups[name] for name in names}


def _trial(channels: int) -> int:
    """Return how many channels remain in a trial: about half, at least one.

    The number has no divisor in common with all channels', so that a network which takes its
    channels in pairs, or heads, does not take the cut by chance.
    """
    counts = range(max(1, channels // 2), channels + 1)
    return next(count for count in counts if gcd(count, channels) == 1)


def _disturb(model: nn.Module) -> None:
    """Make wrong cuts visible in the outputs.

    Weights that are all alike, such as a last scale of zero, would hide them; so would
    normalization over the channels, which gives other outputs for every cut: it passes on its
    inputs, once it has checked their shape.
    """
    with torch.no_grad(), seeded(0):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                spread = parameter.std(correction=0).clamp(min=0.01)
                parameter.add_(torch.randn_like(parameter), alpha=float(spread) / 2)
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm):
            layer.register_forward_hook(lambda _, inputs, outputs: inputs[0])


def _bisect(model: nn.Module, cuts: Mapping[str, Cut], probe: Tensor) -> list[str]:
    """Return the names of the cuts that can be made; one trial if all of them can."""
    if not cuts or _agrees(model, cuts.values(), probe):
        return list(cuts)
    if len(cuts) == 1:
        return []
    items = list(cuts.items())
    half = len(items) // 2
    return [
        *_bisect(model, dict(items[:half]), probe),
        *_bisect(model, dict(items[half:]), probe),
    ]


def _agrees(model: nn.Module, cuts: Iterable[Cut], probe: Tensor) -> bool:
    """Return whether cutting the channels out answers as zero in their place does."""
    masked, smaller = deepcopy(model), deepcopy(model)
    for cut in cuts:
        mask(masked, cut)
    with tracing(masked):
        expected = masked(probe).detach()
    try:
        remove(smaller, cuts)
        with tracing(smaller):
            answer = smaller(probe).detach()
    except Exception:  # whatever the user's own network raises: it does not take the cut
        return False
    if answer.shape != expected.shape:
        return False
    return bool(
        torch.allclose(answer, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    )
