from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from privet.defenses import choose
from privet.defenses.relaxloss import RelaxLoss, flattening
from privet.errors import OptionError
from privet.fit import Setup, Step, sgd

LOGITS = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 2.0, 1.0, 0.5]])
LABELS = torch.tensor([0, 2])
MEAN = float(cross_entropy(LOGITS, LABELS))
ABOVE, BELOW = MEAN - 0.3, MEAN + 0.3


def gradient(alpha, epoch, first_epoch=0):
    """The loss's value and its gradient by the logits."""
    logits = LOGITS.clone().requires_grad_()
    setup = Setup(nn.Identity(), LOGITS, LABELS, sgd(0.1), batch_size=2)
    started = RelaxLoss(alpha=alpha).start(replace(setup, first_epoch=first_epoch))
    loss = started.loss(Step(setup.model, epoch, torch.arange(2), LOGITS, LABELS, logits))
    loss.backward()
    return loss.item(), logits.grad


def ordinary():
    posterior = LOGITS.softmax(1)
    return (posterior - nn.functional.one_hot(LABELS, 4)) / 2


def flat():
    """Posterior minus its flattened self: zero at the true class."""
    difference = LOGITS.softmax(1)
    for row, label in zip(difference, LABELS.tolist(), strict=True):
        rest = (1 - float(row[label])) / 3
        for column in range(4):
            row[column] -= row[label].item() if column == label else rest
    return difference / 2


@pytest.mark.parametrize(
    ("alpha", "epoch", "value", "expected"),
    [
        (ABOVE, 0, 0.3, ordinary()),
        (BELOW, 0, 0.3, -ordinary()),
        (ABOVE, 1, MEAN, ordinary()),
        (BELOW, 1, None, flat()),
        (BELOW, 4, 0.3, -ordinary()),
    ],
    ids=["even, above", "even, below", "odd, above", "odd, below", "a later even epoch"],
)
def test_each_branch_has_its_gradient(alpha, epoch, value, expected):
    loss, moved = gradient(alpha, epoch)
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=1e-5)
    if value is not None:
        assert loss == pytest.approx(value, rel=1e-5)


def test_epochs_are_counted_on_over_rounds():
    torch.testing.assert_close(gradient(BELOW, 0, first_epoch=3)[1], gradient(BELOW, 1)[1])
    torch.testing.assert_close(gradient(BELOW, 1, first_epoch=3)[1], gradient(BELOW, 0)[1])


def test_flattening_evens_out_the_wrong_classes_and_leaves_the_true_one():
    logits = LOGITS.clone().requires_grad_()
    before = LOGITS.softmax(1)[torch.arange(2), LABELS]
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(500):
        optimizer.zero_grad()
        flattening(logits, LABELS).backward()
        optimizer.step()
    posterior = logits.detach().softmax(1)
    true = posterior[torch.arange(2), LABELS]
    wrong = posterior[torch.ones(2, 4).scatter(1, LABELS[:, None], 0).bool()].view(2, 3)
    # Each step reads the confidence anew, so it drifts a little while the others move.
    torch.testing.assert_close(true, before, atol=0.15, rtol=0)
    assert float((wrong.amax(1) - wrong.amin(1)).max()) < 1e-3


def test_training_settles_at_the_level():
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    inputs = torch.randn(60, 5) + 3 * torch.eye(3, 5)[labels]
    model = nn.Linear(5, 3)
    setup = Setup(model, inputs, labels, sgd(0.5), batch_size=60)
    started = RelaxLoss(alpha=0.5).start(setup)
    optimizer = setup.optimizer(model)
    for epoch in range(200):
        step = Step(model, epoch, torch.arange(60), inputs, labels, model(inputs))
        optimizer.zero_grad()
        started.loss(step).backward()
        optimizer.step()
    assert cross_entropy(model(inputs), labels).item() == pytest.approx(0.5, abs=0.1)


def test_it_covers_the_rounds_only_unless_asked():
    assert not choose("relaxloss", {}).whole
    assert choose("relaxloss", {"whole": True}).whole


def test_a_negative_level_is_refused():
    with pytest.raises(OptionError, match=r"alpha must be finite and at least 0; got -0\.1"):
        RelaxLoss(alpha=-0.1)
