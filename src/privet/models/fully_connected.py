"""Fully connected networks, for tables."""

from dataclasses import dataclass

from torch import nn

from privet.errors import OptionError
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
