"""The networks of membership protection: classifiers, the defense model D, and its tiers d.

SP-ASPP sections 3 and 4.3, in MemGuard's setting: a target classifier is trained on members; a
defense model learns to tell members from nonmembers by their confidences, is pruned to tiers and
retrained; an attacker has a shadow classifier of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from privet import query
from privet.data.splits import membership_split
from privet.data.table import Table
from privet.fit import Dense, Fitted, Setup, Step, adam, fit, seeded, sgd
from privet.jobs.inputs import dense
from privet.jobs.membership_evaluation import Observed, found_share
from privet.jobs.stages import Stages
from privet.jobs.tiers import (
    Built,
    Thresholds,
    Trained,
    check_speedups,
    fresh,
    make_tier,
    train_stage,
)
from privet.models import FullyConnected, ResNet18
from privet.pruning.structural import Structural
from privet.seeds import derive, generator
from privet.signals import IntArray


@dataclass(frozen=True)
class MembershipSettings:
    """How membership protection is built; the paper's settings (MemGuard's, section 5.1.3).

    Parameters
    ----------
    target_hidden, target_epochs
        The classifier under protection; the learning rate falls tenfold after three quarters.
    defense_hidden, defense_epochs, tier_epochs
        The defense model D, and retraining of the pruned tiers.
    attacker_hidden, attacker_epochs
        The attack model.
    speedups
        One tier each: base MACs / pruned MACs.
    batch_size, learning_rate
        Of SGD, for every network on tables and on confidences.
    image_width, image_epochs, image_learning_rate
        The classifier of images: a ResNet-18 of this first width, trained by Adam. The paper's
        figures for images come from a convolutional network that it does not describe.
    held_out
        Share of D's data that its accuracy is measured on.
    budgets
        Expected L1 distortions that the evaluation asks for.
    least_found, attempts
        A tier is released only when noise is found for this share of held-out vectors. One that
        fails is pruned again to other units and retrained, this often in all.
    thresholds
        Bounds of Definitions 1-3.
    """

    target_hidden: tuple[int, ...] = (1024, 512, 256, 128)
    target_epochs: int = 200
    defense_hidden: tuple[int, ...] = (256, 128, 64)
    defense_epochs: int = 400
    tier_epochs: int = 100
    attacker_hidden: tuple[int, ...] = (512, 256, 128)
    attacker_epochs: int = 400
    speedups: tuple[float, ...] = (20.0, 40.0, 60.0)
    batch_size: int = 64
    learning_rate: float = 0.01
    image_width: int = 8
    image_epochs: int = 30
    image_learning_rate: float = 1e-3
    held_out: float = 0.2
    budgets: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 1.0)
    least_found: float = 0.99
    attempts: int = 5
    thresholds: Thresholds = Thresholds(m=0.02, r=0.11, q=0.62, n=0.05)  # noqa: RUF009

    def __post_init__(self) -> None:
        check_speedups(self.speedups)


@dataclass(frozen=True, eq=False)
class Views:
    """What the parties see: each classifier's outputs on members and nonmembers.

    ``train`` and ``held_out`` are the defender's, ``shadow`` the attacker's (from its own
    classifier), ``evaluation`` the vectors to protect. ``accuracy`` is the target's.
    """

    train: Observed
    held_out: Observed
    shadow: Observed
    evaluation: Observed
    accuracy: Mapping[str, float]

    @property
    def classes(self) -> int:
        """Number of confidences in a vector."""
        return int(self.evaluation.logits.shape[1])


def observe(table: Table, settings: MembershipSettings, *, seed: int, stages: Stages) -> Views:
    """Train the target and the attacker's shadow classifier; return what they reveal."""
    split = membership_split(len(table), seed)
    inputs, labels = dense(table, np.arange(len(table)))

    def classifier(name: str, members: IntArray) -> nn.Module:
        data = inputs[members], labels[members]
        return _classifier(table, data, name=name, settings=settings, seed=seed, stages=stages)

    def ask(model: nn.Module, inside: IntArray, outside: IntArray) -> Observed:
        rows = np.concatenate([inside, outside])
        logits = query.logits(model, inputs[rows]).numpy()
        return Observed(logits, np.arange(len(rows)) < len(inside), labels[rows].numpy())

    target = classifier("target", split.members)
    shadow = classifier("shadow", split.shadow_members)
    known = ask(target, split.members, split.nonmembers)
    order = generator(seed, "held out").permutation(len(known.members))
    held_out, train = np.split(order, [round(settings.held_out * len(order))])
    outside = split.evaluation_nonmembers
    return Views(
        train=known.take(train),
        held_out=known.take(held_out),
        shadow=ask(shadow, split.shadow_members, split.shadow_nonmembers),
        evaluation=ask(target, split.members, outside),
        accuracy={
            "members": query.accuracy(target, inputs[split.members], labels[split.members]),
            "nonmembers": query.accuracy(target, inputs[outside], labels[outside]),
        },
    )


def train_base(views: Views, settings: MembershipSettings, *, seed: int, stages: Stages) -> Trained:
    """Train the defense model D: members of the target against nonmembers, by confidences."""
    architecture = FullyConnected(views.classes, settings.defense_hidden, 1)
    return train_binary(
        "base",
        partial(fresh, architecture, derive(seed, "initialize", "base"), glorot=True),
        views.train,
        epochs=settings.defense_epochs,
        settings=settings,
        seed=seed,
        stages=stages,
    )


def train_attacker(
    views: Views, settings: MembershipSettings, *, seed: int, stages: Stages
) -> Trained:
    """Train the paper's attack model on the attacker's own classifier."""
    architecture = FullyConnected(views.classes, settings.attacker_hidden, 1)
    return train_binary(
        "attacker",
        partial(fresh, architecture, derive(seed, "initialize", "attacker"), glorot=True),
        views.shadow,
        epochs=settings.attacker_epochs,
        settings=settings,
        seed=seed,
        stages=stages,
    )


def train_tier(
    base: Trained,
    views: Views,
    settings: MembershipSettings,
    *,
    speedup: float,
    seed: int,
    stages: Stages,
) -> Trained:
    """Prune D to a speed-up and retrain it, until it finds noise or attempts run out.

    Whether it does is judged on held-out vectors. Only the last attempt can still be a dead tier.
    """
    for attempt in range(settings.attempts):
        tier = train_binary(
            f"tier-{speedup:g}-attempt-{attempt}",
            partial(make_tier, base, speedup, pruner=_pruner(seed, attempt)),
            views.train,
            epochs=settings.tier_epochs,
            settings=settings,
            seed=seed,
            stages=stages,
        )
        if found_share(tier, views.held_out) >= settings.least_found:
            break
    return tier


def train_binary(
    name: str,
    untrained: Callable[[], Trained],
    data: Observed,
    *,
    epochs: int,
    settings: MembershipSettings,
    seed: int,
    stages: Stages,
) -> Trained:
    """Return a network that tells members' confidences from others', once its stage is finished."""
    fit_it = partial(
        _fit_binary, data=data, epochs=epochs, settings=settings, seed=derive(seed, name)
    )
    return train_stage(stages, name, untrained, fit_it)


def _classifier(
    table: Table,
    data: Dense,
    *,
    name: str,
    settings: MembershipSettings,
    seed: int,
    stages: Stages,
) -> nn.Module:
    """Train a classifier: MemGuard's network on tables, a small ResNet on images."""
    start = derive(seed, "initialize", name)
    train = partial(
        _fit_image_classifier if table.images else _fit_classifier,
        data=data,
        settings=settings,
        seed=derive(seed, name),
    )
    if table.images:
        image_network = ResNet18(table.classes, settings.image_width)
        return train_stage(stages, name, partial(_unfitted, image_network, start), train).model
    network = FullyConnected(table.row_shape[0], settings.target_hidden, table.classes)
    return train_stage(stages, name, partial(fresh, network, start, glorot=True), train).model


def _unfitted(network: ResNet18, seed: int) -> Built:
    with seeded(seed):
        return Built(network.build(), network)


def _pruner(seed: int, attempt: int) -> Structural:
    """Return L1 ranking, and for every further attempt another random one.

    Retraining the same units in another order hardly ever revives a dead tier.
    """
    return Structural() if attempt == 0 else Structural(seed=derive(seed, "attempt", attempt))


def _fit_classifier(
    model: nn.Module, *, data: Dense, settings: MembershipSettings, seed: int
) -> Fitted:
    setup = Setup(
        model=model,
        inputs=data[0],
        labels=data[1],
        optimizer=sgd(settings.learning_rate),
        batch_size=settings.batch_size,
    )
    late = settings.target_epochs // 4
    fit(setup, derive(seed, "early"), most=settings.target_epochs - late)
    setup = replace(setup, optimizer=sgd(settings.learning_rate / 10))
    return fit(setup, derive(seed, "late"), most=late)


def _fit_image_classifier(
    model: nn.Module, *, data: Dense, settings: MembershipSettings, seed: int
) -> Fitted:
    setup = Setup(
        model=model,
        inputs=data[0],
        labels=data[1],
        optimizer=adam(settings.image_learning_rate),
        batch_size=settings.batch_size,
    )
    return fit(setup, seed, most=settings.image_epochs)


def _fit_binary(
    model: nn.Module, *, data: Observed, epochs: int, settings: MembershipSettings, seed: int
) -> Fitted:
    inputs, labels = data.as_training_data()
    setup = Setup(
        model=model,
        inputs=inputs,
        labels=labels,
        optimizer=sgd(settings.learning_rate),
        batch_size=settings.batch_size,
        loss=_binary_loss,
    )
    return fit(setup, seed, most=epochs)


def _binary_loss(step: Step) -> Tensor:
    return binary_cross_entropy_with_logits(step.logits[:, 0], step.labels.float())
