"""Adam and matrix products against torch's own."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from privet import fast
from privet.fast import Adam, float32_products
from privet.fit import seeded


def model() -> nn.Sequential:
    with seeded(2):
        return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))


def flat(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def train(network: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int = 60) -> Tensor:
    """Take steps on random gradients while the settings change, as passes and schedules do."""
    generator = torch.Generator().manual_seed(4)
    for step in range(steps):
        optimizer.param_groups[0]["weight_decay"] = 0.1 if step % 3 == 0 else 5e-4
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        optimizer.zero_grad()
        for number, parameter in enumerate(network.parameters()):
            if number != 1 or step % 4:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return flat(network)


def test_adam_takes_torchs_steps():
    ours, torchs = model(), model()
    found = train(ours, Adam(ours, lr=1e-2))
    wanted = train(torchs, torch.optim.Adam(torchs.parameters(), lr=1e-2))
    assert (wanted - flat(model())).abs().max() > 0.05
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_adam_takes_other_betas_and_eps():
    ours, torchs = model(), model()
    found = train(ours, Adam(ours, lr=1e-2, betas=(0.5, 0.9), eps=1e-2))
    reference = torch.optim.Adam(torchs.parameters(), lr=1e-2, betas=(0.5, 0.9), eps=1e-2)
    torch.testing.assert_close(found, train(torchs, reference), rtol=1e-5, atol=1e-6)


def test_adam_follows_the_layout_of_weights_whatever_that_of_gradients():
    ours, torchs = model(), model()
    optimizer = Adam(ours, lr=1e-2)
    ours[0].weight.data = ours[0].weight.data.t().contiguous().t()
    assert not ours[0].weight.is_contiguous()
    found = train(ours, optimizer)
    torch.testing.assert_close(
        found,
        train(torchs, torch.optim.Adam(torchs.parameters(), lr=1e-2)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_adam_starts_at_the_first_gradient():
    network = model()
    optimizer = Adam(network, lr=1e-2)
    before = flat(network)
    optimizer.step()
    assert torch.equal(flat(network), before)
    network(torch.ones(2, 7)).sum().backward()
    optimizer.step()
    assert not torch.equal(flat(network), before)
    optimizer.zero_grad()
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "applies"),
    [
        (model(), True),
        (model().double(), False),
        (nn.Conv2d(2, 2, 3).to(memory_format=torch.channels_last), False),
        (nn.ParameterList([nn.Parameter(torch.zeros(4, 4)[:, :2])]), False),
    ],
)
def test_adam_says_what_it_applies_to(network, applies):
    assert Adam.applies_to(network) is applies


def test_products_keep_float32_and_the_setting_is_restored():
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    rows = torch.randn(64, 300, generator=torch.Generator().manual_seed(0))
    exact = rows.double() @ rows.double().t()
    with float32_products():
        error = (rows @ rows.t() - exact).abs().max()
    assert setting.fp32_precision == before
    # Bfloat16 would be off by about sqrt(300) * 2**-9.
    assert error < 1e-3


@pytest.mark.parametrize(("answer", "asked"), [(True, "bf16"), (False, "none")])
def test_products_ask_for_nothing_where_float32_would_be_lost(monkeypatch, answer, asked):
    setting = SimpleNamespace(fp32_precision="none")
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", setting, raising=False)
    monkeypatch.setattr(fast, "_keeps_float32", lambda: answer)
    with float32_products():
        assert setting.fp32_precision == asked
    assert setting.fp32_precision == "none"


def test_the_probe_notices_rounding(monkeypatch):
    exact = torch.Tensor.__matmul__
    rounded = lambda a, b: exact(a.bfloat16().float(), b.bfloat16().float())  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    assert not fast._keeps_float32.__wrapped__()
