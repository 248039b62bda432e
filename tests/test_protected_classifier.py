"""A classifier whose confidences are protected and whose predictions are its own."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

import privet
from privet import ProtectedClassifier
from privet.device import Bundle, Network, write_bundle
from privet.errors import DataError, OptionError
from privet.protected_classifier import keep_label

KEY = bytes(range(32))


def bundle_for(classes):
    """A defense model that takes a large first confidence for a member's."""
    rng = np.random.default_rng(classes)
    first = rng.normal(0, 0.3, (12, classes)).astype(np.float32)
    first[:, -1] += 1.0
    last = np.full((1, 12), 1.0, np.float32)
    bias = -last @ np.maximum(first @ np.linspace(0.02, 0.6, classes, dtype=np.float32), 0)
    weights = (first, last)
    return Bundle("membership", Network(weights, (np.zeros(12, np.float32), bias)))


class WithBundles(ProtectedClassifier):
    """scikit-learn's checks fit two classes, then three: a bundle for each."""

    def _bundle_for(self, classes):
        return bundle_for(max(2, classes))


@parametrize_with_checks(
    [
        WithBundles(LogisticRegression(), "by number of classes", key=KEY),
        WithBundles(DecisionTreeClassifier(max_depth=3, random_state=0), "by number", key=KEY),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def model(iris):
    return LogisticRegression(C=100, max_iter=1000).fit(*iris)


@pytest.fixture(scope="module")
def served(model):
    return ProtectedClassifier(model, bundle_for(3), budget=0.5, key=KEY)


def far(one, other):
    return np.abs(one - other).sum(axis=1)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_checks_do_meet_noise(classes, iris):
    X, y = (part[iris[1] < classes] for part in iris)
    model = LogisticRegression(max_iter=500).fit(X, y)
    served = WithBundles(model, "by number of classes", budget=2.0, key=KEY)
    assert (far(served.predict_proba(X), model.predict_proba(X)) > 0.01).mean() > 0.3


def test_confidences_move_within_budget_and_predictions_do_not(served, model, iris):
    X, y = iris
    before, after = model.predict_proba(X), served.predict_proba(X)
    assert after.shape == before.shape
    assert (after >= 0).all()
    assert after.sum(axis=1) == pytest.approx(1.0)
    moved = far(before, after)
    assert (moved > 0.01).any()
    assert (moved < 1e-9).any()
    np.testing.assert_array_equal(served.predict(X), model.predict(X))
    np.testing.assert_array_equal(served.classes_[after.argmax(axis=1)], served.predict(X))
    assert served.score(X, y) == model.score(X, y)
    np.testing.assert_allclose(np.exp(served.predict_log_proba(X)), after)


def test_it_releases_what_the_bundle_releases_about_the_inputs(served, model, iris):
    X = iris[0]
    before = model.predict_proba(X)
    expected = bundle_for(3).protect(before, budget=0.5, key=KEY, identity=X)
    np.testing.assert_array_equal(served.predict_proba(X), expected.records)
    assert (expected.expected_cost <= 0.5 + 1e-12).all()


class Confident(LogisticRegression):
    """Says the confidences that it gets as its first three inputs."""

    def predict_proba(self, X):
        return X[:, :3]

    def predict(self, X):
        return self.classes_[X[:, :3].argmax(axis=1)]


def test_over_many_inputs_the_mean_distance_is_the_budget():
    model = Confident().fit(np.eye(3), np.arange(3))
    X = np.column_stack([np.tile([0.97, 0.02, 0.01], (1000, 1)), np.arange(1000)])
    served = ProtectedClassifier(model, bundle_for(3), 0.3, key=KEY)
    moved = far(served.predict_proba(X), X[:, :3])
    assert 0.3 < moved.max() < 2
    assert moved.mean() == pytest.approx(0.3, abs=4 * moved.std() / np.sqrt(1000))


def test_the_same_input_gets_the_same_answer_in_whatever_company_and_form(served, iris):
    X = iris[0]
    together = served.predict_proba(X)
    alone = np.concatenate([served.predict_proba(row[None]) for row in X[::10]])
    np.testing.assert_allclose(alone, together[::10], atol=1e-5)
    np.testing.assert_allclose(served.predict_proba(X.astype(np.float32)), together, atol=1e-4)
    np.testing.assert_allclose(served.predict_proba(X.tolist()), together, atol=1e-12)
    other = clone(served).set_params(key=bytes(32), model=served.model)
    assert (far(other.predict_proba(X), together) > 0.01).any()


def test_a_budget_of_zero_releases_the_true_confidences(model, iris):
    served = ProtectedClassifier(model, bundle_for(3), 0.0, key=KEY)
    np.testing.assert_allclose(served.predict_proba(iris[0]), model.predict_proba(iris[0]))


def test_nothing_but_labels_and_protected_confidences_is_served(served):
    assert not hasattr(served, "decision_function")


def test_fitting_trains_a_clone(iris):
    model = RandomForestClassifier(20, random_state=0)
    served = ProtectedClassifier(model, bundle_for(3), key=KEY)
    with pytest.raises(NotFittedError):
        served.predict_proba(iris[0])
    assert not hasattr(served, "classes_")
    served.fit(*iris)
    assert not hasattr(model, "classes_")
    assert served.n_features_in_ == 4
    np.testing.assert_array_equal(served.predict(iris[0]), clone(model).fit(*iris).predict(iris[0]))


def test_a_frozen_model_is_never_trained_again(model, iris):
    served = ProtectedClassifier(FrozenEstimator(model), bundle_for(3), key=KEY)
    weights = model.coef_.copy()
    expected = served.predict_proba(iris[0])
    served.fit(iris[0][:100], iris[1][:100])
    np.testing.assert_array_equal(served.predict_proba(iris[0]), expected)
    np.testing.assert_array_equal(model.coef_, weights)


def test_the_bundle_may_be_a_file_and_the_key_too(served, model, iris, tmp_path, monkeypatch):
    write_bundle(bundle_for(3), tmp_path / "b.safetensors")
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    expected = served.predict_proba(iris[0])
    by_path = ProtectedClassifier(model, tmp_path / "b.safetensors", key=tmp_path / "key")
    np.testing.assert_array_equal(by_path.predict_proba(iris[0]), expected)
    monkeypatch.setenv("PRIVET_KEY", str(tmp_path / "key"))
    by_default = ProtectedClassifier(model, str(tmp_path / "b.safetensors"))
    np.testing.assert_array_equal(by_default.predict_proba(iris[0]), expected)
    monkeypatch.setenv("PRIVET_KEY", str(tmp_path / "new"))
    by_default.predict_proba(iris[0])
    assert (tmp_path / "new").stat().st_size == 32


def test_pickles_serve_the_same_answers(served, iris):
    again = pickle.loads(pickle.dumps(served))  # noqa: S301
    np.testing.assert_array_equal(again.predict_proba(iris[0]), served.predict_proba(iris[0]))


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_the_key_is_never_shown(kind, model):
    secret = b"0123456789abcdef0123456789abcdef"
    served = clone(ProtectedClassifier(model, "b.safetensors", key=kind(secret)))
    pipeline = make_pipeline(StandardScaler(), served)
    for shown in (repr(served), repr(pipeline), served._repr_html_(), pipeline._repr_html_()):
        assert "0123456789abcdef" not in shown
        assert "b.safetensors" in shown
    assert served.get_params()["key"] == secret


def test_text_is_told_apart_too():
    texts = ["spam spam eggs", "eggs and ham", "ham ham", "spam", "eggs", "ham and spam"] * 5
    labels = np.arange(30) % 3
    model = make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, labels)
    served = ProtectedClassifier(model, bundle_for(3), budget=0.2, key=KEY)
    answers = served.predict_proba(texts)
    np.testing.assert_array_equal(answers[:6], answers[6:12])
    moved = far(answers, model.predict_proba(texts))[:6] > 0.01
    assert moved.any()
    many = [f"spam word{number}" for number in range(100)]
    moved = far(served.predict_proba(many), model.predict_proba(many)) > 0.01
    assert 0 < moved.mean() < 1


def test_it_is_at_home_in_searches_and_calibration(iris):
    served = ProtectedClassifier(LogisticRegression(max_iter=500), bundle_for(3), key=KEY)
    scores = cross_val_score(served, *iris, cv=3, scoring="neg_log_loss")
    assert np.isfinite(scores).all()
    assert clone(served).set_params(model__C=0.1).model.C == 0.1
    calibrated = CalibratedClassifierCV(served, cv=3).fit(*iris)
    assert calibrated.score(*iris) > 0.8


@pytest.mark.parametrize("fits", [True, False])
def test_other_classes_than_the_bundles_are_refused(fits, model, iris):
    served = ProtectedClassifier(model, bundle_for(4), key=KEY)
    with pytest.raises(DataError, match="3 classes and the bundle is for 4"):
        served.fit(*iris) if fits else served.predict_proba(iris[0])


def test_several_outputs_are_refused(iris):
    X, y = iris
    served = ProtectedClassifier(DecisionTreeClassifier(), bundle_for(3), key=KEY)
    with pytest.raises(ValueError, match="1d array"):
        served.fit(X, np.column_stack([y, y]))
    served.model = DecisionTreeClassifier().fit(X, np.column_stack([y, y]))
    with pytest.raises(DataError, match="2 outputs"):
        served.predict_proba(X)


def test_a_bundle_for_attributes_is_refused(model, iris):
    network = Network(
        (np.ones((4, 5), np.float32), np.ones((3, 4), np.float32)),
        (np.zeros(4, np.float32), np.zeros(3, np.float32)),
    )
    served = ProtectedClassifier(model, Bundle("attribute", network), key=KEY)
    with pytest.raises(OptionError, match="attributes"):
        served.predict_proba(iris[0])


@pytest.mark.parametrize("options", [{"budget": -1.0}, {"key": b"short"}])
def test_options_that_make_no_sense_are_refused(options, model, iris):
    served = ProtectedClassifier(model, bundle_for(3), **{"key": KEY, **options})
    with pytest.raises(OptionError):
        served.predict_proba(iris[0])


def test_ties_keep_the_label_that_the_model_predicts():
    # Exact ties, and the two largest in the wrong order by a rounding error.
    tied = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, np.nextafter(0.4, 1)], [0.5, 0.3, 0.2]])
    kept = keep_label(tied.copy(), np.array([1, 1, 0]))
    assert kept.argmax(axis=1).tolist() == [1, 1, 0]
    np.testing.assert_allclose(kept, tied, atol=1e-15)


@pytest.mark.parametrize("budget", [0.0, 0.5, 2.0])
def test_hardly_decided_confidences_keep_their_class(budget):
    model = Confident().fit(np.eye(3), np.arange(3))
    rng = np.random.default_rng(0)
    tops = np.sort(rng.dirichlet(np.ones(3), 600), axis=1)
    tops[:200, 1] = tops[:200, 2]
    tops[200:400, 1] = np.nextafter(tops[200:400, 2], 0)
    tops = rng.permuted(tops / tops.sum(axis=1, keepdims=True), axis=1)
    served = ProtectedClassifier(model, bundle_for(3), budget, key=KEY)
    answers = served.predict_proba(tops)
    np.testing.assert_array_equal(served.classes_[answers.argmax(axis=1)], served.predict(tops))
    assert answers.sum(axis=1) == pytest.approx(1.0)


def test_the_public_name_is_the_class():
    assert privet.ProtectedClassifier is ProtectedClassifier
