"""`ProtectedClassifier`: a scikit-learn classifier whose confidences do not tell on its members."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, column_or_1d

from privet.device import Bundle, load_bundle, load_or_create_key
from privet.device.identity import identity
from privet.device.mechanism import default_key
from privet.device.network import Float64, Ints
from privet.errors import DataError, OptionError


class Secret(bytes):
    """Bytes that do not show in printouts."""

    def __repr__(self) -> str:
        return f"<{len(self)} secret bytes>"

    __str__ = __repr__


class ProtectedClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Serve a classifier with confidences that hide who was in its training data (SP-ASPP).

    `predict` is the model's own. `predict_proba` goes through Algorithm 2: noise, at most
    ``budget`` in expectation, that leaves the bundle's defense model undecided and never changes
    which class is most confident. Rows stay probability vectors. There is no ``decision_function``:
    it would tell what the noise hides.

    **Whom it protects from whom.** It shields a model that its owner serves from those who query
    it, when answers of this object are all they get. It cannot shield a model from the owner of
    the device it runs on: whoever holds this object holds the model. The key *and the bundle* must
    stay with the service too. Whoever has the bundle can ask its defense model about each answer
    and undo the protection. Predicted classes remain true: attackers who know an input's true
    class learn whether it was predicted right, which hints at membership without any confidence.

    Parameters
    ----------
    model
        A scikit-learn classifier of one output with `predict` and `predict_proba`. If it is fitted
        it serves at once, without `fit`. `fit` trains a clone of it, except of a
        ``sklearn.frozen.FrozenEstimator``, which stays as it is.
    bundle
        A membership bundle for as many classes as the model's, or the path of one.
    budget
        Largest expected L1 distance between true and released confidences; 0 releases the true
        ones, and the largest distance there can be is 2.
    key
        What fixes the noise: 32 secret bytes, or a file with them, made on first use. By default
        the file that PRIVET_KEY names, or one in this user's data folder. Given as bytes, it is
        pickled with the estimator.

    Attributes
    ----------
    model_
        The clone that `fit` trained.
    classes_, n_features_in_, feature_names_in_
        The model's.

    Notes
    -----
    The same input gets the same answer under the same key, up to float32 rounding (see
    `privet.device.Bundle.protect`), so asking again reveals nothing new. Numbers are the same input
    when they agree in float32, whatever their type and whatever else is asked at once; so are
    mappings in another order. Inputs that differ by less than what matters to the model are
    different ones: limit how often one client may ask. Objects that are spelled by their address
    cannot be told from others, and are refused.

    Where a model's own `predict` is not its most confident class (``SVC(probability=True)``, tuned
    decision thresholds), the two methods differ here exactly where they differ there.

    Examples
    --------
    >>> served = ProtectedClassifier(model, "location-x40.safetensors", budget=0.5)
    >>> served.predict_proba(X)
    """

    def __init__(
        self,
        model: Any,
        bundle: Bundle | Path | str,
        budget: float = 0.5,
        *,
        key: bytes | Path | str | None = None,
    ) -> None:
        self.model = model
        self.bundle = bundle
        self.budget = budget
        self.key = key

    def fit(self, X: Any, y: Any) -> Self:
        """Train a clone of the model; the bundle stays as it is.

        A bundle fits the model that it was built for. One that learns from other data needs a
        bundle of its own to hide its members as well.

        Raises
        ------
        DataError
            When the model and the bundle differ in their classes.
        OptionError
            When the bundle is not one of membership protection.
        """
        if y is not None:
            y = column_or_1d(y, warn=True)
        model = clone(self.model).fit(X, y)
        self._matching_bundle(model.classes_)
        self.model_ = model
        return self

    def predict(self, X: Any) -> Any:
        """Return the model's own predictions; shape (n,)."""
        check_is_fitted(self)
        return self._served.predict(X)

    def predict_proba(self, X: Any) -> Float64:
        """Return protected confidences; shape (n, classes), rows sum to 1.

        Raises
        ------
        DataError
            When the model and the bundle differ in their classes, or inputs cannot be told apart.
        OptionError
            On a budget or key that makes no sense, or a bundle of another kind.
        """
        check_is_fitted(self)
        served = self._served
        bundle = self._matching_bundle(served.classes_)
        own = np.asarray(served.predict_proba(X))
        key = _key(self.key)
        release = bundle.protect(own, budget=self.budget, key=key, identity=identity(X))
        return keep_label(release.records, own.argmax(axis=1))

    def predict_log_proba(self, X: Any) -> Float64:
        """Return the logarithm of `predict_proba`; shape (n, classes), finite."""
        return np.asarray(np.log(self.predict_proba(X)))

    @property
    def classes_(self) -> Any:
        """The model's classes; columns of `predict_proba` are in their order."""
        return self._served.classes_

    @property
    def n_features_in_(self) -> int:
        """The number of features that the model takes."""
        return int(self._served.n_features_in_)

    @property
    def feature_names_in_(self) -> Any:
        """The names of the features, where the model was fitted with names."""
        return self._served.feature_names_in_

    def __sklearn_is_fitted__(self) -> bool:
        try:
            check_is_fitted(self._served)
        except NotFittedError:
            return False
        return True

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.model)
        tags.input_tags = inner.input_tags
        if inner.classifier_tags is not None:
            tags.classifier_tags = replace(inner.classifier_tags, multi_label=False)
        tags.non_deterministic = inner.non_deterministic
        return tags

    def __setattr__(self, name: str, value: Any) -> None:
        # Estimators print their parameters, those of others that they are part of too.
        secret = name == "key" and type(value) in (bytes, bytearray)
        super().__setattr__(name, Secret(value) if secret else value)

    @property
    def _served(self) -> Any:
        """The trained clone, or the model as it was given."""
        return vars(self).get("model_", self.model)

    def _bundle_for(self, classes: int) -> Bundle:
        """Return the bundle; the number of classes is for those who have several."""
        return self.bundle if isinstance(self.bundle, Bundle) else load_bundle(self.bundle)

    def _matching_bundle(self, classes: Any) -> Bundle:
        """Return the bundle, after checking that it fits the model's classes."""
        if isinstance(classes, list):
            raise DataError(f"the model has {len(classes)} outputs; wrap one classifier each")
        bundle = self._bundle_for(len(classes))
        if bundle.kind != "membership":
            raise OptionError(f"the bundle protects {bundle.kind}s; give a membership bundle")
        if bundle.features != len(classes):
            raise DataError(
                f"the model has {len(classes)} classes and the bundle is for {bundle.features}; "
                f"build a bundle for this model's classes"
            )
        return bundle


def keep_label(confidences: Float64, label: Ints) -> Float64:
    """Return the confidences with their largest entry at ``label``, the first of equals.

    It is there already, except where the true confidences hold two largest entries that differ by
    a rounding error or not at all. Those two change places, and a tie is broken.
    """
    top = confidences.argmax(axis=1)
    lost = np.flatnonzero(top != label)
    here, there = (lost, top[lost]), (lost, label[lost])
    confidences[here], confidences[there] = confidences[there], confidences[here]
    tied = confidences[lost].argmax(axis=1) != label[lost]
    rows, columns = lost[tied], label[lost][tied]
    confidences[rows, columns] = np.nextafter(confidences[rows, columns], 2.0)
    return confidences


def _key(key: bytes | Path | str | None) -> bytes:
    """Return the secret bytes; None is the key file of this user."""
    if isinstance(key, bytes | bytearray):
        return bytes(key)
    return load_or_create_key(default_key() if key is None else key)
