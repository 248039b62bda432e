"""Cross-fitted distillation: the targets by hand."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from privet.defenses import NEEDS
from privet.defenses.distill import Distill
from privet.errors import OptionError
from privet.fit import Setup, Step, adam, fit, seeded
from privet.models import FullyConnected

SOFT = torch.tensor([[0.81, 0.09, 0.1], [0.25, 0.25, 0.5], [0.0, 0.36, 0.64]])
LABELS = torch.tensor([0, 1, 2])


def setup_of(soft_labels=SOFT, *, samples: int = 3) -> Setup:
    with seeded(0):
        model = FullyConnected(4, (8,), 3, dropout=0.2).build()
        inputs = torch.randn(samples, 4)
    return Setup(
        model,
        inputs,
        LABELS.repeat(samples // 3),
        adam(0.01),
        2,
        weight_decay=0.01,
        soft_labels=soft_labels,
    )


def loss_of(setup: Setup, logits: torch.Tensor, indices: list[int]) -> torch.Tensor:
    chosen = torch.tensor(indices)
    return setup.loss(
        Step(setup.model, 0, chosen, setup.inputs[chosen], setup.labels[chosen], logits)
    )


def test_targets_are_flattened_posteriors_with_some_of_the_label():
    # Square roots 0.9, 0.3, 0.316...; a fifth of the label.
    setup = Distill(power=0.5, hard=0.2).start(setup_of())
    targets = SOFT.sqrt() / SOFT.sqrt().sum(1, keepdim=True) * 0.8 + 0.2 * torch.eye(3)
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    for indices in ([0, 1], [2, 0]):
        expected = -(targets[indices] * logits.log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(loss_of(setup, logits, indices), expected)


def test_a_power_of_one_leaves_posteriors_as_they_are():
    setup = Distill(power=1.0, hard=0.0).start(setup_of())
    # The loss is least at the posterior itself: there its gradient by the logits is zero.
    logits = SOFT[:2].log().requires_grad_()
    loss_of(setup, logits, [0, 1]).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(2, 3), atol=1e-7, rtol=0)


def test_with_all_of_the_label_it_is_plain_training():
    plain, distilled = setup_of(), setup_of()
    shaped = Distill(hard=1.0).start(distilled)
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        loss_of(shaped, logits, [0, 1, 2]), cross_entropy(logits, LABELS), rtol=0, atol=0
    )
    fit(plain, 5, most=3)
    fit(shaped, 5, most=3)
    assert all(map(torch.equal, plain.model.parameters(), distilled.model.parameters()))


def test_a_confident_teacher_of_the_wrong_class_costs_no_infinity():
    setup = setup_of(torch.eye(3)[[1, 2, 0]])
    fit(Distill(power=0.1, hard=0.0).start(setup), 0, most=2)
    assert all(torch.isfinite(p).all() for p in setup.model.parameters())


def test_only_the_loss_changes():
    setup = setup_of()
    started = Distill().start(setup)
    assert replace(started, loss=setup.loss) == setup
    assert started.loss is not setup.loss


def test_it_says_what_it_needs():
    assert Distill.needs <= NEEDS.keys()
    assert Distill.whole
    with pytest.raises(OptionError, match=r"setup\.soft_labels is missing"):
        Distill().start(setup_of(None))


@pytest.mark.parametrize(
    "options",
    [
        {"teacher": "oracle"},
        {"folds": 1},
        {"folds": 0},
        {"power": 0.0},
        {"power": 1.1},
        {"power": float("nan")},
        {"hard": -0.1},
        {"hard": 1.1},
        {"hard": float("nan")},
    ],
)
def test_impossible_options_are_named(options):
    (value,) = options.values()
    with pytest.raises(OptionError, match=str(value)):
        Distill(**options)
