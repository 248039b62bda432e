"""Out-of-fold teachers: no sample's answer comes from a teacher that has met it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from privet import query, teachers
from privet.errors import OptionError
from privet.fit import Setup, adam, seeded
from privet.models import FullyConnected
from privet.seeds import generator
from privet.teachers import SHRINKAGE, centroids, out_of_fold

SAMPLES, FEATURES, CLASSES, FOLDS = 60, 5, 3, 6
NETWORK = FullyConnected(FEATURES, (16,), CLASSES)


def setup_of(samples: int = SAMPLES, *, classes: int = CLASSES) -> Setup:
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=samples)
    inputs = rng.normal(size=(samples, FEATURES)).astype(np.float32)
    inputs[np.arange(samples), labels] += 1.5
    with seeded(0):
        model = FullyConnected(FEATURES, (4,), classes).build()
    return Setup(model, torch.from_numpy(inputs), torch.from_numpy(labels), adam(0.01), 16)


def taught(setup: Setup, teacher="lda", *, folds=FOLDS, epochs=5, **rest) -> torch.Tensor:
    return out_of_fold(
        setup, 3, teacher=teacher, folds=folds, build=NETWORK.build, epochs=epochs, **rest
    )


def fold_of(samples: int = SAMPLES, folds: int = FOLDS) -> np.ndarray:
    """Who is judged together, told apart by which answers one poisoned sample leaves alone."""
    return generator(3, "teacher folds").permutation(samples) % folds


def discriminants(inputs, labels, asked):
    """Linear discriminants with uniform priors, written out."""
    classes = np.unique(labels)
    means = np.stack([inputs[labels == k].mean(0) for k in classes])
    covariance = np.zeros((inputs.shape[1],) * 2)
    for k, mean in zip(classes, means, strict=True):
        away = inputs[labels == k] - mean
        own = away.T @ away / len(away)
        even = np.trace(own) / len(own) * np.eye(len(own))
        covariance += ((1 - SHRINKAGE) * own + SHRINKAGE * even) / len(classes)
    away = asked[:, None] - means
    distances = np.einsum("nki,ij,nkj->nk", away, np.linalg.inv(covariance), away)
    scores = np.full((len(asked), CLASSES), -np.inf)
    scores[:, classes] = -distances / 2
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def log_ratios(posterior: torch.Tensor) -> np.ndarray:
    logs = posterior.double().log().numpy()
    return logs[:, 1:] - logs[:, :1]


def test_discriminants_are_those_of_an_independent_computation():
    setup = setup_of()
    inputs, labels = setup.inputs.numpy().astype(np.float64), setup.labels.numpy()
    expected = np.empty((SAMPLES, CLASSES))
    for fold in range(FOLDS):
        judge = fold_of() == fold
        expected[judge] = discriminants(inputs[~judge], labels[~judge], inputs[judge])
    # The one factor under which labels are likeliest, by brute force.
    factors = np.exp(np.linspace(-5, 5, 20_001))

    def surprise(factor):
        scaled = factor * expected
        right = scaled[np.arange(SAMPLES), labels]
        return (np.logaddexp.reduce(scaled, axis=1) - right).mean()

    best = min(factors, key=surprise)
    scaled = best * expected
    scaled -= np.logaddexp.reduce(scaled, axis=1, keepdims=True)
    np.testing.assert_allclose(taught(setup).numpy(), np.exp(scaled), atol=2e-3)


@pytest.mark.parametrize("teacher", ["centroids", "lda", "network"])
def test_rows_are_float32_posteriors_better_than_guessing(teacher):
    setup = setup_of()
    found = taught(setup, teacher, epochs=20)
    assert (found.shape, found.dtype) == ((SAMPLES, CLASSES), torch.float32)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(SAMPLES))
    assert (found.argmax(1) == setup.labels).float().mean() > 0.6


@pytest.mark.parametrize("teacher", ["centroids", "lda", "network"])
def test_no_teacher_has_met_the_sample_it_judges(teacher):
    """A sample's own label moves its answer by the calibration that all answers share, alone."""
    setup, poisoned = setup_of(), 17
    labels = setup.labels.clone()
    labels[poisoned] = (labels[poisoned] + 1) % CLASSES
    before, after = (
        log_ratios(taught(each, teacher)) for each in (setup, replace(setup, labels=labels))
    )
    factor = after[poisoned] / before[poisoned]
    # One exponent for the sample's own answer, and for all that are judged along with it ...
    together = fold_of() == fold_of()[poisoned]
    np.testing.assert_allclose(after[together], factor[0] * before[together], rtol=2e-3, atol=1e-4)
    # ... while those of the other folds come from teachers who have met the poisoned label.
    elsewhere = after[~together] / before[~together]
    assert np.abs(elsewhere / factor[0] - 1).max() > 0.02


def test_the_calibration_is_the_one_under_which_labels_are_likeliest():
    setup = setup_of()
    found = taught(setup).double()

    def surprise(power):
        logs = power * found.log()
        return nn.functional.cross_entropy(logs, setup.labels)

    assert surprise(1.0) < min(surprise(0.98), surprise(1.02))


def test_networks_learn_from_all_folds_but_one(monkeypatch):
    learned = []

    def note(part, seed, *, most):
        assert most == 7
        learned.append((set(part.epoch_passes(0)[0].indices.tolist()), seed))

    monkeypatch.setattr(teachers, "fit", note)
    taught(setup_of(), "network", epochs=7)
    assert len({seed for _, seed in learned}) == FOLDS
    for fold, (met, _) in enumerate(learned):
        assert met == set(np.flatnonzero(fold_of() != fold).tolist())


@pytest.mark.parametrize("teacher", ["centroids", "lda", "network"])
def test_a_class_that_a_folds_teacher_never_met_is_unlikely_there(teacher):
    setup = setup_of()
    labels = torch.where(setup.labels == 2, 0, setup.labels)
    labels[11] = 2  # the only one of its class
    found = taught(replace(setup, labels=labels), teacher)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(1), torch.ones(SAMPLES))
    if teacher != "network":
        assert found[11, 2] < 0.01
        assert found[11, 2] > 0


def test_teachers_who_met_a_single_class_still_answer():
    setup = setup_of()
    labels = torch.zeros_like(setup.labels)
    labels[11] = 1
    found = taught(replace(setup, labels=labels))
    assert found[11].argmax() == 0
    torch.testing.assert_close(found.sum(1), torch.ones(SAMPLES))


def test_a_network_may_have_more_outputs_than_there_are_classes():
    found = taught(setup_of(classes=5))
    assert found.shape == (SAMPLES, 5)
    assert (found[:, 3:] < found[:, :3].max(1).values[:, None]).all()


def test_centroids_are_those_of_an_independent_computation():
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 3
    inputs = rng.random((40, 6)).astype(np.float32)
    asked = rng.random((7, 6)).astype(np.float32)
    found = centroids(inputs, labels, asked)

    def unit(rows):
        return rows / np.sqrt((rows.astype(float) ** 2).sum(1, keepdims=True))

    # All six directions: a rotation, under which distances stay.
    means = np.stack([unit(inputs)[labels == k].mean(0) for k in range(3)])
    distances = ((unit(asked)[:, None] - means) ** 2).sum(2)
    nearness = -distances / 2
    np.testing.assert_allclose(found - found[:, :1], nearness - nearness[:, :1], atol=1e-5)


def test_centroids_forget_all_but_the_leading_directions(monkeypatch):
    monkeypatch.setattr(teachers, "DIRECTIONS", 2)
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 2
    inputs = rng.normal(size=(60, 2)) @ np.array([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    inputs[:, 0] += 3 * (2 * labels - 1)
    noise = inputs.copy()
    noise[:, 3] = 1e-3 * rng.normal(size=60)
    one, two = (centroids(rows, labels, rows[:5]) for rows in (inputs, noise))
    np.testing.assert_allclose(one, two, atol=1e-3)


@pytest.mark.parametrize("teacher", ["auto", "centroids", "lda"])
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("value", [0.0, None])
def test_tables_of_one_column_or_nothing_but_zeros_are_taught_too(teacher, columns, value):
    setup = setup_of()
    inputs = setup.inputs[:, :columns].clone()
    if value is not None:
        inputs[:] = value
    model = FullyConnected(columns, (4,), CLASSES).build()
    found = taught(replace(setup, inputs=inputs, model=model), teacher)
    torch.testing.assert_close(found.sum(1), torch.ones(SAMPLES))


def test_auto_takes_the_better_teacher_of_tables_and_networks_for_the_rest(monkeypatch):
    setup = setup_of()

    def surprise(found):
        return float(nn.functional.nll_loss(found.log(), setup.labels))

    each = [taught(setup, teacher) for teacher in teachers.ON_TABLES]
    assert torch.equal(taught(setup, "auto"), min(each, key=surprise))
    monkeypatch.setattr(teachers, "fit", lambda *_, **__: None)
    shaped = replace(
        setup,
        inputs=setup.inputs[:, None],
        model=nn.Sequential(nn.Flatten(), setup.model),
    )
    build = lambda: nn.Sequential(nn.Flatten(), NETWORK.build())  # noqa: E731
    options = {"folds": FOLDS, "build": build, "epochs": 1}
    auto, network = (out_of_fold(shaped, 3, teacher=t, **options) for t in ("auto", "network"))
    assert torch.equal(auto, network)
    with pytest.raises(OptionError, match="take tables"):
        out_of_fold(shaped, 3, teacher="lda", **options)


def test_networks_answers_are_remembered_and_an_interrupted_teaching_goes_on(monkeypatch):
    setup, memory = setup_of(), {}
    unbroken = taught(setup, "network")
    fit, trained = teachers.fit, []

    def interrupted(part, seed, *, most):
        if len(trained) == 4:
            raise KeyboardInterrupt
        trained.append(seed)
        return fit(part, seed, most=most)

    def once(name, compute):
        if name not in memory:
            memory[name] = compute()
        return memory[name]

    with monkeypatch.context() as patch:
        patch.setattr(teachers, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            taught(setup, "network", once=once)
    assert list(memory) == [f"teacher-{fold}" for fold in range(4)]
    monkeypatch.setattr(
        teachers, "fit", lambda *given, most: trained.append(given[1]) or fit(*given, most=most)
    )
    assert torch.equal(taught(setup, "network", once=once), unbroken)
    assert len(trained) == len(set(trained)) == FOLDS


@pytest.mark.parametrize("teacher", ["centroids", "lda", "network"])
def test_the_seed_decides_and_nothing_else_is_touched(teacher):
    setup = setup_of()
    logits, state = query.logits(setup.model, setup.inputs), torch.random.get_rng_state()
    first = taught(setup, teacher)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(4)
    assert torch.equal(taught(setup, teacher), first)
    assert torch.equal(query.logits(setup.model, setup.inputs), logits)
    other = out_of_fold(setup, 4, teacher=teacher, folds=FOLDS, build=NETWORK.build, epochs=5)
    assert not torch.equal(other, first)


@pytest.mark.parametrize("folds", [-1, 0, 1, SAMPLES + 1])
def test_impossible_folds_are_named(folds):
    with pytest.raises(OptionError, match=rf"2\.\.{SAMPLES} for {SAMPLES} samples; got {folds}"):
        taught(setup_of(), folds=folds)


def test_leaving_one_out_is_possible():
    found = taught(setup_of(20), folds=20)
    assert found.shape == (20, CLASSES)
