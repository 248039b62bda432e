"""Networks of token ids: they take no noise, and the other attacks go on without it."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

import privet
from privet import query
from privet.data.splits import shadow_pool
from privet.errors import EvidenceError
from privet.jobs.shadows import Attacker, gather

WORDS, LENGTH, CLASSES = 6, 5, 3
QUICK = ("conf", "label-only", "loss", "gap", "lira", "samia")


class Words(nn.Module):
    """The mean of its words' vectors, then a layer."""

    def __init__(self):
        super().__init__()
        self.vectors, self.layer = nn.Embedding(WORDS, 4), nn.Linear(4, CLASSES)

    def forward(self, ids):
        return self.layer(self.vectors(ids.long()).mean(1))


def sentences(seed, count=40):
    rng = np.random.default_rng(seed)
    return rng.integers(WORDS, size=(count, LENGTH)), rng.integers(CLASSES, size=count)


@pytest.fixture
def quick(monkeypatch):
    """A few attacks for "all": those left out train networks."""
    from privet import findings

    few = {name: findings.ATTACKS[name] for name in QUICK}
    monkeypatch.setattr(findings, "ATTACKS", few)


def audited(model, **options):
    return privet.audit(
        model=model, members=sentences(0), nonmembers=sentences(1), shadows=4, **options
    )


def test_attacks_that_ask_about_noise_are_skipped(quick, caplog):
    with caplog.at_level(logging.WARNING):
        report = audited(Words())
    assert [found["attack"] for found in report["findings"]] == ["conf", "loss", "gap", "lira"]
    assert set(report["skipped"]) == {"label-only", "samia"}
    assert "noise" in report["skipped"]["label-only"]
    assert "does not take noisy inputs (IndexError" in caplog.text


def test_the_other_attacks_find_what_they_find_by_name(quick):
    torch.manual_seed(0)
    model = Words()
    among_all = audited(model)["findings"]
    by_name = audited(model, attacks=[name for name in QUICK if name in ("conf", "lira")])
    for named in by_name["findings"]:
        (same,) = [found for found in among_all if found["attack"] == named["attack"]]
        assert (same["auc"], same["roc"]) == (named["auc"], named["roc"])


def test_such_an_attack_by_name_is_refused_before_any_shadow_model_is_trained():
    def train(inputs, labels, seed):
        pytest.fail("trained a shadow model")

    with pytest.raises(EvidenceError, match="does not take noisy inputs") as refused:
        audited(Words(), attacks=["conf", "label-only"], train=train)
    assert "\n" not in str(refused.value)


def test_a_function_is_not_asked_about_noise_that_no_attack_would_use(quick):
    asked = []

    def predict(ids):
        asked.append(len(ids))
        return np.eye(WORDS)[ids.astype(int)].mean(1)[:, :CLASSES]

    report = audited(predict)
    assert [found["attack"] for found in report["findings"]] == ["loss", "gap"]
    assert sum(asked) == 1 + 1 + 80  # each side's first row, then all of them


def test_shadow_models_without_noise_are_kept_as_such(tmp_path):
    ids, labels = sentences(0, 60)
    data = torch.from_numpy(ids).float(), torch.from_numpy(labels)
    attacker = Attacker(data, 60, shadow_pool(60, 0, 0.5), lambda *_: (Words(),), seed=0)
    for _ in range(2):  # the second time from disk
        evidence = gather(
            (Words(),), attacker, folder=tmp_path, shadows=2, jobs=1, noise_is_needed=False
        )
        assert not {"sensitivity", "robustness"} & evidence.holds
    with np.load(tmp_path / "0000.npz") as held:
        assert held.files == ["logits"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_noise_that_a_model_refuses_is_want_of_evidence(dtype):
    ids, labels = sentences(0)
    inputs = torch.from_numpy(ids).to(dtype)
    with pytest.raises(EvidenceError, match="does not take noisy inputs"):
        query.robustness(Words(), inputs, labels, seed=0)
