"""Which networks differentially private training takes, and what an empty draw does."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from privet.defenses.dp import DP, poisson
from privet.errors import UnsuitableError
from privet.fit import Setup, fit, seeded, sgd
from privet.models import FullyConnected

SAMPLES, RATE = 24, 0.5


def make_setup(model: nn.Module, inputs: Tensor, *, batch_size: int = 8) -> Setup:
    return Setup(model, inputs, torch.arange(len(inputs)) % 3, sgd(RATE), batch_size)


def rows() -> Tensor:
    return torch.randn(SAMPLES, 5, generator=torch.Generator().manual_seed(0))


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Detached(nn.Module):
    """A layer that subtracts the batch's mean behind autograd's back."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - inputs.detach().mean(0)


class Largest(nn.Module):
    """A layer that divides by the batch's largest entry, which not every sample moves."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs / inputs.detach().abs().amax()


class Shuffling(nn.Module):
    """A layer that adds another sample of the batch in training."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return inputs
        return inputs + 0.1 * inputs.detach()[torch.randperm(len(inputs))]


class Tokens(nn.Module):
    """An embedding of integers that mixes the samples before any gradient flows."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        ids = inputs.long()
        ids = torch.minimum(ids, ids.amax(0) - 1).clamp(min=0)
        return self.words(ids).mean(1)


@pytest.mark.parametrize("layer", [Detached(), Largest(), Shuffling()], ids=lambda each: str(each))
def test_samples_that_meet_out_of_the_gradients_sight_are_refused(layer):
    model = nn.Sequential(layer, nn.Linear(5, 3))
    with pytest.raises(UnsuitableError, match="depends on others of the batch"):
        DP().start(make_setup(model, rows()))


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
def test_samples_of_integers_that_meet_are_refused(kind):
    ids = torch.randint(0, 9, (SAMPLES, 4), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(Tokens(), nn.Linear(5, 3))
    with pytest.raises(UnsuitableError, match="depends on others of the batch"):
        DP().start(make_setup(model, ids.to(kind)))


class Codebook(nn.Module):
    """A frozen parameter that follows the samples, as codebooks do."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.zeros(5), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            self.codes.lerp_(inputs.mean(0), 0.1)
        return inputs


@pytest.mark.parametrize(
    ("model", "inputs", "name"),
    [
        (
            nn.Sequential(
                nn.InstanceNorm2d(3, track_running_stats=True), nn.Flatten(), nn.Linear(48, 3)
            ),
            torch.randn(SAMPLES, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
            "0.running_mean",
        ),
        (nn.Sequential(Codebook(), nn.Linear(5, 3)), rows(), "0.codes"),
    ],
    ids=["buffer", "parameter"],
)
def test_what_the_forward_pass_writes_of_the_samples_is_refused(model, inputs, name):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UnsuitableError, match=f"writes to {name} depends on the samples"):
        DP().start(make_setup(model, inputs))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


class Counting(nn.Module):
    """A layer that counts its passes, which says nothing of the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += 1
        return inputs


def test_dropout_and_counters_keep_samples_apart():
    model = nn.Sequential(Counting(), nn.Linear(5, 7), nn.Dropout(0.5), nn.ReLU(), nn.Linear(7, 3))
    setup = make_setup(model, rows())
    before = flat(model)
    fit(DP().start(setup), 0, most=1)
    assert not torch.equal(flat(model), before)


def test_every_step_is_taken_whatever_is_drawn():
    with seeded(0):
        model = FullyConnected(5, (7,), 3).build()
    taken = []
    setup = make_setup(model, rows(), batch_size=1)
    started = DP(noise_multiplier=1.0).start(setup)
    after_step = started.after_step

    def counted() -> None:
        after_step()
        taken.append(1)

    with seeded(0):
        draws = [draw for _ in range(5) for draw in poisson(torch.arange(SAMPLES), 1)]
    assert any(len(draw) == 2 and draw[0] == draw[1] for draw in draws)
    fit(replace(started, after_step=counted), 0, most=5)
    assert len(taken) == 5 * SAMPLES


@pytest.mark.parametrize("noise", [0.0, 100.0])
def test_an_empty_draw_is_a_step_of_mere_noise(noise, monkeypatch):
    with seeded(0):
        model = FullyConnected(5, (2000,), 3).build()
    setup = make_setup(model, rows())
    # No draw takes a sample.
    monkeypatch.setattr(torch, "rand", lambda count: torch.ones(count))
    [stand_in, *_] = poisson(torch.arange(SAMPLES), 8)
    monkeypatch.undo()
    started = DP(noise_multiplier=noise, max_grad_norm=0.1).start(setup)
    before = flat(model)
    fit(replace(started, draw=lambda indices, size: [stand_in]), 0, most=1)
    moved = flat(model) - before
    assert float(moved.std()) == pytest.approx(RATE * noise * 0.1 / 8, rel=0.03)
