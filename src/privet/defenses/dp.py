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
from privet.defenses.dp_trials import (
    check_setup,
    gradient_norms,
    measure,
    try_hooks,
    try_passes,
)
from privet.errors import OptionError, UnsuitableError
from privet.fit import Optimizer, Setup, Step

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
    divides the noisy sum by ``batch_size``, whatever the draw. An empty draw takes a step of mere
    noise, as the accountant counts it.

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
            When the network couples the samples of a batch, as batch normalization does, writes
            statistics of them to buffers, or for another reason gives no gradient of each sample;
            when inputs are sparse, or another defense chooses the samples of an epoch.
        """
        check_setup(setup)
        # Said of every first layer, in the loop's backward pass: hence for the whole process.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        twin = sharing_twin(setup.model).train()
        try:
            try_passes(setup)
            hooks = self._hooks(twin, setup)
        except UnsuitableError:
            raise
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = str(error).partition("\n")[0]
            raise UnsuitableError(
                f"dp needs each sample's own gradient, which this network does not give "
                f"({reason}); use layers that Opacus supports"
            ) from error

        def loss(step: Step) -> Tensor:
            each = cross_entropy(step.logits, step.labels, reduction="none")
            measure(hooks, each)
            share: Tensor = hooks.get_clipping_coef()
            if _stands_for_none(step.indices):
                share = torch.zeros_like(share)
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

        norms = gradient_norms(twin, setup)
        for ghost in (True, False):
            hooks = GradSampleHooksFastGradientClipping(
                twin, max_grad_norm=self.max_grad_norm, use_ghost_clipping=ghost
            )
            try:
                try_hooks(hooks, twin, setup, norms)
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
    """Return an epoch of batches that hold each index with probability ``size / len(indices)``.

    For an empty draw stands the first index, twice, as no draw holds one: networks take no batch
    of no samples, and leaving the step out would tell how many draws were empty.
    """
    rate = size / len(indices)
    steps = steps_an_epoch(len(indices), size)
    draws = [indices[torch.rand(len(indices)) < rate] for _ in range(steps)]
    return [draw if len(draw) else indices[:1].repeat(2) for draw in draws]


def _stands_for_none(batch: Tensor) -> bool:
    return len(batch) == 2 and bool(batch[0] == batch[1])


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
