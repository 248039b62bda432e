"""Adam and matrix products at the speed of one core; `benchmarks/pruning.py` measures both."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from privet.dense_kernels import Floats, adam


@dataclass
class _Moments:
    """A parameter's memory as arrays, Adam's beside it, and the steps taken."""

    parameter: Tensor
    weight: Floats
    mean: Floats
    square: Floats
    steps: int = 0


class Adam(torch.optim.Optimizer):
    """`torch.optim.Adam` in one pass over memory, without what torch does around it.

    The same arithmetic to rounding, with coupled weight decay; on one thread. It keeps no torch
    state, and no parameter may get new memory after the first step.

    Parameters
    ----------
    model
        One that `applies_to` admits.
    lr, betas, eps, weight_decay
        As in `torch.optim.Adam`; all may change in ``param_groups`` between steps.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(model.parameters(), defaults)
        self._moments: list[_Moments] = []

    @staticmethod
    def applies_to(model: nn.Module) -> bool:
        """Return whether the model's parameters are float32 on the CPU, without gaps in memory."""
        return all(
            p.device.type == "cpu" and p.dtype == torch.float32 and _is_dense(p)
            for p in model.parameters()
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        (group,) = self.param_groups
        # Not before the first step: the first batch may move a weight to another layout.
        self._moments = self._moments or [_moments(p) for p in group["params"]]
        steps, rule = -1, np.empty(0, np.float32)
        for each in self._moments:
            gradient = each.parameter.grad
            if gradient is None:
                continue
            each.steps += 1
            if each.steps != steps:
                steps, rule = each.steps, _rule(group, each.steps)
            flat = _flat(gradient, each.parameter)
            adam(each.weight, flat, each.mean, each.square, rule)


@contextmanager
def float32_products() -> Iterator[None]:
    """Let oneDNN compute matrix products on the CPU inside the block, where it keeps float32.

    Torch leaves them to MKL, which is half as fast on some makers' CPUs, unless bfloat16 is
    allowed. Allowing it is harmless where oneDNN has no use for bfloat16, which a product tells;
    elsewhere, as with AMX, nothing changes. A setting of the process, like torch's generator.
    """
    setting: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    if _keeps_float32():
        setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before


@cache
def _keeps_float32() -> bool:
    """Return whether products that may be computed in bfloat16 are not, on this CPU."""
    setting: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        probe = torch.full((128, 128), 1 + 2**-12)  # bfloat16 would round this to 1
        return torch.equal(probe @ torch.eye(128), probe)
    finally:
        setting.fp32_precision = before


def _moments(parameter: Tensor) -> _Moments:
    weight = _flat(parameter, parameter)
    # Torch's memory starts at multiples of 64 bytes, which wide instructions prefer.
    mean, square = (torch.zeros(weight.size).numpy() for _ in range(2))
    return _Moments(parameter, weight, mean, square)


def _rule(group: dict[str, Any], step: int) -> Floats:
    """Return the factors of one step, all float32: doubles would halve the inner loop's speed."""
    beta1, beta2 = group["betas"]
    rate, unbias = group["lr"] / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    factors = (rate, group["weight_decay"], beta1, 1 - beta1, beta2, 1 - beta2, unbias)
    return np.array((*factors, group["eps"]), np.float32)


def _is_dense(tensor: Tensor) -> bool:
    return tensor.is_contiguous() or (tensor.ndim == 2 and tensor.t().is_contiguous())


def _flat(tensor: Tensor, like: Tensor) -> Floats:
    """Return the entries in the order of ``like``'s memory; a view where the orders agree."""
    if tensor.stride() != like.stride():
        tensor = torch.empty_like(like).copy_(tensor)
    flat: Floats = tensor.detach().as_strided((tensor.numel(),), (1,)).numpy()
    return flat
