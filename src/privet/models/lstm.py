"""Long short-term memory, for sequences and for tables read step by step."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from privet.errors import OptionError


@dataclass(frozen=True)
class LSTM:
    """One layer of long short-term memory, and a linear layer on its last state.

    Hochreiter & Schmidhuber, Long Short-Term Memory, Neural Computation 1997, with the forget
    gate of Gers et al., 2000. Eight plain linear layers, the same function as torch's fused one:
    every pruner, differentially private training and the counts know linear layers, and few of
    them the fused one. Initial weights are those of torch's linear layers. The network takes rows
    of shape (n, steps, features), or flat ones of shape (n, columns), which are cut into steps of
    ``features`` columns, the last one filled up with zeros.

    Parameters
    ----------
    features
        Number of inputs a step.
    classes
        Number of output logits.
    hidden
        Units of the state.
    """

    features: int
    classes: int
    hidden: int = 128

    def __post_init__(self) -> None:
        if min(self.features, self.classes, self.hidden) < 1:
            raise OptionError(
                f"an LSTM needs features, classes and hidden units; "
                f"got {self.features}, {self.classes}, {self.hidden}"
            )

    def build(self) -> nn.Sequential:
        """Return the network, freshly initialized from torch's global generator."""
        return nn.Sequential(
            Steps(self.features),
            Recurrence(self.features, self.hidden),
            nn.Linear(self.hidden, self.classes),
        )


class Steps(nn.Module):
    """Cut flat rows into steps; rows that have steps pass as they are."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, rows: Tensor) -> Tensor:
        """Return (n, steps, features)."""
        if rows.ndim == 3:
            return rows
        filled = pad(rows, (0, -rows.shape[1] % self.features))
        return filled.reshape(rows.shape[0], -1, self.features)


class Recurrence(nn.Module):
    """The LSTM cell run over all steps, from a state of zeros; each gate has its own layers.

    Gates are in torch's order: input, forget, cell, output. A single bias each, where torch's
    fused layer adds two.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.of_inputs = nn.ModuleList(nn.Linear(features, hidden) for _ in range(4))
        self.of_state = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(4))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the state after the last step, (n, hidden)."""
        fed = [layer(rows) for layer in self.of_inputs]
        # The state before the first step is zero: its products and its memory drop out.
        cell, state = _remember(*(gate[:, 0] for gate in fed))
        for step in range(1, rows.shape[1]):
            recalled = (layer(state) for layer in self.of_state)
            gates = (gate[:, step] + more for gate, more in zip(fed, recalled, strict=True))
            cell, state = _remember(*gates, before=cell)
        return state


def _remember(
    entry: Tensor,
    forget: Tensor,
    candidate: Tensor,
    output: Tensor,
    *,
    before: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the next cell and state from the gates before their activations."""
    cell = entry.sigmoid() * candidate.tanh()
    if before is not None:
        cell = cell + forget.sigmoid() * before
    return cell, output.sigmoid() * torch.tanh(cell)
