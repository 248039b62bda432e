"""How large networks are: parameters, what is left of them, multiply-accumulates."""

import itertools
from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from privet.errors import OptionError


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    """Return the network's linear layers from input to output."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def macs(widths: Sequence[int]) -> int:
    """Return the multiply-accumulates of one record through a fully connected network.

    ``widths`` runs from inputs to outputs. Biases and activations are not counted, which makes
    ratios of this figure the speed-up of the matrix products.
    """
    return sum(before * after for before, after in itertools.pairwise(widths))


def multiply_accumulates(network: nn.Module, example: Tensor) -> int:
    """Return the multiply-accumulates of one record through any network.

    Those of linear and convolutional layers, each as often as it runs, zeros among the weights
    and the padding included. Not counted: biases, activations, normalization, products of two
    activations (attention), and modules with matrices of their own such as ``nn.LSTM``. For a
    fully connected network it is what `macs` returns.

    Parameters
    ----------
    example
        One batch of inputs, shape (n, ...), n >= 1; the network runs on it in evaluation mode.
    """
    if len(example) == 0:
        raise OptionError("counting multiply-accumulates needs an example of at least one record")
    # On a copy, which takes its hooks and its mode with it.
    network = deepcopy(network).eval()
    counted = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        nonlocal counted
        # Each output of a layer is a product with one filter; transposed, each input is.
        transposed = isinstance(layer, _ConvNd) and layer.transposed
        times = inputs[0].numel() if transposed else outputs.numel()
        counted += times * cast("nn.Linear | _ConvNd", layer).weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(example)
    return counted // len(example)


def parameters(network: nn.Module) -> int:
    """Return the number of parameters, zeros included."""
    return sum(parameter.numel() for parameter in network.parameters())


def nonzero(network: nn.Module) -> int:
    """Return the number of parameters that are not zero."""
    return sum(int(parameter.count_nonzero()) for parameter in network.parameters())
