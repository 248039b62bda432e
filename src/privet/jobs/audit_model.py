"""Audit a model of any make: a torch module, or a function from inputs to logits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from privet import query
from privet.errors import OptionError
from privet.fit import Dense, Setup, adam, fit, seeded
from privet.jobs.audit import Settings, report
from privet.jobs.audit_run import audit_in_memory
from privet.jobs.inputs import as_dense, joined
from privet.jobs.settings import PruneSettings
from privet.models import reinitialized
from privet.seeds import derive
from privet.signals import Evidence

Train = Callable[[Any, Any, int], Any]
"""From inputs, labels (NumPy arrays) and a seed below 2**32 to a model."""


@dataclass(frozen=True)
class TrainAlike:
    """Make shadow models with the auditor's own training function."""

    train: Train

    def __call__(self, members: Dense, dev: Dense, seed: int) -> Sequence[nn.Module]:
        """Return one trained model; the development samples are not used."""
        # scikit-learn and others take no larger seeds.
        small = seed % 2**32
        return (as_module(self.train(members[0].numpy(), members[1].numpy(), small)),)


@dataclass(frozen=True)
class TrainAnew:
    """Make shadow models from fresh weights with Adam, stopping early, as `privet.prune` does.

    How the target was really trained is not known here, so such shadow models resemble it only
    roughly, and attacks that learn from them are weaker than with a `TrainAlike`. A network all of
    whose parameters are frozen is ready for use, not made so: then all are trained.
    """

    model: nn.Module
    settings: PruneSettings

    def __call__(self, members: Dense, dev: Dense, seed: int) -> Sequence[nn.Module]:
        """Return one trained network."""
        with seeded(derive(seed, "initialize")):
            model = reinitialized(self.model)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            model.requires_grad_(True)
        setup = Setup(
            model=model,
            inputs=members[0],
            labels=members[1],
            optimizer=adam(self.settings.learning_rate),
            batch_size=self.settings.batch_size,
            weight_decay=self.settings.weight_decay,
        )
        most, patience = self.settings.dense_epochs, self.settings.patience
        fit(setup, derive(seed, "dense"), most=most, dev=dev, patience=patience)
        return (model,)


def audit_model(
    model: Any,
    sides: tuple[Any, Any],
    *,
    attacker: Any,
    train: Train | None,
    settings: Settings,
) -> dict[str, Any]:
    """Audit a model on its members and on nonmembers, ``sides``; see `privet.audit`."""
    target = as_module(model)
    members, nonmembers = (as_dense(side, target) for side in sides)
    about = {"model": type(model).__name__}
    if train is None and not isinstance(model, nn.Module):
        if attacker is not None:
            raise OptionError("an attacker's data needs `train` to make shadow models of")
        inputs, labels = joined(members, nonmembers)
        # Every attack that asks about noise asks shadow models about it, too: there are none.
        signals = query.signals([target], inputs, labels.numpy())
        truth = np.arange(len(labels)) < len(members[1])
        return report(Evidence(signals), truth, settings=settings, about=about)
    return audit_in_memory(
        (target,),
        (members, nonmembers),
        attacker=None if attacker is None else as_dense(attacker, target),
        make=TrainAnew(target, PruneSettings()) if train is None else TrainAlike(train),
        settings=settings,
        about=about,
        adaptive=None if train is None else settings.adaptive,
    )


def as_module(model: Any) -> nn.Module:
    """Return a torch module as it is, and any other function wrapped in one."""
    if isinstance(model, nn.Module):
        return model
    if not callable(model):
        raise OptionError(
            f"a model is a torch module or a function from inputs to logits, such as a "
            f"scikit-learn classifier's predict_log_proba; got {type(model).__name__}"
        )
    return query.as_module(model)
