"""How a network is trained and pruned, in one place: `PruneSettings`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from privet import defenses, pruning
from privet.errors import OptionError
from privet.memorization import Estimate
from privet.pruning.iterate import Plan
from privet.pruning.schedule import Schedule, sparsities


@dataclass(frozen=True)
class PruneSettings:
    """How a network is trained and pruned; the defaults are WeMem's for Location.

    Some defenses were made for other settings than these: `recommended` begins with theirs.

    Parameters
    ----------
    defense, defense_options
        A row of `privet.defenses.DEFENSES`, and changes to its defaults; holds all options once
        made.
    pruner, pruner_options
        A row of `privet.pruning.PRUNERS`, and the same.
    sparsity
        Fraction removed in the end, in [0, 1).
    rounds, schedule
        Rounds of pruning, and how sparsity grows over them (`privet.pruning.schedule`); a single
        round is one-shot pruning, none leaves the dense network.
    epochs, patience
        Most epochs of a round, and epochs without progress that end one early; with None, no
        training ends early.
    rewind
        The epoch of dense training to whose weights the survivors of each pruning return; 0 is
        initialization. With None they stay as they are. Magnitude pruning only. Where training
        stopped before that epoch, they are what it would have led to.
    dense_epochs
        Most epochs of training before pruning starts; 0 takes the network as it is.
    batch_size, learning_rate, weight_decay
        Of Adam, in training and fine-tuning; a defense with a weight decay of its own, such as
        base, has that in the rounds.
    anneal
        Whether the learning rate falls to zero along a cosine, in dense training and each round.
    scores, score_models, score_epochs
        Memorization scores: the estimate (`privet.memorization.Estimate`), or "shuffled", the
        control that gives each sample another one's five-fold score; how many models it takes,
        and how many epochs each of them trains.
    """

    defense: str = "none"
    defense_options: Mapping[str, Any] = field(default_factory=dict)
    pruner: str = "magnitude"
    pruner_options: Mapping[str, Any] = field(default_factory=dict)
    sparsity: float = 0.6
    rounds: int = 5
    schedule: Schedule = "geometric"
    epochs: int = 21
    patience: int | None = 5
    rewind: int | None = None
    dense_epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    anneal: bool = False
    scores: Estimate | Literal["shuffled"] = "folds"
    score_models: int = 5
    score_epochs: int = 50

    def __post_init__(self) -> None:
        _ = self.plan
        defense = defenses.choose(self.defense, self.defense_options)
        pruner = pruning.choose(self.pruner, self.pruner_options)
        # In full: a run must still say how it was made when defaults have changed.
        object.__setattr__(self, "defense_options", asdict(defense))  # type: ignore[call-overload]
        object.__setattr__(self, "pruner_options", asdict(pruner))  # type: ignore[call-overload]
        if isinstance(defense, defenses.Guarantees) and pruner.needs_gradients:
            raise OptionError(
                f"{self.defense} proves nothing where gradients of the data choose what to prune, "
                f"as with {self.pruner_options}; choose another importance"
            )
        if (
            self.batch_size < 1
            or not 0 < self.learning_rate < float("inf")
            or self.dense_epochs < 0
        ):
            raise OptionError(
                f"batch_size and learning_rate must be positive, dense_epochs at least 0; got "
                f"{self.batch_size}, {self.learning_rate} and {self.dense_epochs}"
            )
        if not 0 <= self.weight_decay < float("inf"):
            raise OptionError(
                f"weight_decay must be finite and at least 0; got {self.weight_decay}"
            )
        if self.scores not in (*get_args(Estimate), "shuffled"):
            raise OptionError(
                f"scores must be one of {', '.join(get_args(Estimate))}, shuffled; "
                f"got {self.scores!r}"
            )
        if self.score_models < 2 or self.score_epochs < 1:
            raise OptionError(
                f"memorization scores take at least 2 models and an epoch; got "
                f"{self.score_models} and {self.score_epochs}"
            )
        if self.scores == "subsampled" and self.score_models % 2:
            raise OptionError(
                f"subsampled scores take an even number of score_models, two for each pair of "
                f"halves; got {self.score_models}"
            )
        if self.rewind is not None and not 0 <= self.rewind <= self.dense_epochs:
            raise OptionError(
                f"rewind names an epoch of dense training, 0..{self.dense_epochs}; "
                f"got {self.rewind}"
            )
        if self.rewind is not None and self.pruner != "magnitude":
            raise OptionError(
                f"rewinding needs the pruner magnitude, which keeps every weight's place; "
                f"got {self.pruner}"
            )

    @property
    def plan(self) -> Plan:
        """The rounds."""
        if self.rounds == 0 and self.sparsity != 0:
            raise OptionError(f"a sparsity of {self.sparsity} takes at least one round of pruning")
        reached = sparsities(self.schedule, self.sparsity, self.rounds) if self.rounds else []
        return Plan(tuple(reached), self.epochs, self.patience)


def recommended(
    defense: str, options: Mapping[str, Any] | None = None, **changes: Any
) -> PruneSettings:
    """Return the settings that a defense was made for, with some of them changed.

    Raises
    ------
    OptionError
        On an unknown defense or setting.
    """
    chosen = defenses.choose(defense, options or {})
    unknown = set(changes) - set(PruneSettings.__dataclass_fields__)
    if unknown:
        raise OptionError(f"pruning has no setting {sorted(unknown)[0]!r}")
    settings = {**chosen.settings, **changes}
    return PruneSettings(defense=defense, defense_options=dict(options or {}), **settings)
