import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from privet.defenses import choose
from privet.defenses.ppb import PPB, sorted_divergence
from privet.errors import OptionError
from privet.fit import Setup, Step, sgd


def step_on(logits, labels):
    return Step(torch.nn.Identity(), 0, torch.arange(len(labels)), logits, labels, logits)


def loss_of(defense, step):
    setup = Setup(step.model, step.inputs, step.labels, sgd(0.1), batch_size=4)
    return defense.start(setup).loss(step)


def by_hand(logits):
    """Mean over pairs of KL(second || first) of descending posteriors, sample by sample."""
    posteriors = [sorted(np.exp(row) / np.exp(row).sum(), reverse=True) for row in logits.numpy()]
    half = len(posteriors) // 2
    pairs = zip(posteriors[:half], posteriors[-half:], strict=True)
    return np.mean([sum(s * np.log(s / f) for f, s in zip(*pair, strict=True)) for pair in pairs])


@pytest.mark.parametrize("samples", [2, 4, 5, 9])
def test_the_divergence_is_what_a_plain_loop_gives(samples):
    logits = torch.randn(samples, 6, generator=torch.Generator().manual_seed(samples)) * 3
    assert float(sorted_divergence(logits)) == pytest.approx(by_hand(logits), rel=1e-4)


def test_the_loss_adds_the_weighted_divergence_to_cross_entropy():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 5.0, 0.0]])
    labels = torch.tensor([0, 1])
    expected = float(cross_entropy(logits, labels)) + 3 * by_hand(logits)
    assert float(loss_of(PPB(weight=3), step_on(logits, labels))) == pytest.approx(expected)


def test_only_the_shape_of_the_posteriors_counts():
    ranked = torch.tensor([3.0, 1.0, 0.5, -1.0])
    same = torch.stack([ranked, ranked[[2, 0, 3, 1]] + 7])
    assert float(sorted_divergence(same)) == pytest.approx(0, abs=1e-6)
    assert float(sorted_divergence(torch.stack([ranked, ranked * 2]))) > 0.05


def test_both_halves_receive_gradients_and_an_odd_one_in_the_middle_none():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sorted_divergence(logits).backward()
    moved = logits.grad.abs().sum(1) > 1e-6
    assert moved.tolist() == [True, True, False, True, True]


def test_a_lone_sample_trains_on_cross_entropy_alone():
    step = step_on(torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([0]))
    loss = loss_of(PPB(), step)
    assert torch.equal(loss, cross_entropy(step.logits, step.labels))
    loss.backward()
    assert torch.isfinite(step.logits.grad).all()


def test_a_negative_weight_is_refused():
    with pytest.raises(OptionError, match="weight must be finite and at least 0; got -1"):
        choose("ppb", {"weight": -1})
