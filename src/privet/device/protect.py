"""A bundle in memory, and both phases of either algorithm in one call: `Bundle.protect`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from privet.device import membership
from privet.device.case import Case
from privet.device.matrices import Records, as_rows, logits_of, one_for_each, take
from privet.device.mechanism import check_prior, choose, uniform
from privet.device.network import Array, Bools, Float64, Ints, Network, sigmoid, softmax
from privet.device.releases import STOPS, plan_releases
from privet.device.rules import Rules
from privet.device.settings import Settings
from privet.errors import DataError, OptionError

KINDS = ("attribute", "membership")
MOST_LOGITS = 4_000_000  # of a record's candidates; some ten times as many bytes are needed


@dataclass(frozen=True, eq=False)
class Release:
    """Protected records, and what the protection cost.

    Parameters
    ----------
    records
        Attribute: the perturbed ratings, of the type and dtype given. Membership: confidence
        vectors in float64, since float32 could round the label's lead away.
    cost
        Shape (n,). Attribute: changed entries. Membership: L1 distance from the true confidences.
    target
        Shape (n,). Attribute: the class that the changes aim at. Membership: the predicted class,
        which never changes.
    expected_cost
        Shape (n,): mean cost over the random choice, at most the budget.
    reached
        Shape (n,). Attribute: whether the search found changes, those released or more of them,
        after which the defense model says the target.
        Membership: whether noise that flips the defense model was found, added or not.
    """

    records: Records
    cost: NDArray[Any]
    target: Ints
    expected_cost: Float64
    reached: Bools


@dataclass(frozen=True, eq=False)
class Bundle:
    """A defense model, its settings, and its card.

    Parameters
    ----------
    kind
        ``"attribute"`` (Algorithm 1, ratings) or ``"membership"`` (Algorithm 2, confidences).
    network
        Attribute: one output a class. Membership: one output, from ascending confidences.
    prior
        Attribute: shape (classes,), the label distribution to show to attackers, usually class
        frequencies in the training set; None gives every class the same. Membership: None.
    settings
        How to search.
    feature_names, class_names
        What to call features and classes in reports; None: by number. Columns of a file are told
        by feature names, so that these differ.
    card
        Whatever the maker states about the bundle, as JSON: MACs, accuracy, definitions checked,
        findings of the release audit. Nothing here changes what the bundle does.
    self_test
        What a bundle file says that the bundle does with made-up records; `write_bundle` makes
        these cases and `run_self_test` tries them.
    digest
        SHA-256 of a bundle file's content, set by `privet.device.bundle.load_bundle`.

    Raises
    ------
    DataError
        When the parts do not fit together.
    """

    kind: Literal["attribute", "membership"]
    network: Network
    prior: ArrayLike | None = None
    settings: Settings = field(default_factory=Settings)
    feature_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    self_test: tuple[Case, ...] = ()
    digest: str = ""

    def __post_init__(self) -> None:
        inputs, outputs = self.network.sizes[0], self.network.sizes[-1]
        if self.kind not in KINDS:
            raise DataError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        ratings = self.kind == "attribute"
        if (outputs == 1) == ratings or (not ratings and inputs < 2):
            raise DataError(f"no {self.kind} bundle can have layer sizes {self.network.sizes}")
        if ratings:
            even = np.full(outputs, 1 / outputs)
            prior = check_prior(even if self.prior is None else self.prior, outputs)
            object.__setattr__(self, "prior", prior)
            _check_attribute(self.settings, inputs, outputs)
        elif self.prior is not None:
            raise DataError("a membership bundle has no prior")
        elif not self.settings.unrestricted:
            raise DataError("a membership bundle has no settings but max_steps")
        _check_names("feature_names", self.feature_names, inputs)
        _check_different(self.feature_names or ())
        _check_names("class_names", self.class_names, outputs if ratings else inputs)

    @property
    def features(self) -> int:
        """Entries of a record: ratings, or confidences."""
        return self.network.sizes[0]

    def protect(
        self,
        records: Records,
        *,
        budget: ArrayLike,
        key: bytes,
        prior: ArrayLike | None = None,
        rules: Rules | None = None,
        logits: bool = False,
        identity: Records | None = None,
    ) -> Release:
        """Protect records; what chance decides depends on the record and the key alone.

        So the same record and key always give the same answer, up to float32 rounding: what the
        searches compute can differ in its last bits with the number of records asked about at
        once. A released confidence then differs by about as much, and where two changes of a
        rating, or a decision and its opposite, are that close, either may be released. Another
        budget, prior or set of rules gives another answer; several of them together reveal more
        than any one does.

        Parameters
        ----------
        records
            Shape (n, features). Attribute: values in [0, 1], dense or SciPy sparse. Membership:
            confidence vectors, or logits if ``logits`` is true.
        budget
            Largest expected cost, one number or one a record. Attribute: changed entries, above
            0. Membership: L1 distance between confidence vectors.
        key
            32 secret bytes, e.g. from `privet.device.load_or_create_key`.
        prior
            Attribute only: the label distribution to show to attackers, shape (classes,), or
            (n, classes) for one a record; by default the bundle's.
        rules
            Attribute only: which entries may change, and to what. Where these rules say nothing,
            the bundle's hold.
        logits, identity
            Membership only: see `protect_confidences`.

        Raises
        ------
        DataError
            On records or a prior of the wrong shape or range.
        OptionError
            On a budget, key or rules that make no sense.
        """
        if self.kind == "membership":
            if prior is not None or rules is not None:
                raise OptionError("prior and rules are for attribute bundles only")
            return protect_confidences(
                self.network,
                records,
                budget=budget,
                key=key,
                max_steps=self.settings.max_steps or membership.MAX_STEPS,
                logits=logits,
                identity=identity,
            )
        if logits or identity is not None:
            raise OptionError("logits and identity are for membership bundles only")
        return protect_ratings(
            self.network,
            records,
            prior=np.asarray(self.prior) if prior is None else prior,
            budget=budget,
            key=key,
            settings=self.settings,
            rules=rules,
        )

    def posterior(self, records: Records) -> Float64:
        """Return what the defense model believes about some records.

        Attribute: shape (n, classes), class probabilities. Membership: shape (n,), the probability
        that each confidence vector is a training member's.
        """
        rows = take(as_rows(records, self.features), slice(None))
        if self.kind == "attribute":
            return softmax(logits_of(self.network, rows))
        confidences = np.sort(softmax(membership.log_confidences(rows)), axis=1)
        return sigmoid(logits_of(self.network, confidences)[:, 0])


def _check_attribute(settings: Settings, inputs: int, outputs: int) -> None:
    """Refuse settings that do not fit an attribute bundle's layers."""
    settings.rules.legal_values(inputs)
    logits = logits_kept(settings, outputs)
    if logits > MOST_LOGITS:
        raise DataError(
            f"{outputs} classes are too many with the mechanism of {settings.mechanism}: the "
            f"candidates of one record have {logits} logits, of {MOST_LOGITS} at most"
        )
    if settings.never and settings.never[-1] >= inputs:
        raise DataError(f"never must name features below {inputs}; got {settings.never[-1]}")


def logits_kept(settings: Settings, classes: int) -> int:
    """Return how many logits one record's candidates have: the number of classes each."""
    stops = settings.max_steps or STOPS if settings.mechanism == "answers" else 1
    return stops * classes**2


def _check_names(what: str, names: tuple[str, ...] | None, count: int) -> None:
    """Refuse names that are not ``count`` strings."""
    if names is not None and (len(names) != count or not all(type(n) is str for n in names)):
        raise DataError(f"{what} must be {count} strings; got {len(names)} entries")


def _check_different(names: Sequence[str]) -> None:
    """Refuse feature names that a file's header could mean two columns by."""
    twice = [name for name, count in Counter(map(str.strip, names)).items() if count > 1]
    if twice:
        raise DataError(
            f"feature_names must differ, blanks around them aside; {twice[0][:40]!r} is there twice"
        )


def check_budget(kind: str, budget: ArrayLike, n: int = 1) -> Float64:
    """Return ``budget`` as one number a record, shape (n,).

    Raises
    ------
    OptionError
        On numbers that no ``kind`` of bundle could keep to, whatever the records.
    """
    limit = one_for_each(budget, n, "budget")
    if kind == "attribute" and not (limit > 0).all():
        raise OptionError(f"budget must be above 0, the least budget; got {limit.min():g}")
    return limit


def protect_ratings(
    network: Network,
    records: Records,
    *,
    prior: ArrayLike,
    budget: ArrayLike,
    key: bytes,
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    rules: Rules | None = None,
) -> Release:
    """Run Algorithm 1: hide the attribute that ``network`` guesses from ratings.

    Parameters are those of `releases.plan_releases` and `mechanism.uniform`. The default settings
    are the paper's.
    """
    n = as_rows(records, network.sizes[0]).shape[0]
    limit = check_budget("attribute", budget, n)
    (planned,) = plan_releases(
        network, records, prior=prior, budgets=[limit], settings=settings, rules=rules
    )
    found = planned.candidates
    choice = choose(planned.psi, uniform(key, records))
    rows = np.arange(n)
    return Release(
        records=found.apply(records, choice),
        cost=found.cost[rows, choice],
        target=found.aim(choice),
        expected_cost=planned.expected_cost,
        reached=found.reached[rows, choice],
    )


def protect_confidences(
    network: Network,
    records: Array,
    *,
    budget: ArrayLike,
    key: bytes,
    max_steps: int = membership.MAX_STEPS,
    logits: bool = False,
    identity: Records | None = None,
) -> Release:
    """Run Algorithm 2: hide from confidence vectors who was a member of the training set.

    Parameters
    ----------
    network, budget, max_steps
        See `membership.find_noise` and `membership.release_probability`.
    records
        Shape (n, k): confidences, or logits if ``logits`` is true.
    key
        32 secret bytes for the one-time randomness.
    identity
        Shape (n, anything): what tells one query from another, such as the classifier's inputs.
        By default the log-confidences to two decimals, so that a classifier whose last digits
        vary from batch to batch still gets one answer for one input.
    """
    rows = as_rows(records, network.sizes[0])
    z = rows if logits else membership.log_confidences(rows)
    noise = membership.find_noise(network, z, max_steps=max_steps)
    probability = membership.release_probability(noise, budget)
    if identity is None:
        identity = np.round(np.log(np.maximum(noise.before, 1e-12)), 2)
    added = uniform(key, identity) < probability
    return Release(
        records=np.where(added[:, None], noise.after, noise.before),
        cost=np.where(added, noise.distance, 0.0),
        target=noise.label,
        expected_cost=probability * noise.distance,
        reached=noise.found,
    )
