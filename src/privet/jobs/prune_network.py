"""The one way a network is pruned: train, score memorization, prune in rounds under a defense.

Targets and an auditor's shadow models go through the same function, so that an adaptive attacker
repeats exactly what the defender did.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from privet import defenses, pruning, query
from privet.defenses import Defense, Guarantees, Serves, Taught
from privet.fit import Dense, Setup, adam, cosine, fit, seeded
from privet.jobs.settings import PruneSettings
from privet.jobs.stages import Forgetful, Stages
from privet.memorization import memorization_scores
from privet.models import load_weights
from privet.progress import track
from privet.pruning.iterate import Round, prune_rounds
from privet.seeds import derive, generator
from privet.signals import FloatArray
from privet.teachers import out_of_fold

Build = Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned network and what it was pruned from.

    Parameters
    ----------
    model
        The pruned network.
    dense
        The network as it was before the first round.
    rounds
        How each round went.
    scores
        Memorization scores of the training set, where the defense needed them.
    guarantee
        What the defense proves, where it proves something.
    defense
        The defense it was pruned under.
    """

    model: nn.Module
    dense: nn.Module
    rounds: tuple[Round, ...]
    scores: FloatArray | None
    guarantee: Mapping[str, Any] | None
    defense: Defense

    @property
    def served(self) -> nn.Module:
        """The pruned network as a service would answer with it; only some defenses differ."""
        return served(self.model, self.defense)


def prune_network(
    build: Build,
    train: Dense,
    dev: Dense,
    *,
    settings: PruneSettings,
    seed: int,
    stages: Stages | None = None,
    fresh: Build | None = None,
    scores: FloatArray | None = None,
) -> Pruned:
    """Train a network from ``build``, then prune it in rounds under the settings' defense.

    Parameters
    ----------
    build
        Makes the dense network; called inside a seeded block.
    train, dev
        Inputs and labels to train on, and to stop early by.
    stages
        Where finished stages are kept and taken up again; in memory only by default.
    fresh
        Makes an untrained network where ``build`` gives a trained one; ``build`` by default. For
        memorization scores, for teachers, and for defenses that shape all of training.
    scores
        Memorization scores of the training set, where they are known already.
    """
    stages, fresh = stages or Forgetful(), fresh or build
    defense = defenses.choose(settings.defense, settings.defense_options)
    with seeded(derive(seed, "initialize")):
        model = fresh() if defense.whole and settings.dense_epochs else build()
    model = _channels_last(model, train[0])
    setup = Setup(
        model=model,
        inputs=train[0],
        labels=train[1],
        optimizer=adam(settings.learning_rate),
        batch_size=settings.batch_size,
        weight_decay=settings.weight_decay,
        dev=dev,
        scores=scores,
    )
    setup = _informed(setup, defense, settings=settings, seed=seed, fresh=fresh, stages=stages)
    shaped = defense.start if defense.whole else _unchanged
    rewind = _rewound(shaped, setup, settings=settings, seed=seed)
    _train(shaped(setup), dev, settings=settings, seed=seed, stages=stages)
    dense = deepcopy(model)
    setup = replace(setup, dense=dense)
    rounds = _prune(setup, defense, settings=settings, seed=seed, stages=stages, rewind=rewind)
    guarantee = None
    if isinstance(defense, Guarantees):
        # All epochs that might have run count: the data had a say in which one was the last.
        epochs = settings.rounds * settings.epochs
        epochs += settings.dense_epochs if defense.whole else 0
        guarantee = defense.guarantee(
            samples=len(train[1]), batch_size=settings.batch_size, epochs=epochs
        )
    return Pruned(model, dense, rounds, setup.scores, guarantee, defense)


def served(model: nn.Module, defense: Defense) -> nn.Module:
    """Return the network as a service under the defense would answer with it."""
    return defense.serve(model) if isinstance(defense, Serves) else model


def _channels_last(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Return the network with channels last, where inputs are images and it runs that way.

    Convolutions on processors are up to twice as fast so. Networks may depend on the order of
    memory, though, as ``view`` after a convolution does: they stay as they are.
    """
    if inputs.ndim != 4:
        return model
    trial = _reordered(deepcopy(model))
    try:
        with seeded(0), torch.no_grad():
            for training in (True, False):
                trial.train(training)(inputs[:2])
    except Exception:  # what a network of the user's own raises is up to it
        return model
    return _reordered(model)


def _reordered(model: nn.Module) -> nn.Module:
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _unchanged(setup: Setup) -> Setup:
    return setup


def _informed(
    setup: Setup,
    defense: Defense,
    *,
    settings: PruneSettings,
    seed: int,
    fresh: Build,
    stages: Stages,
) -> Setup:
    """Return the setup with what the defense needs to know; each piece is computed once a run."""

    def once(name: str, compute: Callable[[], Tensor]) -> Tensor:
        if (finished := stages.recall(name)) is not None:
            return torch.as_tensor(finished[1]["answer"])
        answer = compute()
        stages.keep(name, {}, {"answer": answer})
        return answer

    if "scores" in defense.needs:
        scores = setup.scores
        if scores is None:
            scores = memorization_scores(
                setup,
                derive(seed, "scores"),
                build=fresh,
                epochs=settings.score_epochs,
                estimate="folds" if settings.scores == "shuffled" else settings.scores,
                models=settings.score_models,
                once=once,
            )
        if settings.scores == "shuffled":
            scores = generator(seed, "shuffled scores").permutation(scores)
        setup = replace(setup, scores=scores)
    if isinstance(defense, Taught):
        labels = out_of_fold(
            setup,
            derive(seed, "teachers"),
            teacher=defense.teacher,
            folds=defense.folds,
            build=fresh,
            epochs=settings.score_epochs,
            once=once,
        )
        setup = replace(setup, soft_labels=labels)
    return setup


def _train(setup: Setup, dev: Dense, *, settings: PruneSettings, seed: int, stages: Stages) -> None:
    """Train the dense network before pruning."""
    model, most = setup.model, settings.dense_epochs
    if (finished := stages.recall("dense")) is not None:
        load_weights(model, finished[1])
        return
    spent = 0
    if most:
        fitted = fit(
            _annealed(setup, settings, most),
            derive(seed, "dense"),
            most=most,
            dev=dev,
            patience=settings.patience,
            keep="last" if settings.patience is None else "best",
        )
        spent = fitted.epochs
    record = {"epochs": spent, "dev_accuracy": query.accuracy(model, *dev)}
    stages.keep("dense", record, model.state_dict())


def _rewound(
    shaped: Callable[[Setup], Setup], setup: Setup, *, settings: PruneSettings, seed: int
) -> Mapping[str, Tensor] | None:
    """Return the weights that the survivors of each pruning return to, if they do.

    Training repeats exactly from its seed, so its first epochs are run again on a copy.
    """
    if settings.rewind is None:
        return None
    copy = deepcopy(setup.model)
    if settings.rewind:
        again = _annealed(replace(setup, model=copy), settings, settings.dense_epochs)
        fit(shaped(again), derive(seed, "dense"), most=settings.rewind, keep="last")
    return copy.state_dict()


def _prune(
    setup: Setup,
    defense: Defense,
    *,
    settings: PruneSettings,
    seed: int,
    stages: Stages,
    rewind: Mapping[str, Tensor] | None,
) -> tuple[Round, ...]:
    """Prune ``setup.model`` round by round; finished rounds are taken up from the stages."""
    example = torch.zeros(1, *setup.inputs.shape[1:])
    pruner = pruning.choose(settings.pruner, settings.pruner_options)
    sizes = pruner.sizes(setup.model, example)
    done: list[Round] = []
    while (finished := stages.recall(f"round-{len(done)}")) is not None:
        load_weights(setup.model, finished[1])
        done.append(Round(**finished[0]))
    upcoming = prune_rounds(
        _annealed(setup, settings, settings.epochs),
        settings.plan,
        pruner=pruner,
        sizes=sizes,
        defend=defense.start,
        seed=seed,
        rewind=rewind,
        done=tuple(done),
    )
    for each in track(upcoming, "pruning rounds", total=settings.rounds - len(done)):
        stages.keep(f"round-{each.round}", asdict(each), setup.model.state_dict())
        done.append(each)
    return tuple(done)


def _annealed(setup: Setup, settings: PruneSettings, epochs: int) -> Setup:
    return replace(setup, rate=cosine(epochs) if settings.anneal else None)
