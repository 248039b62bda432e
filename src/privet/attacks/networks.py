"""The networks of the learned attacks, and how they are trained; needs torch.

The architectures are WeMem's; the training is not. Published is SGD at 1e-3 with momentum 0.9 for
100 epochs over all rows, which leaves these networks undertrained. Here Adam runs a few epochs of
balanced draws and keeps the epoch that a held-out balanced draw likes best.
`benchmarks/learned_attacks.py` compares the two.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from privet import query
from privet.attacks.learned import Examples, Scorer
from privet.fit import Pass, Setup, adam, fit, seeded
from privet.models import FullyConnected
from privet.seeds import derive, generator
from privet.signals import FloatArray, IntArray

WEIGHT_DECAY = 5e-4
DROPOUT = 0.2
# Members, and as many nonmembers, that an epoch draws at most: time is flat in the rows.
DRAWN = 1024
# Rows scored at a time: attention holds a number for each pair of classes of each row.
BLOCK = 512
# Standard deviations that a feature may lie from its mean; farther is as far.
FARTHEST = 10.0


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: Adam's learning rate, batch size, epochs at most, patience."""

    batch_size: int
    epochs: int
    patience: int
    learning_rate: float = 1e-3


PERCEPTRON = Recipe(batch_size=256, epochs=30, patience=8)
TRANSFORMER = Recipe(batch_size=128, epochs=4, patience=2)


class Standardize(nn.Module):
    """Standardize features by the mean and deviation of those given at first; clip the rest."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: FloatArray) -> None:
        super().__init__()
        mean, deviation = inputs.mean(axis=0, dtype=np.float64), inputs.std(0, dtype=np.float64)
        # A constant feature stays zero until it differs, then counts as it is.
        deviation = np.where(deviation > 0, deviation, 1.0)
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("deviation", torch.from_numpy(deviation).float())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return standardized features."""
        return ((inputs - self.mean) / self.deviation).clamp(-FARTHEST, FARTHEST)


class Renamed(nn.Module):
    """In training, shuffle the classes of half the rows, all blocks of a row alike.

    What membership looks like hardly depends on which class is which; that spares the network
    learning it once for each class, and keeps it sane on a class that shadow models never saw.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs, in evaluation as they are."""
        if not self.training:
            return inputs
        classes = inputs.shape[1] // self.blocks
        order = torch.rand(len(inputs), classes).argsort(1)
        order[: len(inputs) // 2] = torch.arange(classes)  # batches come shuffled
        blocks = inputs.reshape(-1, self.blocks, classes)
        return torch.gather(blocks, 2, order[:, None].expand(-1, self.blocks, -1)).flatten(1)


class ClassTransformer(nn.Module):
    """SAMIA's transformer: one token a class, of its confidence, sensitivity and label.

    The paper leaves the tokens open; this is the reading of its authors' code, without positions:
    three numbers are projected to the hidden width and pass three encoder layers, and two linear
    layers judge the tokens of all classes together.
    """

    def __init__(
        self, classes: int, *, hidden: int = 64, layers: int = 3, heads: int = 4, wide: int = 128
    ) -> None:
        super().__init__()
        self.classes = classes
        layer = nn.TransformerEncoderLayer(
            hidden,
            heads,
            dim_feedforward=wide,
            dropout=DROPOUT,
            activation="gelu",
            batch_first=True,
        )
        self.project = nn.Sequential(nn.Linear(3, hidden), nn.GELU())
        self.encode = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.judge = nn.Sequential(
            nn.Linear(classes * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits of nonmembership and membership, (rows, 2), from (rows, 3 classes)."""
        tokens = self.project(inputs.reshape(-1, 3, self.classes).transpose(1, 2))
        judged: Tensor = self.judge(self.encode(tokens).flatten(1))
        return judged


def perceptron_network(inputs: int) -> nn.Sequential:
    """Return the network ``inputs``-512-256-128-2 with dropout 0.2."""
    return FullyConnected(inputs, (512, 256, 128), 2, dropout=DROPOUT).build()


def perceptron(known: Examples, held: Examples, *, blocks: int, seed: int) -> Scorer:
    """Train `perceptron_network` and return its log odds of membership."""
    width = known.inputs.shape[1]

    def build() -> Sequence[nn.Module]:
        return [*([Renamed(blocks)] if blocks else []), perceptron_network(width)]

    return _train(build, known, held, recipe=PERCEPTRON, seed=seed)


def transformer(known: Examples, held: Examples, *, seed: int) -> Scorer:
    """Train `ClassTransformer` and return its log odds of membership."""
    classes = known.inputs.shape[1] // 3
    return _train(lambda: [ClassTransformer(classes)], known, held, recipe=TRANSFORMER, seed=seed)


def _train(
    build: Callable[[], Sequence[nn.Module]],
    known: Examples,
    held: Examples,
    *,
    recipe: Recipe,
    seed: int,
) -> Scorer:
    with seeded(derive(seed, "initialize")):
        network = nn.Sequential(Standardize(known.inputs), *build())
    members, nonmembers = (
        torch.from_numpy(np.flatnonzero(known.members == inside)) for inside in (True, False)
    )

    def passes(epoch: int) -> list[Pass]:
        drawn = min(len(members), len(nonmembers), DRAWN)
        sides = [side[torch.randperm(len(side))[:drawn]] for side in (members, nonmembers)]
        return [Pass(torch.cat(sides), WEIGHT_DECAY)]

    setup = Setup(
        model=network,
        inputs=torch.from_numpy(known.inputs),
        labels=torch.from_numpy(known.members.astype(np.int64)),
        optimizer=adam(recipe.learning_rate),
        batch_size=recipe.batch_size,
        passes=passes,
    )
    judges = _balanced(held, derive(seed, "held"))
    dev = torch.from_numpy(held.inputs[judges]), torch.from_numpy(held.members[judges])
    with _one_thread():
        fit(setup, derive(seed, "fit"), most=recipe.epochs, dev=dev, patience=recipe.patience)

    def score(inputs: FloatArray) -> FloatArray:
        with _one_thread():
            blocks = torch.split(torch.from_numpy(inputs), BLOCK)
            logits = torch.cat([query.logits(network, block) for block in blocks]).double()
        return np.asarray((logits[:, 1] - logits[:, 0]).numpy())

    return score


def _balanced(held: Examples, seed: int) -> IntArray:
    """Return as many members as nonmembers, drawn at random."""
    order = generator(seed).permutation(len(held.members))
    members, nonmembers = order[held.members[order]], order[~held.members[order]]
    drawn = min(len(members), len(nonmembers), DRAWN)
    return np.concatenate([members[:drawn], nonmembers[:drawn]])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hold torch to one thread: faster on these sizes, and the same sums on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
