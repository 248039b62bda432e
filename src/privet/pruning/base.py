"""What every pruner is, and which weights pruning may touch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from privet.errors import OptionError
from privet.fit import seeded

_PRUNABLE = (nn.Linear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


class Pruner(Protocol):
    """Removes the least important part of a network, in place.

    A pruner has no state: the sizes of the dense model and the sparsity of the round say how
    much to keep, and what is gone already is always part of what goes.
    """

    @property
    def needs_gradients(self) -> bool:
        """Whether `prune` reads the gradients of the training loss off the parameters."""

    def sizes(self, model: nn.Module, example: Tensor) -> dict[str, int]:
        """Return the size of each part that may shrink, in the pruner's own unit.

        Parameters
        ----------
        model
            The dense network; it stays as it is.
        example
            One batch of dense inputs that the network takes.

        Raises
        ------
        OptionError
            When the network has nothing to prune.
        """

    def allot(self, model: nn.Module, sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
        """Return how much of each part remains at ``sparsity``, of the dense model's ``sizes``."""

    def prune(
        self, model: nn.Module, keep: Mapping[str, int], example: Tensor
    ) -> Callable[[], None]:
        """Prune each part to ``keep`` (see `allot`); parts that it does not name stay whole.

        Returns a function to call after each optimizer step so that what was removed stays
        removed.
        """


def prunable(model: nn.Module, example: Tensor) -> dict[str, nn.Parameter]:
    """Return the weights that pruning may touch, by the name of the parameter.

    Weights of linear, convolutional, recurrent and attention layers, each once however many
    modules share it, but not the output layer's (`output_layer`), whose units are the classes.
    Biases, normalization and embeddings stay whole.

    Raises
    ------
    OptionError
        When there are none, and naming layers whose weight is computed from other parameters, as
        under weight normalization: what is pruned of those comes back, or is not what is small.
    """
    last = output_layer(model, example)
    derived = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, _PRUNABLE) and layer is not last and _derives_weight(layer)
    ]
    if derived:
        raise OptionError(
            f"cannot prune layers whose weights are computed from other parameters: "
            f"{', '.join(derived)}; undo that first, with torch.nn.utils.parametrize"
            f".remove_parametrizations, or torch.nn.utils.remove_weight_norm, "
            f".remove_spectral_norm or .prune.remove"
        )
    spared = {id(parameter) for parameter in last.parameters()} if last is not None else set()
    layers = {id(p): m for m in model.modules() for p in m.parameters(recurse=False)}
    weights = {
        name: parameter
        for name, parameter in model.named_parameters()
        if id(parameter) not in spared
        and isinstance(layers[id(parameter)], _PRUNABLE)
        and "weight" in name.rpartition(".")[2]
    }
    if not weights:
        raise OptionError("pruning needs a network with at least one hidden layer")
    return weights


def _derives_weight(layer: nn.Module) -> bool:
    """Return whether a weight of the layer is computed, by a parametrization or torch's hooks.

    The hooks of ``torch.nn.utils`` turn ``weight`` into a plain tensor, computed from parameters
    ``weight_g``, ``weight_orig`` and so on.
    """
    if is_parametrized(layer):
        computed = layer.get_submodule("parametrizations")
        return any("weight" in name for name, _ in computed.named_children())
    own = [name for name, _ in layer.named_parameters(recurse=False)]
    return any(
        isinstance(value, Tensor) and any(each.startswith(f"{name}_") for each in own)
        for name, value in vars(layer).items()
        if "weight" in name
    )


def output_layer(model: nn.Module, example: Tensor) -> nn.Module | None:
    """Return the linear or convolutional layer that a forward pass runs last, if there is one.

    Order of registration would not do: modules may be defined in any.
    """
    run: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, *_: run.append(layer))
        for layer in model.modules()
        if isinstance(layer, nn.Linear | _ConvNd)
    ]
    try:
        with tracing(model):
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return run[-1] if run else None


@contextmanager
def tracing(model: nn.Module) -> Iterator[None]:
    """Evaluate ``model`` with a gradient of every parameter inside the block; undo it after.

    torch answers some questions by fused kernels where no gradient is asked for, and these
    neither run the layers inside nor leave a graph to follow.
    """
    modes = {module: module.training for module in model.modules()}
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    try:
        model.eval()
        for parameter in frozen:
            parameter.requires_grad_(parameter.is_floating_point())
        with torch.enable_grad(), seeded(0):
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module, training in modes.items():
            module.training = training


def keep_at(sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """Return how much of each part remains when each loses ``sparsity`` of it, at least one."""
    return {name: max(1, round(size * (1 - sparsity))) for name, size in sizes.items()}


def check_keep(keep: Mapping[str, int], sizes: Mapping[str, int]) -> None:
    """Raise `OptionError` unless each part keeps at least one and at most what it has."""
    for name, kept in keep.items():
        if name not in sizes:
            raise OptionError(f"cannot prune {name}; what can be is {', '.join(sizes)}")
        if not 1 <= kept <= sizes[name]:
            raise OptionError(f"cannot keep {kept} of the {sizes[name]} of {name}")
