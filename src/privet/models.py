"""The networks of the papers, and the plain description that rebuilds one without pickle."""

import itertools
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from torch import Tensor, nn

from privet.errors import DataError, OptionError
from privet.sparse import SparseDropout, SparseInputLinear


@dataclass(frozen=True)
class FullyConnected:
    """A fully connected ReLU network: ``inputs - hidden... - outputs``.

    Parameters
    ----------
    inputs, outputs
        Number of features and of output logits.
    hidden
        Widths of the hidden layers, at least one.
    dropout
        Rate in [0, 1) after each hidden layer.
    input_dropout
        Rate in [0, 1) on the input entries.
    sparse_input
        Whether the first layer also takes sparse batches (`privet.sparse`).
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    dropout: float = 0.0
    input_dropout: float = 0.0
    sparse_input: bool = False

    def __post_init__(self) -> None:
        if min((self.inputs, self.outputs, *self.hidden)) < 1 or not self.hidden:
            raise OptionError(
                f"a fully connected network needs positive widths and a hidden layer; "
                f"got {self.inputs}-{self.hidden}-{self.outputs}"
            )
        for rate in (self.dropout, self.input_dropout):
            if not 0 <= rate < 1:
                raise OptionError(f"dropout must lie in [0, 1); got {rate}")

    def build(self) -> nn.Sequential:
        """Return the network, freshly initialized from torch's global generator."""
        layers: list[nn.Module] = []
        if self.input_dropout > 0:
            layers.append(SparseDropout(self.input_dropout))
        width = self.inputs
        for position, units in enumerate(self.hidden):
            sparse = self.sparse_input and position == 0
            layers.append((SparseInputLinear if sparse else nn.Linear)(width, units))
            layers.append(nn.ReLU())
            if self.dropout > 0:
                layers.append(nn.Dropout(self.dropout))
            width = units
        layers.append(nn.Linear(width, self.outputs))
        return nn.Sequential(*layers)


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    """Return the network's linear layers from input to output."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def macs(widths: Sequence[int]) -> int:
    """Return the multiply-accumulates of one record through a fully connected network.

    ``widths`` runs from inputs to outputs. Biases and activations are not counted, which makes
    ratios of this figure the speed-up of the matrix products.
    """
    return sum(before * after for before, after in itertools.pairwise(widths))


def parameters(network: nn.Module) -> int:
    """Return the number of parameters, zeros included."""
    return sum(parameter.numel() for parameter in network.parameters())


def reinitialized(network: nn.Module) -> nn.Module:
    """Return a copy with fresh weights, drawn from torch's global generator.

    Raises
    ------
    OptionError
        Naming parameters that no ``reset_parameters`` would redraw: they would carry over what
        the network has learned.
    """
    copy = deepcopy(network)
    redrawn: set[int] = set()
    for module in copy.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            redrawn.update(id(parameter) for parameter in module.parameters(recurse=False))
    kept = [name for name, parameter in copy.named_parameters() if id(parameter) not in redrawn]
    if kept:
        raise OptionError(
            f"cannot make fresh copies of the network: {', '.join(kept)} would keep what they "
            f"learned; give their modules a reset_parameters method"
        )
    return copy


def load_weights(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load ``state`` in place, shrinking layers to the shapes that structural pruning left.

    Raises
    ------
    DataError
        When the state's names are not those of the network.
    """
    own = dict(network.named_parameters())
    if set(state) != set(network.state_dict()):
        raise DataError(
            f"the weights do not fit the network: {sorted(set(state) ^ set(network.state_dict()))}"
        )
    for name, tensor in state.items():
        if name in own and own[name].shape != tensor.shape:
            layer = network.get_submodule(name.rpartition(".")[0])
            setattr(layer, name.rpartition(".")[2], nn.Parameter(tensor.clone()))
            if isinstance(layer, nn.Linear) and tensor.ndim == 2:
                layer.out_features, layer.in_features = tensor.shape
    network.load_state_dict(dict(state))
