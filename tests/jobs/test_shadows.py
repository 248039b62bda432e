"""Shadow models whose answers give away whom they trained on, so that mix-ups show."""

from dataclasses import replace

import joblib
import numpy as np
import pytest
import torch
from torch import nn

from privet.data.splits import shadow_pool
from privet.errors import DataError
from privet.jobs.shadows import Attacker, gather

AUDITED, OWN, CLASSES = 30, 50, 3


class Elephant(nn.Module):
    """Never forgets: the first logit is 1 for inputs it trained on, else 0."""

    def __init__(self, members):
        super().__init__()
        self.met = members[0][:, 0]

    def forward(self, inputs):
        # Inputs are whole numbers, so tiny noise does not disguise them.
        known = torch.isin(inputs[:, 0].round(), self.met).float()
        return torch.stack([known, torch.zeros_like(known), torch.zeros_like(known)], dim=1)


def make(members, dev, seed):
    assert not set(members[0][:, 0].tolist()) & set(dev[0][:, 0].tolist())
    return Elephant(members), Elephant(members)


@pytest.fixture
def attacker():
    count = AUDITED + OWN
    data = torch.arange(float(count))[:, None], torch.arange(count) % CLASSES
    pool = shadow_pool(count, 3, 0.8, audited=AUDITED, drawn=40)
    return Attacker(data, AUDITED, pool, make, seed=3)


@pytest.fixture
def target(attacker):
    """A target that trained on the audited samples of odd number."""
    return Elephant((attacker.data[0][1:AUDITED:2], None))


def gathered(attacker, target, folder, shadows=4, jobs=1):
    return gather((target, target), attacker, folder=folder, shadows=shadows, jobs=jobs)


def test_memberships_and_answers_belong_to_the_same_samples(attacker, target, tmp_path):
    evidence = gathered(attacker, target, tmp_path)
    for signals, members in (evidence.known(), evidence.calibration()):
        np.testing.assert_array_equal(signals.logits[:, :, 0] == 1, members)
    np.testing.assert_array_equal(evidence.target.labels, np.arange(AUDITED) % CLASSES)
    np.testing.assert_array_equal(evidence.target.logits[0, :, 0], np.arange(AUDITED) % 2)
    assert evidence.shadow.labels.shape == (len(attacker.asked) - AUDITED,)
    assert evidence.reference_members.any(axis=1).all()


def test_the_population_is_the_targets_answers_on_the_attackers_samples(attacker, target, tmp_path):
    evidence = gathered(attacker, target, tmp_path)
    np.testing.assert_array_equal(evidence.population.labels, evidence.shadow.labels)
    assert (evidence.population.logits[:, :, 0] == 0).all()


def test_other_releases_come_with_evidence_of_their_own(attacker, target, tmp_path):
    (other,) = gathered(attacker, target, tmp_path).releases
    np.testing.assert_array_equal(other.shadow.logits[:, :, 0] == 1, other.shadow_members)
    assert other.holds == {"shadow", "reference", "online"}


def test_everything_an_attack_may_need_is_there(attacker, target, tmp_path):
    evidence = gathered(attacker, target, tmp_path)
    assert evidence.holds == {
        "shadow",
        "reference",
        "online",
        "sensitivity",
        "robustness",
        "releases",
    }
    assert (evidence.shadow.sensitivity == 0).all()


def test_an_offline_attacker_trains_on_none_of_the_audited_samples(attacker, target, tmp_path):
    pool = shadow_pool(OWN, 3, 0.8)
    shifted = replace(pool, pool=pool.pool + AUDITED, dev=pool.dev + AUDITED)
    evidence = gathered(replace(attacker, pool=shifted), target, tmp_path)
    assert not evidence.reference_members.any()
    assert "online" not in evidence.holds
    assert (evidence.reference.logits[:, :, 0] == 0).all()
    assert evidence.shadow_members.sum(axis=1).tolist() == [40] * 4


def test_an_attacker_without_data_learns_on_the_audited_samples(target, attacker, tmp_path):
    data = attacker.data[0][:AUDITED], attacker.data[1][:AUDITED]
    owner = Attacker(data, AUDITED, shadow_pool(AUDITED, 3, 0.5), make, seed=3)
    evidence = gathered(owner, target, tmp_path)
    assert evidence.population is None
    # All but those that stop the training of shadow models.
    taught = ~np.isin(np.arange(AUDITED), owner.pool.dev)
    np.testing.assert_array_equal(evidence.shadow_members, evidence.reference_members[:, taught])
    np.testing.assert_array_equal(evidence.shadow.logits[:, :, 0] == 1, evidence.shadow_members)


def test_finished_shadow_models_are_read_and_more_can_follow(attacker, target, tmp_path):
    gathered(attacker, target, tmp_path, shadows=2)
    trained = []

    def counting(members, dev, seed):
        trained.append(seed)
        return make(members, dev, seed)

    counted = replace(attacker, make=counting)
    more = gathered(counted, target, tmp_path, shadows=5)
    assert len(trained) == len(set(trained)) == 3
    at_once = gathered(attacker, target, tmp_path / "at once", shadows=5)
    np.testing.assert_array_equal(more.shadow_members, at_once.shadow_members)
    np.testing.assert_array_equal(more.shadow.logits, at_once.shadow.logits)


@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
def test_any_engine_of_joblib_gives_the_same_evidence(backend, attacker, target, tmp_path):
    alone = gathered(attacker, target, tmp_path / "alone")
    with joblib.parallel_config(backend=backend):
        shared = gathered(attacker, target, tmp_path / "shared", jobs=2)
    np.testing.assert_array_equal(alone.shadow.logits, shared.shadow.logits)
    np.testing.assert_array_equal(alone.reference.robustness, shared.reference.robustness)


@pytest.mark.parametrize("damage", ["truncated", "of another audit", "lacking an array"])
def test_a_damaged_file_of_answers_is_named(damage, attacker, target, tmp_path):
    gathered(attacker, target, tmp_path)
    file = tmp_path / "0001.npz"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:200])
    else:
        with np.load(file) as held:
            arrays = dict(held)
        if damage == "lacking an array":
            del arrays["robustness"]
        else:
            arrays["logits"] = arrays["logits"][:-1]
        np.savez(file, **arrays)
    with pytest.raises(DataError, match=r"0001\.npz"):
        gathered(attacker, target, tmp_path)


def test_nothing_half_written_stays_when_a_shadow_model_fails(attacker, target, tmp_path):
    def failing(members, dev, seed):
        if list(tmp_path.glob("*.npz")):
            raise KeyboardInterrupt
        return make(members, dev, seed)

    with pytest.raises(KeyboardInterrupt):
        gathered(replace(attacker, make=failing), target, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000.npz", "of.json"]


@pytest.mark.parametrize("change", ["seed", "labels", "drawn", "no mark"])
def test_shadow_models_of_another_audit_are_refused(change, attacker, target, tmp_path):
    gathered(attacker, target, tmp_path)
    if change == "no mark":
        (tmp_path / "of.json").unlink()
    other = {
        "seed": replace(attacker, seed=4),
        "labels": replace(attacker, data=(attacker.data[0], attacker.data[1].flip(0))),
        "drawn": replace(attacker, pool=replace(attacker.pool, drawn=39)),
        "no mark": attacker,
    }[change]
    with pytest.raises(DataError, match="of another audit"):
        gathered(other, target, tmp_path)


def test_without_noise_models_are_asked_about_their_logits_alone(attacker, target, tmp_path):
    quiet = replace(attacker, noisy=False)
    evidence = gathered(quiet, target, tmp_path)
    assert evidence.holds == {"shadow", "reference", "online", "releases"}
    with np.load(tmp_path / "0000.npz") as held:
        assert set(held.files) == {"logits", "logits-1"}
    loud = gathered(attacker, target, tmp_path / "loud")
    np.testing.assert_array_equal(evidence.shadow.logits, loud.shadow.logits)
    # What was asked less is not taken for what was asked more.
    with pytest.raises(DataError, match="of another audit"):
        gathered(attacker, target, tmp_path)
