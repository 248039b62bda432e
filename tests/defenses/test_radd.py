"""Risk-aware distillation: who is shown when, and the loss by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from privet.defenses.radd import RADD
from privet.errors import OptionError
from privet.fit import Pass, Setup, Step, adam


class Fixed(nn.Module):
    """A network whose logits are its inputs; drops half of them in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, inputs):
        return self.drop(inputs)


def setup_of(scores, *, classes: int = 3, first_epoch: int = 0, dense=None) -> Setup:
    count = len(scores)
    inputs = torch.randn(count, classes, generator=torch.Generator().manual_seed(0))
    return Setup(
        nn.Linear(classes, classes),
        inputs,
        torch.arange(count) % classes,
        adam(0.01),
        4,
        weight_decay=0.02,
        scores=np.asarray(scores, dtype=float),
        dense=Fixed() if dense is None else dense,
        first_epoch=first_epoch,
    )


def shown(setup: Setup, epochs: int) -> np.ndarray:
    """Return which sample each epoch shows; shape (epochs, samples)."""
    found = np.zeros((epochs, len(setup.labels)), dtype=bool)
    for epoch in range(epochs):
        for each in setup.epoch_passes(epoch):
            found[epoch, each.indices] = True
    return found


@given(st.floats(0.05, 1), st.integers(1, 40), st.integers(0, 30))
def test_risky_samples_are_shown_their_share_of_epochs_and_the_rest_always(
    exposure, epochs, first_epoch
):
    setup = setup_of(np.arange(40) / 40, first_epoch=first_epoch)
    found = shown(RADD(threshold=0.5, exposure=exposure).start(setup), epochs)
    assert found[:, :20].all()
    counts = found[:, 20:].sum(0)
    assert set(counts) <= {int(exposure * epochs), int(np.ceil(exposure * epochs))}


@pytest.mark.parametrize("exposure", [0.1, 0.3, 0.7])
def test_over_a_whole_period_the_budget_is_exact(exposure):
    setup = setup_of(np.ones(30))
    found = shown(RADD(threshold=0.0, exposure=exposure).start(setup), 100)
    np.testing.assert_array_equal(found.sum(0), round(100 * exposure))
    # In turns: no epoch shows many more of them than another.
    assert np.ptp(found.sum(1)) <= 2


def test_turns_go_on_over_rounds():
    whole = shown(RADD(threshold=0.0, exposure=0.3).start(setup_of(np.ones(9))), 12)
    later = shown(RADD(threshold=0.0, exposure=0.3).start(setup_of(np.ones(9), first_epoch=7)), 5)
    np.testing.assert_array_equal(later, whole[7:])


def test_full_exposure_shows_everyone():
    assert shown(RADD(exposure=1.0).start(setup_of(np.arange(7))), 5).all()


def test_passes_of_another_defense_are_narrowed_and_keep_their_decay():
    setup = replace(setup_of(np.arange(8)), passes=lambda _: [Pass(torch.tensor([0, 5, 6]), 0.7)])
    started = RADD(threshold=0.5, exposure=0.5).start(setup)
    assert all(each.weight_decay == 0.7 for e in range(4) for each in started.epoch_passes(e))
    assert shown(started, 4)[:, [0]].all()
    assert not shown(started, 4)[:, [1, 2, 3, 4, 7]].any()


def test_the_loss_is_the_teachers_for_risky_samples_and_the_labels_for_others():
    setup = setup_of([0.1, 0.9, 0.2, 0.8])
    started = RADD(threshold=0.5, temperature=2.0, entropy=0.3).start(setup)
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double()
    indices = torch.tensor([3, 0, 1])
    found = started.loss(
        Step(setup.model, 0, indices, setup.inputs[indices], setup.labels[indices], logits)
    )
    terms = []
    for row, sample in zip(logits.numpy(), indices.tolist(), strict=True):
        posterior = np.exp(row) / np.exp(row).sum()
        if sample in (1, 3):
            taught = np.exp(setup.inputs[sample].double().numpy() / 2)
            taught /= taught.sum()
            unsure = -(posterior * np.log(posterior)).sum()
            terms.append(-(taught * np.log(posterior)).sum() - 0.3 * unsure)
        else:
            terms.append(-np.log(posterior[setup.labels[sample]]))
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-6)


def test_the_teacher_is_the_dense_network_not_the_one_that_trains():
    dense = nn.Linear(3, 3)
    setup = setup_of(np.ones(6), dense=dense)
    started = RADD(threshold=0.0, temperature=1.0, entropy=0.0).start(setup)
    with torch.no_grad():
        answers = dense(setup.inputs)
        dense.weight.zero_()  # what it taught is fixed once a round begins
    logits = answers.clone().requires_grad_()
    indices = torch.arange(6)
    started.loss(Step(setup.model, 0, indices, setup.inputs, setup.labels, logits)).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(6, 3), atol=1e-7, rtol=0)


def test_what_lacks_is_named():
    with pytest.raises(OptionError, match=r"setup\.dense is missing"):
        RADD().start(replace(setup_of([0.1, 0.2]), dense=None))
    with pytest.raises(OptionError, match=r"setup\.scores is missing"):
        RADD().start(replace(setup_of([0.1, 0.2]), scores=None))


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": -0.1},
        {"threshold": 1.1},
        {"threshold": float("nan")},
        {"exposure": 0.0},
        {"exposure": 1.1},
        {"temperature": 0.5},
        {"temperature": float("inf")},
        {"entropy": -1.0},
    ],
)
def test_impossible_options_are_named(options):
    (value,) = options.values()
    with pytest.raises(OptionError, match=f"{value}"):
        RADD(**options)
