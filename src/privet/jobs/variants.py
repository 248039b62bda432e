"""One repeat of a scenario analysis: a division of the training rows, and what is trained on it.

========== ===== =====================================================================
members    3/8   train the unpruned network; whether they did is what attacks guess
fresh      3/8   take the members' place in the rounds of some variants
nonmembers 1/4   train nothing
========== ===== =====================================================================

Members and nonmembers are drawn alike, so only training tells them apart.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from privet import defenses, pruning, query
from privet.data.table import Indices
from privet.errors import DataError, OptionError
from privet.fit import Dense, Pass, Setup, adam, cosine
from privet.groups import by_quantile
from privet.jobs.inputs import rows_of
from privet.jobs.prune_network import Build, Pruned, prune_network
from privet.jobs.scenarios import ATTACKS, GROUPS, VARIANTS
from privet.jobs.settings import PruneSettings
from privet.jobs.stages import Stages
from privet.jobs.trials import RANKINGS
from privet.memorization import Estimate, memorization_scores
from privet.metrics import auc
from privet.progress import track
from privet.pruning.iterate import Plan, prune_rounds
from privet.seeds import derive, generator
from privet.signals import FloatArray

NONMEMBERS = 0.25
"""Share of the training rows that train nothing."""


@dataclass(frozen=True, eq=False)
class Division:
    """Which training rows play which part; disjoint."""

    members: Indices
    fresh: Indices
    nonmembers: Indices

    @property
    def audited(self) -> Indices:
        """The rows whose membership is guessed, members first."""
        return np.concatenate([self.members, self.nonmembers])


def divide(samples: int, seed: int) -> Division:
    """Divide so many rows at random: `NONMEMBERS` of them, and of the others equal halves."""
    order = generator(seed, "analyzed rows").permutation(samples).astype(np.int64)
    held = round(NONMEMBERS * samples)
    half = (samples - held) // 2
    return Division(order[held : held + half], order[held + half : held + 2 * half], order[:held])


def rows_by_round(variant: str, division: Division, *, rounds: int, seed: int) -> list[Indices]:
    """Return the rows that each round of a variant fine-tunes on, the same number in all.

    The fresh rows are as many as the members, and each round takes all of them: other data, but
    neither less data nor fewer steps. So they are new to the unpruned network, and after the first
    round no longer to the pruned one. (Disjoint parts, one a round, would be too small to
    fine-tune on, and their model worse for that reason alone.)
    """
    members, fresh = division.members, division.fresh
    match variant:
        case "dense":
            return []
        case "one-shot" | "one-shot-long":
            return [members]
        case "iterative":
            return [members] * rounds
        case "fresh":
            return [fresh] * rounds
        case _:  # shuffled
            both = np.concatenate([members, fresh])
            drawn = (generator(seed, "shuffled", each).permutation(both) for each in range(rounds))
            return [order[: len(members)] for order in drawn]


def areas(model: nn.Module, audited: Dense, members: int, *, scores: FloatArray) -> FloatArray:
    """Return the AUC of each attack in each group; shape (attacks, groups).

    A group's members are told from the group's own nonmembers, which models would memorize as
    strongly. So a sample that is merely hard, in which confidence is low whether it is a member
    or not, is not mistaken for one that leaks, nor an easy one: a model that learned nothing by
    heart is at 0.5 in every group.

    Parameters
    ----------
    audited
        The samples; the first ``members`` of them trained the model, the others did not.
    scores
        Their memorization scores, estimated without regard to who is a member.
    """
    signals = query.signals([model], audited[0], audited[1].numpy())
    inside = np.arange(len(audited[1])) < members
    quarter = by_quantile(scores).group
    groups = (np.full(len(inside), True), quarter == 0, quarter == 3)
    for name, group in zip(GROUPS, groups, strict=True):
        if not inside[group].any() or inside[group].all():
            raise DataError(
                f"the samples in group {name!r} by memorization are all members, or all not; "
                f"analyze more rows"
            )
    ranked = [RANKINGS[name](signals)[0] for name in ATTACKS]
    return np.array([[auc(score[group], inside[group]) for group in groups] for score in ranked])


@dataclass(frozen=True, eq=False)
class Repeat:
    """One repeat; every network that is trained in it is a stage, and so never trained twice.

    Parameters
    ----------
    build
        Makes a fresh network.
    train, dev
        The rows to divide, and those that stop early training; no others are used.
    settings
        How to train and prune, without a defense.
    """

    build: Build
    train: Dense
    dev: Dense
    division: Division
    settings: PruneSettings
    seed: int
    stages: Stages

    def usual_epochs(self) -> int:
        """Return how many epochs a round takes, on average, where rounds may stop early."""
        if self.settings.patience is None:
            return self.settings.epochs
        if (finished := self.stages.recall("usual")) is not None:
            return int(finished[0]["epochs"])
        usual = self._network(self.settings)
        epochs = max(1, round(float(np.mean([each.epochs for each in usual.rounds]))))
        self.stages.keep("usual", {"epochs": epochs}, {})
        return epochs

    def variants(self, epochs: int) -> list[dict[str, Any]]:
        """Return the AUCs (see `areas`) and the accuracy on nonmembers of each of `VARIANTS`."""
        scores = self._scores()
        unpruned = self._network(replace(self.settings, sparsity=0.0, rounds=0)).dense
        found = []
        for variant in track(VARIANTS, "variants of pruning"):
            if (finished := self.stages.recall(f"variant-{variant}")) is None:
                model = self.prune(variant, unpruned, epochs)
                finished = self._measured(model, scores), {}
                self.stages.keep(f"variant-{variant}", *finished)
            found.append(finished[0])
        return found

    def prune(self, variant: str, unpruned: nn.Module, epochs: int) -> nn.Module:
        """Return a copy of the unpruned network, pruned in the variant's way.

        Importances that read gradients read those of all rows that the variant fine-tunes on.
        """
        settings, model = self.settings, deepcopy(unpruned)
        rows = rows_by_round(variant, self.division, rounds=settings.rounds, seed=self.seed)
        if not rows:
            return model
        used = np.unique(np.concatenate(rows))
        turns = [torch.from_numpy(np.searchsorted(used, each)) for each in rows]
        if variant == "one-shot-long":
            epochs *= settings.rounds
        sparsities = settings.plan.sparsities if len(rows) > 1 else (settings.sparsity,)
        data = rows_of(self.train, used)
        setup = replace(self._setup(model, data), rate=cosine(epochs) if settings.anneal else None)
        pruner = pruning.choose(settings.pruner, settings.pruner_options)
        defense = defenses.choose(settings.defense, settings.defense_options)

        def turn(setup: Setup) -> Setup:
            return _only(turns[setup.first_epoch // epochs], defense.start(setup))

        rounds = prune_rounds(
            setup,
            Plan(sparsities, epochs, patience=None),
            pruner=pruner,
            sizes=pruner.sizes(model, data[0][:1]),
            defend=turn,
            seed=self.seed,
        )
        for _ in track(rounds, "pruning rounds", total=len(rows)):
            pass
        return model

    def _network(self, settings: PruneSettings) -> Pruned:
        return prune_network(
            self.build,
            rows_of(self.train, self.division.members),
            self.dev,
            settings=settings,
            seed=self.seed,
            stages=self.stages,
        )

    def _scores(self) -> FloatArray:
        """Return memorization scores of the audited rows, by models that draw from all of them."""
        settings = self.settings

        def once(name: str, compute: Callable[[], Tensor]) -> Tensor:
            if (finished := self.stages.recall(name)) is not None:
                return torch.as_tensor(finished[1]["answer"])
            answer = compute()
            self.stages.keep(name, {}, {"answer": answer})
            return answer

        return memorization_scores(
            self._setup(nn.Identity(), rows_of(self.train, self.division.audited)),
            derive(self.seed, "scores"),
            build=self.build,
            epochs=settings.score_epochs,
            estimate=estimate_of(settings),
            models=settings.score_models,
            once=once,
        )

    def _setup(self, model: nn.Module, data: Dense) -> Setup:
        settings = self.settings
        return Setup(
            model=model,
            inputs=data[0],
            labels=data[1],
            optimizer=adam(settings.learning_rate),
            batch_size=settings.batch_size,
            weight_decay=settings.weight_decay,
            dev=self.dev,
        )

    def _measured(self, model: nn.Module, scores: FloatArray) -> dict[str, Any]:
        division = self.division
        found = areas(
            model,
            rows_of(self.train, division.audited),
            len(division.members),
            scores=scores,
        )
        held_out = rows_of(self.train, division.nonmembers)
        return {"auc": found.tolist(), "accuracy": query.accuracy(model, *held_out)}


def estimate_of(settings: PruneSettings) -> Estimate:
    """Return how memorization is estimated; `OptionError` for the shuffled control."""
    if settings.scores == "shuffled":
        raise OptionError("an analysis takes memorization scores as they are; got shuffled ones")
    return settings.scores


def _only(rows: Tensor, setup: Setup) -> Setup:
    return replace(setup, passes=lambda _: [Pass(rows, setup.weight_decay)])
