"""`privet.audit` on models of any make."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.tree import DecisionTreeClassifier
from torch import nn

import privet
from privet.attacks import ATTACKS
from privet.errors import OptionError

FEATURES, CLASSES, MEMBERS = 64, 10, 300
# There is one release of each model here.
SCORE_BASED = [name for name in ATTACKS if name != "multi-release"]


def noise(seed, count):
    """Return inputs, and labels that have nothing to do with them: only memory can help."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, FEATURES)).astype(np.float32)
    return inputs, rng.integers(CLASSES, size=count)


def network(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(FEATURES, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def memorize(inputs, labels, seed):
    """Train a network until it knows its samples by heart."""
    model = network(seed)
    inputs, labels = torch.from_numpy(inputs), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def pools():
    inputs, labels = noise(0, 3 * MEMBERS)
    parts = [slice(k * MEMBERS, (k + 1) * MEMBERS) for k in range(3)]
    return [(inputs[part], labels[part]) for part in parts]


@pytest.fixture(scope="module")
def audits(pools):
    """Audits of a model that can only have memorized, and of one that never trained."""
    members, nonmembers, own = pools
    return [
        {
            finding["attack"]: finding
            for finding in privet.audit(
                model=model,
                members=members,
                nonmembers=nonmembers,
                attacker=own,
                train=memorize,
                shadows=6,
                attacks=SCORE_BASED,
                seed=1,
            )["findings"]
        }
        for model in (memorize(*members, seed=5), network(6))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("attack", SCORE_BASED)
def test_a_model_trained_on_noise_labels_is_flagged(attack, audits):
    found = audits[0][attack]
    assert found["auc"] > 0.65
    assert found["balanced_accuracy"] is None or found["balanced_accuracy"] > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("attack", SCORE_BASED)
def test_a_model_that_never_trained_is_not(attack, audits):
    found = audits[1][attack]
    # Three standard errors of an AUC on 300 against 300.
    assert found["auc"] == pytest.approx(0.5, abs=0.072)
    assert found["balanced_accuracy"] is None or found["balanced_accuracy"] < 0.572


def test_a_classifier_of_another_library_is_audited_by_its_log_probabilities():
    inputs, labels = load_digits(return_X_y=True)
    # A third of the labels are wrong, which only members do not surprise a full-grown tree.
    labels = (labels + (np.arange(len(labels)) % 3 == 0)) % 10
    members, nonmembers = ((inputs[part], labels[part]) for part in np.split(np.arange(600), 2))
    tree = DecisionTreeClassifier(random_state=0).fit(*members)
    # Most of its probabilities are exactly zero.
    with np.errstate(divide="ignore"):
        report = privet.audit(model=tree.predict_log_proba, members=members, nonmembers=nonmembers)
    found = {finding["attack"]: finding for finding in report["findings"]}
    assert list(found) == ["loss", "gap"]
    wrong = 1 - tree.score(*nonmembers)
    assert found["gap"]["balanced_accuracy"] == pytest.approx(0.5 + wrong / 2)
    assert found["loss"]["auc"] == pytest.approx(0.5 + wrong / 2, abs=0.01)
    assert report["shadows"] == 0
    assert "shadow models" in report["skipped"]["conf"]


def test_a_function_with_a_way_to_train_it_meets_shadow_models(pools):
    members, nonmembers, own = pools

    def train(inputs, labels, seed):
        known = {row.tobytes() for row in inputs}

        def predict(asked):
            remembered = np.array([row.tobytes() in known for row in asked])
            return np.stack([np.where(remembered, 3.0, 0.0), *[np.zeros(len(asked))] * 9], axis=1)

        return predict

    report = privet.audit(
        model=train(*members, 0),
        members=members,
        nonmembers=nonmembers,
        attacker=own,
        train=train,
        shadows=2,
        attacks="hconf",
    )
    assert report["findings"][0]["auc"] == 1
    assert report["findings"][0]["balanced_accuracy"] == 1
    assert report["model"] == "function"


def test_a_network_is_trained_anew_for_shadow_models_unless_told_how(pools):
    members, nonmembers, own = pools
    report = privet.audit(
        model=memorize(*members, seed=5),
        members=members,
        nonmembers=nonmembers,
        attacker=own,
        shadows=1,
        attacks=["conf", "hconf"],
    )
    assert report["findings"][0]["auc"] > 0.65
    assert report["model"] == "Sequential"
    assert report["online"] is True


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"model": network(0)},
        {"model": network(0), "members": noise(0, 9)},
        {"model": 7, "members": noise(0, 9), "nonmembers": noise(1, 9)},
        {"model": network(0), "run": "somewhere", "members": noise(0, 9)},
        {
            "model": lambda inputs: inputs[:, :10],
            "members": noise(0, 9),
            "nonmembers": noise(1, 9),
            "attacker": noise(2, 9),
        },
    ],
)
def test_what_does_not_make_an_audit_is_refused(given):
    with pytest.raises(OptionError):
        privet.audit(**given)
