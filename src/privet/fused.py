"""A fully connected network's forward and backward pass as one step of autograd.

Torch walks such a network module by module, spends as long on dropout's random numbers as on a
third of the matrix products, and multiplies by every zero of one-hot or binary inputs. `fused`
gives a stand-in that does neither::

    with fused(model, inputs) as forward:
        loss = cross_entropy(forward(batch), labels)

Whatever it cannot stand in for it leaves to the model itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from privet.dense_kernels import activate, deactivate, multiply, nonzeros, transposed
from privet.sparse import Inputs, feature_rows

SPARSE = 0.25
"""Share of nonzero inputs up to which skipping the zeros is faster than multiplying by them."""

Forward = Callable[[Tensor], Tensor]


class _Settings(NamedTuple):
    dropout: float
    skip_zeros: bool


@contextmanager
def fused(model: nn.Module, inputs: Inputs) -> Iterator[Forward]:
    """Give a function that trains ``model`` as calling it would, faster where it can.

    It can where the model is a sequence of linear layers with ReLU, and dropout of one rate or
    none, between them, all float32 on the CPU and without hooks. Its outputs are the model's to
    rounding; gradients reach the parameters and not the inputs. **Deviation**: dropout draws
    other random numbers than `nn.Dropout` from the same seed.

    Parameters
    ----------
    model
        The network, in training mode when the function is called.
    inputs
        Shape (samples, features): what batches will be drawn from. Where most are zeros the
        first layer's weights are in the memory layout of `privet.sparse.SparseInputLinear`
        inside the block, and contiguous after it: a resumed run meets the same bits.
    """
    layers = _layers(model)
    if layers is None or not isinstance(inputs, Tensor) or inputs.ndim != 2:
        yield model
        return
    density = float(inputs.count_nonzero()) / max(1, inputs.numel())
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    settings = _Settings(max(rates, default=0.0), density <= SPARSE)
    parameters = [part for layer in layers for part in (layer.weight, layer.bias)]

    def forward(batch: Tensor) -> Tensor:
        outputs: Tensor = _Pass.apply(batch, settings, *parameters)  # type: ignore[no-untyped-call]
        return outputs

    try:
        yield forward
    finally:
        layers[0].weight.data = layers[0].weight.data.contiguous()


def _layers(model: nn.Module) -> list[nn.Linear] | None:
    """Return the linear layers of a model that can be fused, or None."""
    if type(model) is not nn.Sequential:
        return None
    modules = list(model)  # unlike its children, a module used twice stands here twice
    if len(set(modules)) < len(modules):
        return None
    rates = {module.p for module in modules if isinstance(module, nn.Dropout)}
    between: list[type[nn.Module]] = [nn.ReLU, nn.Dropout] if rates else [nn.ReLU]
    hidden = len(modules) // (1 + len(between))
    if [type(module) for module in modules] != [nn.Linear, *between] * hidden + [nn.Linear]:
        return None
    if len(rates) > 1 or max(rates, default=0) >= 1 or any(map(_hooked, model.modules())):
        return None
    layers = [module for module in modules if isinstance(module, nn.Linear)]
    return layers if all(map(_is_plain, layers)) else None


def _hooked(module: nn.Module) -> bool:
    return any(
        (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    )


def _is_plain(layer: nn.Linear) -> bool:
    parameters = list(layer.parameters())
    return len(parameters) == 2 and all(
        p.device.type == "cpu" and p.dtype == torch.float32 and p.requires_grad for p in parameters
    )


class _Pass(torch.autograd.Function):
    """From a batch through weight, bias, weight, bias, ... to the outputs."""

    @staticmethod
    def forward(ctx: Any, batch: Tensor, settings: _Settings, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        keep = np.float32(1 - settings.dropout)  # a double would halve the kernels' speed
        keys = torch.randint(2**32, (len(weights) - 1, 2)).numpy().astype(np.uint32)
        ctx.entries = nonzeros(batch.detach().contiguous().numpy()) if settings.skip_zeros else None
        values = [batch]
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if layer == 0 and ctx.entries is not None:
                product = multiply(ctx.entries, feature_rows(weight), bias.detach().numpy())
                values.append(torch.from_numpy(product))
            else:
                values.append(torch.addmm(bias, values[-1], weight.t()))
            if layer < len(keys):
                activate(values[-1].numpy(), keys[layer], keep)
        ctx.keep = keep
        ctx.save_for_backward(*weights, *values[:-1])
        return values[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        half = len(ctx.saved_tensors) // 2
        weights, values = ctx.saved_tensors[:half], ctx.saved_tensors[half:]
        gradient, gradients = gradient.contiguous(), []
        for layer in reversed(range(half)):
            if layer == 0 and ctx.entries is not None:
                columns = transposed(ctx.entries, values[0].shape[1])
                none = np.zeros(gradient.shape[1], np.float32)
                slope = torch.from_numpy(multiply(columns, gradient.numpy(), none)).t()
            else:
                slope = gradient.t() @ values[layer]
            gradients += [gradient.sum(0), slope]
            if layer:
                gradient = gradient @ weights[layer]
                deactivate(gradient.numpy(), values[layer].numpy(), ctx.keep)
        return (None, None, *reversed(gradients))
