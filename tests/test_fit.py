import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from privet import query
from privet.errors import OptionError
from privet.fit import Fitted, Pass, Setup, adam, cosine, epochs, fit, seeded, sgd, shuffled
from privet.lazy_adam import LazyAdam
from privet.models import FullyConnected
from privet.query import accuracy

SAMPLES, FEATURES, CLASSES = 60, 10, 3


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) % CLASSES
    inputs = torch.randn(SAMPLES, FEATURES, generator=generator).abs()
    inputs[inputs < 0.8] = 0
    inputs[torch.arange(SAMPLES), labels] += 2
    return inputs, labels


def setup_of(*, dropout: float = 0.0, sparse_input: bool = False) -> Setup:
    inputs, labels = problem()
    with seeded(1):
        network = FullyConnected(
            FEATURES, (8,), CLASSES, dropout=dropout, sparse_input=sparse_input
        )
        model = network.build()
    rows = sparse.csr_array(inputs.numpy()) if sparse_input else inputs
    return Setup(model, rows, labels, adam(0.01), batch_size=7)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in model.state_dict().values()]).clone()


def trained(seed: int, *, most: int = 3, dropout: float = 0.3) -> torch.Tensor:
    setup = setup_of(dropout=dropout)
    fit(setup, seed, most=most)
    return weights(setup.model)


def without_gradient(batch_size: int) -> Setup:
    """A problem whose loss is flat, in float64: only weight decay moves the weights."""
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    return Setup(
        model,
        torch.ones(12, 2, dtype=torch.float64),
        torch.zeros(12, dtype=torch.int64),
        sgd(0.1),
        batch_size,
        loss=lambda step: 0 * step.logits.sum(),
    )


def scripted(monkeypatch: pytest.MonkeyPatch, script: list[float]) -> list[torch.Tensor]:
    """Make the development accuracy follow a script; return the weights at each reading."""
    seen: list[torch.Tensor] = []

    def read(model: nn.Module, *_: object) -> float:
        seen.append(weights(model))
        return script[len(seen) - 1]

    monkeypatch.setattr(query, "accuracy", read)
    return seen


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(5)
    first = trained(3)
    torch.manual_seed(6)
    torch.rand(100)
    assert torch.equal(first, trained(3))
    assert not torch.equal(first, trained(4))


def test_without_dropout_the_seed_still_decides_the_order():
    assert torch.equal(trained(3, dropout=0.0), trained(3, dropout=0.0))
    assert not torch.equal(trained(3, dropout=0.0), trained(4, dropout=0.0))


def test_torch_global_generator_is_left_alone():
    setup = setup_of(dropout=0.3)
    before = torch.random.get_rng_state()
    fit(setup, 0, most=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    broken = replace(setup, loss=lambda step: step.logits.sum() * torch.nan)
    with pytest.raises(OptionError):
        fit(broken, 0, most=2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_seeded_block_restores_the_generator_after_an_exception():
    before = torch.random.get_rng_state()

    def interrupted():
        with seeded(3):
            torch.rand(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_longer_run_begins_like_a_shorter_one():
    long, short = setup_of(dropout=0.3), setup_of(dropout=0.3)
    at_two = [weights(long.model) for _ in itertools.islice(epochs(long, 9), 4)][1]
    fit(short, 9, most=2)
    assert torch.equal(weights(short.model), at_two)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70))
def test_every_epoch_visits_every_sample_once(batch_size):
    visits: dict[int, list[torch.Tensor]] = {}

    def record(step):
        visits.setdefault(step.epoch, []).append(step.indices)
        assert torch.equal(step.labels, setup.labels[step.indices])
        assert torch.equal(step.inputs, setup.inputs[step.indices])
        return step.logits.square().mean()

    setup = replace(setup_of(), batch_size=batch_size, loss=record)
    fit(setup, 2, most=2)
    assert list(visits) == [0, 1]
    for batches in visits.values():
        assert [len(each) for each in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert torch.equal(torch.cat(batches).sort().values, torch.arange(SAMPLES))
    assert not torch.equal(torch.cat(visits[0]), torch.cat(visits[1]))


def test_the_base_pass_decays_all_weights_each_step():
    setup = replace(without_gradient(batch_size=4), weight_decay=0.5)
    before = weights(setup.model)
    fit(setup, 0, most=2)
    expected = before * (1 - 0.1 * 0.5) ** 6
    torch.testing.assert_close(weights(setup.model), expected, rtol=1e-12, atol=0)


def test_passes_run_in_order_each_with_its_own_decay_and_no_batch_mixes_two():
    passes = [Pass(torch.arange(5), 0.5), Pass(torch.arange(5, 12), 2.0)]
    factors, batches = [], []

    def record(step):
        batches.append(step.indices)
        factors.append(float(step.model.weight.detach()[0, 0]))
        return 0 * step.logits.sum()

    setup = replace(without_gradient(batch_size=4), passes=lambda _: passes, loss=record)
    start = float(setup.model.weight.detach()[0, 0])
    fit(setup, 0, most=2)
    slow, fast = 1 - 0.1 * 0.5, 1 - 0.1 * 2.0
    factors.append(float(setup.model.weight.detach()[0, 0]))
    expected = np.cumprod([start, *([slow, slow, fast, fast] * 2)])
    np.testing.assert_allclose(factors, expected, rtol=1e-12)
    assert [len(each) for each in batches] == [4, 1, 4, 3] * 2
    assert set(torch.cat(batches[:2]).tolist()) == set(range(5))
    assert set(torch.cat(batches[2:4]).tolist()) == set(range(5, 12))


def test_passes_are_asked_for_by_epoch():
    visited = []

    def record(step):
        visited.append((step.epoch, step.indices.tolist()))
        return step.logits.square().mean()

    by_epoch = replace(
        setup_of(), passes=lambda epoch: [Pass(torch.tensor([epoch, 50]), 0.0)], loss=record
    )
    fit(by_epoch, 0, most=3)
    assert [(epoch, sorted(seen)) for epoch, seen in visited] == [(e, [e, 50]) for e in range(3)]


def test_early_stopping_keeps_the_earliest_best_epoch(monkeypatch):
    seen = scripted(monkeypatch, [0.5, 0.7, 0.6, 0.7, 0.65, 0.9])
    setup = setup_of()
    fitted = fit(setup, 0, most=20, dev=problem(), patience=3)
    assert fitted == Fitted(epochs=5, kept=1, dev_accuracies=(0.5, 0.7, 0.6, 0.7, 0.65))
    assert torch.equal(weights(setup.model), seen[1])
    assert not torch.equal(seen[1], seen[4])


def test_within_the_tolerance_the_earliest_epoch_counts(monkeypatch):
    seen = scripted(monkeypatch, [0.5, 0.57, 0.54, 0.58, 0.6, 0.59, 0.6])
    setup = setup_of()
    fitted = fit(setup, 0, most=7, dev=problem(), patience=3, tolerance=0.031)
    # The best accuracy is 0.6: epoch 1 comes within 0.031 of it, epoch 0 does not.
    assert (fitted.epochs, fitted.kept) == (7, 1)
    assert torch.equal(weights(setup.model), seen[1])


def test_early_stopping_can_keep_the_last_epoch(monkeypatch):
    seen = scripted(monkeypatch, [0.5, 0.7, 0.6, 0.7, 0.65, 0.9])
    setup = setup_of()
    fitted = fit(setup, 0, most=20, dev=problem(), patience=3, keep="last")
    assert fitted == Fitted(epochs=5, kept=4, dev_accuracies=(0.5, 0.7, 0.6, 0.7, 0.65))
    assert torch.equal(weights(setup.model), seen[4])


def test_without_patience_all_epochs_run_and_the_best_remains(monkeypatch):
    seen = scripted(monkeypatch, [0.9, 0.1, 0.1, 0.1])
    setup = setup_of()
    assert fit(setup, 0, most=4, dev=problem()) == Fitted(4, 0, (0.9, 0.1, 0.1, 0.1))
    assert torch.equal(weights(setup.model), seen[0])


def test_an_accuracy_of_zero_is_still_a_best_one(monkeypatch):
    seen = scripted(monkeypatch, [0.0, 0.0, 0.0])
    setup = setup_of()
    assert fit(setup, 0, most=9, dev=problem(), patience=2).kept == 0
    assert torch.equal(weights(setup.model), seen[0])


def test_measuring_on_a_development_set_does_not_change_the_training():
    plain, measured = setup_of(dropout=0.3), setup_of(dropout=0.3)
    fit(plain, 0, most=3)
    fit(measured, 0, most=3, dev=problem(), keep="last")
    assert torch.equal(weights(plain.model), weights(measured.model))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_names_its_epoch(bad):
    setup = replace(
        setup_of(), loss=lambda step: step.logits.sum() * (bad if step.epoch == 2 else 1)
    )
    before_the_failure = setup_of()
    fit(replace(before_the_failure, loss=lambda step: step.logits.sum()), 0, most=2)
    with pytest.raises(OptionError, match=r"epoch 2.*learning rate"):
        fit(setup, 0, most=5)
    assert torch.equal(weights(setup.model), weights(before_the_failure.model))


@pytest.mark.parametrize("nothing", [[], [Pass(torch.arange(0), 0.0)]])
def test_an_epoch_without_samples_names_itself(nothing):
    some = [Pass(torch.arange(4), 0.0)]
    setup = replace(setup_of(), passes=lambda epoch: nothing if epoch == 1 else some)
    with pytest.raises(OptionError, match="epoch 1 has no samples"):
        fit(setup, 0, most=3)


def test_one_empty_pass_among_others_is_skipped():
    passes = [Pass(torch.arange(0), 9.0), Pass(torch.arange(4), 0.5)]
    setup = replace(without_gradient(batch_size=4), passes=lambda _: passes)
    before = weights(setup.model)
    fit(setup, 0, most=1)
    torch.testing.assert_close(weights(setup.model), before * 0.95, rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", [{"most": 0}, {"most": -1}, {"most": 3, "patience": 2}])
def test_impossible_requests_are_refused_before_training(options):
    setup = setup_of()
    before = weights(setup.model)
    with pytest.raises(OptionError, match="training needs an epoch"):
        fit(setup, 0, **options)
    assert torch.equal(weights(setup.model), before)


def test_after_step_follows_each_update():
    before, after = [], []

    def loss(step):
        before.append(weights(step.model))
        return 0 * step.logits.sum()

    flat = replace(without_gradient(batch_size=5), weight_decay=1.0, loss=loss)
    fit(replace(flat, after_step=lambda: after.append(weights(flat.model))), 0, most=2)
    assert len(before) == len(after) == 6
    torch.testing.assert_close(torch.stack(after), 0.9 * torch.stack(before))


def test_after_step_has_the_last_word_on_the_weights():
    setup = setup_of()

    @torch.no_grad()
    def hold():
        setup.model[0].weight[:3] = 0

    fit(replace(setup, after_step=hold), 0, most=2)
    assert setup.model[0].weight[:3].count_nonzero() == 0
    assert setup.model[0].weight[3:].count_nonzero() > 0


def test_sparse_inputs_train_like_dense_ones():
    dense, lazy = setup_of(), setup_of(sparse_input=True)
    assert torch.equal(weights(dense.model), weights(lazy.model))
    fit(dense, 0, most=4)
    fit(lazy, 0, most=4)
    torch.testing.assert_close(weights(lazy.model), weights(dense.model), rtol=1e-3, atol=1e-4)
    assert accuracy(lazy.model, lazy.inputs, lazy.labels) > 0.9


def test_the_lazy_optimizer_is_finished_and_the_model_free_of_it():
    setup = setup_of(sparse_input=True)
    fit(setup, 0, most=3, dev=(setup.inputs, setup.labels), patience=1)
    first = setup.model[0]
    assert first.keeper is None
    as_read = first.weight.detach().clone()
    assert torch.equal(setup.model.state_dict()["0.weight"], as_read)
    dense = problem()[0]
    torch.testing.assert_close(setup.model(dense), query.logits(setup.model, setup.inputs))


def test_the_best_weights_of_a_sparse_network_survive_its_lazy_optimizer(monkeypatch):
    setup = setup_of(sparse_input=True)
    seen = scripted(monkeypatch, [0.1, 0.8, 0.2, 0.3])
    fit(setup, 0, most=4, dev=(setup.inputs, setup.labels))
    assert torch.equal(weights(setup.model), seen[1])


def test_a_failing_run_finishes_the_lazy_optimizer_too():
    setup = setup_of(sparse_input=True)
    used: list[LazyAdam] = []

    def optimizer(model):
        used.append(LazyAdam(model, lr=0.01))
        return used[0]

    failing = replace(
        setup,
        optimizer=optimizer,
        loss=lambda step: step.logits.square().mean() * (torch.nan if step.epoch else 1),
    )
    with pytest.raises(OptionError, match="epoch 1"):
        fit(failing, 0, most=3)
    assert len(used) == 1
    assert setup.model[0].keeper is None


def test_a_last_single_sample_joins_the_batch_before_it():
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    sizes = []
    setup = Setup(
        model=model,
        inputs=torch.randn(9, 3),
        labels=torch.arange(9) % 2,
        optimizer=sgd(0.1),
        batch_size=4,
        loss=lambda step: sizes.append(len(step.indices)) or step.logits.square().mean(),
    )
    fit(setup, 0, most=1)
    assert sizes == [4, 5]


def test_a_pass_of_one_sample_is_left_out_under_batch_normalization_only():
    for layers, expected in (([nn.BatchNorm1d(3)], [4]), ([], [4, 1])):
        sizes = []
        setup = Setup(
            model=nn.Sequential(*layers, nn.Linear(3, 2)),
            inputs=torch.randn(5, 3),
            labels=torch.zeros(5, dtype=torch.long),
            optimizer=sgd(0.1),
            batch_size=4,
            passes=lambda epoch: [Pass(torch.arange(4), 0.0), Pass(torch.tensor([4]), 0.1)],
            loss=lambda step, sizes=sizes: sizes.append(len(step.indices)) or step.logits.mean(),
        )
        fit(setup, 0, most=1)
        assert sizes == expected


@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 2**31))
def test_shuffled_batches_hold_every_index_once(count, size, seed):
    indices = torch.arange(count) * 3
    with seeded(seed):
        batches = shuffled(indices, size)
    assert torch.equal(torch.cat(batches).sort().values, indices)
    assert all(len(each) == size for each in batches[:-1])
    with seeded(seed):
        assert all(map(torch.equal, batches, shuffled(indices, size)))


def test_a_defense_may_draw_batches_its_own_way():
    visited, asked = [], []

    def twice_the_first(indices, size):
        asked.append((indices.tolist(), size))
        return [indices[:2], indices[:0], indices[:2]]

    setup = replace(
        without_gradient(batch_size=4),
        draw=twice_the_first,
        passes=lambda _: [Pass(torch.tensor([7, 8, 9]), 0.0)],
        loss=lambda step: visited.append(step.indices.tolist()) or 0 * step.logits.sum(),
    )
    fit(setup, 0, most=1)
    assert asked == [([7, 8, 9], 4)]
    assert visited == [[7, 8], [7, 8]]  # an empty batch is no step


def test_the_rate_scales_the_learning_rate_by_epoch_and_fraction_done():
    fractions, rates = [], []
    optimizer = None

    def make(model):
        nonlocal optimizer
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        return optimizer

    def rate(epoch):
        fractions.append(epoch)
        return 1 / (1 + epoch)

    setup = replace(
        without_gradient(batch_size=4),
        optimizer=make,
        rate=rate,
        after_step=lambda: rates.append(optimizer.param_groups[0]["lr"]),
    )
    fit(setup, 0, most=2)
    np.testing.assert_allclose(fractions, [0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])
    # Of the first rate, not of the one before: factors do not pile up.
    np.testing.assert_allclose(rates, [0.2 / (1 + epoch) for epoch in fractions])


def test_a_lazy_optimizer_keeps_its_rate():
    with pytest.raises(OptionError, match="sparse first layer"):
        fit(replace(setup_of(sparse_input=True), rate=cosine(3)), 0, most=3)


def test_a_rate_of_zero_stands_still():
    setup = setup_of()
    at_one, before = [], weights(setup.model)
    halted = replace(setup, rate=lambda epoch: float(epoch < 1))
    for epoch in itertools.islice(epochs(halted, 0), 3):
        at_one.append((epoch, query.logits(setup.model, setup.inputs)))
    assert not torch.equal(weights(setup.model), before)
    torch.testing.assert_close(at_one[2][1], at_one[0][1], rtol=0, atol=0)


def test_a_cosine_falls_from_one_to_zero():
    rate = cosine(10)
    found = [rate(epoch) for epoch in (0, 2.5, 5, 10, 12)]
    np.testing.assert_allclose(found, [1, 0.5 + 0.25 * 2**0.5, 0.5, 0, 0], atol=1e-12)


def test_annealing_to_the_end_is_not_like_a_constant_rate():
    constant, annealed = setup_of(), setup_of()
    fit(constant, 0, most=3)
    fit(replace(annealed, rate=cosine(3)), 0, most=3)
    moved = [
        (weights(each.model) - weights(setup_of().model)).norm() for each in (constant, annealed)
    ]
    assert moved[1] < moved[0]
