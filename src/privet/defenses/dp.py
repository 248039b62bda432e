"""DP-SGD (Abadi et al., CCS 2016) through Opacus: a proven bound on what any one sample does."""

import math
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privet.defenses.base import check_at_least
from privet.errors import OptionError, UnsuitableError
from privet.fit import Optimizer, Setup, Step, seeded
from privet.sparse import take

SMALL_ORDERS = (1.001, 1.002, 1.005, 1.01, 1.02, 1.05)
LARGE_ORDERS = (128, 256, 512)
COVERS_ALL = (
    "the weights after all epochs counted here, against adding or removing one training sample; "
    "not accuracies measured on those samples, not settings searched for on them, not pruning by "
    "their gradients, and not what a network that came trained had met before"
)
COVERS_ROUNDS = (
    "the rounds alone: worth nothing for the samples that the dense network was trained on, "
    "without noise, before them"
)


@dataclass(frozen=True)
class DP:
    """Clip each sample's gradient to a norm, add Gaussian noise to their sum, and account for it.

    Parameters
    ----------
    noise_multiplier
        Standard deviation of the noise, in units of ``max_grad_norm``, at least 0. Published for
        pruning: 0.01, 0.1 and 1; the default is their middle, whose epsilon is in the thousands:
        it hinders attacks, and proves next to nothing.
    max_grad_norm
        Largest Euclidean norm of one sample's gradient, over all parameters together; above 0.
    delta
        Probability that the guarantee may fail with, in [0, 1); 0 stands for 1/samples.
    whole
        Whether to train so before pruning, too; without, the guarantee is void for all data that
        the dense network has met.

    Notes
    -----
    Each step draws every sample independently with probability ``batch_size / samples`` (Poisson
    sampling, which the accountant assumes), round(samples / batch_size) times an epoch, and
    divides the noisy sum by ``batch_size``, whatever the draw. An empty draw is left out instead
    of taking a step of mere noise; that happens with probability ``exp(-batch_size)``.

    The setup's own optimizer sees nothing but noisy sums: its moments, weight decay, a pruner's
    masks are post-processing. The loss is always the mean cross-entropy, since one that couples
    samples would void the proof. Gradients of single samples are measured without being formed
    (ghost clipping) unless the network uses a layer more than once.

    Noise comes from torch's seeded generator, so that a run repeats exactly. It is no
    cryptographic randomness: whoever knows the seed can subtract it. Keep the seed of a released
    model to yourself.
    """

    noise_multiplier: float = 0.1
    max_grad_norm: float = 1.0
    delta: float = 0.0
    whole: bool = True

    paper: ClassVar[str] = (
        "Abadi et al., Deep Learning with Differential Privacy, CCS 2016; Opacus: Yousefpour et "
        "al. 2021"
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        check_at_least("noise_multiplier", self.noise_multiplier, 0)
        if not 0 < self.max_grad_norm < math.inf:
            raise OptionError(f"max_grad_norm must be positive; got {self.max_grad_norm}")
        if not 0 <= self.delta < 1:
            raise OptionError(f"delta must lie in [0, 1), 0 for 1/samples; got {self.delta}")

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`.

        What it trains is a twin of the network that shares the memory of its weights: Opacus'
        hooks and per-sample gradients stay off the network that the caller holds.

        Raises
        ------
        OptionError
            When the network couples the samples of a batch, as batch normalization does, or for
            another reason gives no gradient of each sample; when inputs are sparse, or another
            defense chooses the samples of an epoch.
        """
        _check(setup)
        # Said of every first layer, in the loop's backward pass: hence for the whole process.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        twin = sharing_twin(setup.model).train()
        try:
            _try_alone(twin, setup)
            hooks = self._hooks(twin, setup)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = str(error).partition("\n")[0]
            raise UnsuitableError(
                f"dp needs each sample's own gradient, which this network does not give "
                f"({reason}); use layers that Opacus supports"
            ) from error

        def loss(step: Step) -> Tensor:
            each = cross_entropy(step.logits, step.labels, reduction="none")
            _measure(hooks, each)
            share: Tensor = hooks.get_clipping_coef()
            return (share * each).sum()

        def after_step() -> None:
            hooks.enable_hooks()
            setup.after_step()

        return replace(
            setup,
            model=twin,
            optimizer=lambda model: self._private(setup, model),
            draw=poisson,
            loss=loss,
            after_step=after_step,
        )

    def _hooks(self, twin: nn.Module, setup: Setup) -> Any:
        """Return hooks that measure each sample's gradient; ghosts of it, where Opacus can."""
        from opacus.grad_sample import GradSampleHooksFastGradientClipping

        norms = _norms(twin, setup)
        for ghost in (True, False):
            hooks = GradSampleHooksFastGradientClipping(
                twin, max_grad_norm=self.max_grad_norm, use_ghost_clipping=ghost
            )
            try:
                _try_hooks(hooks, twin, setup, norms)
            except NotImplementedError:  # a layer that is used several times leaves no ghost
                hooks.cleanup()
                for module in twin.modules():  # what a pass that broke off leaves behind
                    vars(module).pop("activations", None)
                    vars(module).pop("max_batch_len", None)
            else:
                return hooks
        raise ValueError("a layer is used in a way that hides the gradient of a sample")

    def _private(self, setup: Setup, model: nn.Module) -> Optimizer:
        """Return the setup's own optimizer behind the noise."""
        from opacus.optimizers import DPOptimizerFastGradientClipping

        inner = setup.optimizer(model)
        if not isinstance(inner, torch.optim.Optimizer):
            raise OptionError(
                f"dp needs one of torch's optimizers; got {type(inner).__name__}, which comes "
                f"with a sparse first layer: use nn.Linear"
            )
        private: Optimizer = DPOptimizerFastGradientClipping(
            inner,
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.max_grad_norm,
            expected_batch_size=min(setup.batch_size, len(setup.labels)),
        )
        return private

    def guarantee(self, *, samples: int, batch_size: int, epochs: int) -> dict[str, Any]:
        """Return epsilon after so many epochs under the defense, and what it covers.

        Opacus' RDP accountant (Mironov, Talwar & Zhang 2019), with orders added on both ends of
        its own, since little noise needs small ones and much noise large ones. Epsilon is None
        where there is no bound, without noise. Count the most epochs that could have run where
        data decided when to stop: the weights kept are post-processing of those.
        """
        if samples < 1 or batch_size < 1 or epochs < 0:
            raise OptionError(
                f"a guarantee is about at least a sample, batches of one, and no fewer than 0 "
                f"epochs; got {samples}, {batch_size} and {epochs}"
            )
        steps = epochs * steps_an_epoch(samples, batch_size)
        delta = self.delta or 1 / samples
        rate = min(1.0, batch_size / samples)
        return {
            "epsilon": _epsilon(self.noise_multiplier, rate, steps=steps, delta=delta),
            "delta": delta,
            "noise_multiplier": self.noise_multiplier,
            "max_grad_norm": self.max_grad_norm,
            "steps": steps,
            "accountant": "rdp",
            "covers": COVERS_ALL if self.whole else COVERS_ROUNDS,
        }


def poisson(indices: Tensor, size: int) -> list[Tensor]:
    """Return an epoch of batches that hold each index with probability ``size / len(indices)``."""
    rate = size / len(indices)
    steps = steps_an_epoch(len(indices), size)
    return [indices[torch.rand(len(indices)) < rate] for _ in range(steps)]


def steps_an_epoch(samples: int, batch_size: int) -> int:
    """Return how many batches an epoch draws; at least one."""
    return max(1, round(samples / batch_size))


def sharing_twin(model: nn.Module) -> nn.Module:
    """Return a copy of the network whose parameters and buffers share the memory of its own.

    In-place updates of either change both; gradients, attributes and hooks stay apart.
    """
    shared: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
        for parameter in model.parameters()
    }
    shared.update((id(buffer), buffer) for buffer in model.buffers())
    return deepcopy(model, shared)


def _check(setup: Setup) -> None:
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


def _try_alone(twin: nn.Module, setup: Setup) -> None:
    """Raise `ValueError` when a sample's answer depends on another sample of its batch."""
    inputs = take(setup.inputs, torch.arange(min(2, len(setup.labels))))
    if inputs.is_floating_point():
        inputs.requires_grad_()
        with seeded(0):
            answer = twin(inputs)[0].sum()
        (moved,) = torch.autograd.grad(answer, inputs, allow_unused=True)
        if moved is not None and moved[1:].any():
            raise ValueError("what it answers to a sample depends on others of the batch")


def _measure(hooks: Any, each: Tensor) -> None:
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


def _norms(twin: nn.Module, setup: Setup) -> Tensor:
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


def _try_hooks(hooks: Any, twin: nn.Module, setup: Setup, norms: Tensor) -> None:
    """Raise `ValueError` unless the hooks measure the gradients of two samples as they are."""
    _measure(hooks, _two_losses(twin, setup))
    for parameter in twin.parameters():
        parameter.grad = None
    if not torch.allclose(hooks.get_norm_sample(), norms, rtol=1e-3):
        raise ValueError("the norms of the samples' gradients do not add up")
    hooks.enable_hooks()


def _epsilon(noise_multiplier: float, rate: float, *, steps: int, delta: float) -> float | None:
    from opacus.accountants import RDPAccountant

    if steps == 0:
        return 0.0
    if noise_multiplier == 0:
        return None
    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, rate, steps)]
    with warnings.catch_warnings():
        # The bound holds for every order; the best one being the last only costs tightness.
        warnings.filterwarnings("ignore", "Optimal order is the", UserWarning)
        orders = [*SMALL_ORDERS, *accountant.DEFAULT_ALPHAS, *LARGE_ORDERS]
        epsilon = accountant.get_epsilon(delta, alphas=orders)
    return max(0.0, float(epsilon)) if math.isfinite(epsilon) else None
