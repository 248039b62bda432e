"""Whether differentially private training can work on a network, tried on a few samples."""

from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privet.errors import OptionError, UnsuitableError
from privet.fit import Setup, seeded
from privet.sparse import take


def check_setup(setup: Setup) -> None:
    """Raise `OptionError` on what can be told without running the network."""
    for name, module in setup.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UnsuitableError(
                f"dp cannot train layer {name}, a {type(module).__name__}: it mixes the samples "
                f"of a batch; replace it by nn.GroupNorm"
            )
    if not isinstance(setup.inputs, Tensor):
        raise OptionError("dp takes dense inputs; got sparse ones, convert them with .toarray()")
    if setup.passes is not None:
        raise OptionError(
            "dp draws every batch from all samples; do not combine it with a defense that "
            "chooses the samples of an epoch"
        )


def try_passes(setup: Setup) -> None:
    """Raise where samples of a batch meet, or leave traces in the network, when it trains.

    Values are compared: gradients would not show what is detached, nor what integers say.

    Raises
    ------
    ValueError
        When a sample's answer depends on another sample of its batch.
    UnsuitableError
        When a pass writes to a buffer or parameter what depends on the samples.
    """
    rows = torch.as_tensor(setup.inputs)
    unlike = (rows != rows[:1]).reshape(len(rows), -1).any(1).nonzero().flatten()
    if not len(unlike):
        return
    one, other = torch.tensor([0] * 4), unlike[:1].repeat(4)
    mixed, state = _passed(setup, torch.cat([one, other]))
    for part, sample in enumerate((one, other)):
        alike, written = _passed(setup, torch.cat([sample, sample]))
        for name, value in state.items():
            if not torch.equal(value, written[name]):
                raise UnsuitableError(
                    f"dp cannot train this network: what its forward pass writes to {name} depends "
                    f"on the samples, and would be released without noise; have it keep no "
                    f"statistics (track_running_stats=False)"
                )
        if not torch.allclose(mixed.chunk(2)[part], alike.chunk(2)[part], equal_nan=True):
            raise ValueError("what it answers to a sample depends on others of the batch")


def _passed(setup: Setup, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what a copy of the network answers to a batch in training, and its state then."""
    copy = deepcopy(setup.model).train()
    with seeded(0):
        answers: Tensor = copy(take(setup.inputs, batch)).detach()
    return answers, dict(chain(copy.named_parameters(), copy.named_buffers()))


def measure(hooks: Any, each: Tensor) -> None:
    """Leave the norm of each sample's gradient with the hooks, and no gradient anywhere.

    Ghost clipping (Li et al., ICLR 2022; Bu et al. 2022): a first backward pass takes the norms,
    the loop's own then takes the sum of clipped gradients, and none of them is ever formed.
    """
    each.mean().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    hooks.disable_hooks()


def _two_losses(twin: nn.Module, setup: Setup) -> Tensor:
    labels = setup.labels[:2]
    inputs = take(setup.inputs, torch.arange(len(labels)))
    with seeded(0):
        return cross_entropy(twin(inputs), labels, reduction="none")


def gradient_norms(twin: nn.Module, setup: Setup) -> Tensor:
    """Return the norms of the gradients of two samples, each by a backward pass of its own."""
    trained = {name: p for name, p in twin.named_parameters() if p.requires_grad}
    norms = []
    for loss in _two_losses(twin, setup):
        gradients = torch.autograd.grad(
            loss, list(trained.values()), retain_graph=True, allow_unused=True
        )
        known = [gradient for gradient in gradients if gradient is not None]
        if len(known) < len(gradients):
            unused = [name for name, g in zip(trained, gradients, strict=True) if g is None]
            raise ValueError(f"parameter {unused[0]} takes no part")
        norms.append(torch.cat([gradient.flatten() for gradient in known]).norm())
    return torch.stack(norms)


def try_hooks(hooks: Any, twin: nn.Module, setup: Setup, norms: Tensor) -> None:
    """Raise `ValueError` unless the hooks measure the gradients of two samples as they are."""
    measure(hooks, _two_losses(twin, setup))
    for parameter in twin.parameters():
        parameter.grad = None
    if not torch.allclose(hooks.get_norm_sample(), norms, rtol=1e-3):
        raise ValueError("the norms of the samples' gradients do not add up")
    hooks.enable_hooks()
