import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from torch import nn
from torch.nn.functional import cross_entropy

from privet.errors import DataError, OptionError
from privet.lazy_adam import LazyAdam
from privet.lazy_kernels import Rule, owed
from privet.sparse import SparseDropout, SparseInputLinear, feature_rows, take

FEATURES, HIDDEN, CLASSES, BATCH = 60, 24, 5, 16
NEVER, EARLY = slice(50, 60), slice(40, 50)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def records_of(samples, rng, *, features=FEATURES, density=0.08):
    mask = rng.random((samples, features)) < density
    return sparse.csr_array((mask * rng.uniform(0.2, 1, mask.shape)).astype(np.float32))


def task(steps, rng):
    """Batches in which features 50-59 never occur and 40-49 only in the first 30 steps."""
    records = records_of(steps * BATCH, rng).toarray()
    records[:, NEVER] = 0
    records[30 * BATCH :, EARLY] = 0
    labels = torch.from_numpy(rng.integers(0, CLASSES, steps * BATCH))
    groups = np.arange(steps * BATCH).reshape(steps, BATCH)
    return sparse.csr_array(records), labels, groups


def net(first, *, seed=3):
    torch.manual_seed(seed)
    return nn.Sequential(first(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


def train(model, optimizer, *, inputs, labels, groups):
    for group in groups:
        optimizer.zero_grad()
        cross_entropy(model(take(inputs, group)), labels[group]).backward()
        optimizer.step()


def trained_pair(steps, rng):
    """Train one net lazily on CSR and its twin by torch's dense Adam, on equal batches."""
    records, labels, groups = task(steps, rng)
    lazy, dense = net(SparseInputLinear), net(nn.Linear)
    optimizers = LazyAdam(lazy, lr=2e-3), torch.optim.Adam(dense.parameters(), 2e-3)
    whole = torch.from_numpy(records.toarray())
    train(lazy, optimizers[0], inputs=records, labels=labels, groups=groups)
    train(dense, optimizers[1], inputs=whole, labels=labels, groups=groups)
    return lazy, dense, *optimizers


def everything():
    """Return a batch in which every feature occurs, the long unseen and never seen included."""
    return sparse.csr_array(np.eye(FEATURES, dtype=np.float32) + np.float32(0.5))


def assert_same_logits(lazy, dense):
    with torch.no_grad():
        got = lazy(take(everything(), np.arange(FEATURES)))
        want = dense(torch.from_numpy(everything().toarray()))
    assert_allclose(got, want, rtol=1e-3, atol=1e-4)


# Batches and dropout


def test_take_gives_the_same_rows_in_both_layouts(rng):
    records = records_of(30, rng)
    chosen = torch.tensor([5, 0, 29, 5])
    dense = torch.from_numpy(records.toarray())
    assert take(records, chosen).layout == torch.sparse_csr
    for indices in (chosen, chosen.numpy()):
        assert torch.equal(take(records, indices).to_dense(), take(dense, indices))
    assert take(records.astype(np.float64), chosen).dtype == torch.float32


def test_take_names_a_layout_it_cannot_take_rows_of(rng):
    with pytest.raises(DataError, match=r"csc_array, convert it with \.tocsr"):
        take(records_of(3, rng).tocsc(), np.array([0]))


def test_sparse_dropout_drops_entries_and_scales_the_rest(rng):
    torch.manual_seed(0)
    batch = take(records_of(2000, rng), np.arange(2000))
    dropped = SparseDropout(0.3)(batch)
    kept = dropped.values() != 0
    assert_allclose(dropped.values()[kept], batch.values()[kept] / 0.7, rtol=1e-6)
    assert abs(kept.float().mean().item() - 0.7) < 4 * math.sqrt(0.21 / kept.numel())
    assert torch.equal(dropped.col_indices(), batch.col_indices())


def test_sparse_dropout_is_the_identity_in_evaluation_and_dropout_on_dense_input(rng):
    dropout = SparseDropout(0.5)
    dense = take(records_of(8, rng), np.arange(8)).to_dense()
    torch.manual_seed(1)
    ours = dropout(dense)
    torch.manual_seed(1)
    assert torch.equal(ours, nn.Dropout(0.5)(dense))
    batch = take(records_of(8, rng), np.arange(8))
    assert torch.equal(dropout.eval()(batch).values(), batch.values())


# The layer without LazyAdam


@pytest.mark.parametrize("bias", [True, False])
def test_layer_and_its_gradients_equal_linear(rng, bias):
    batch = take(records_of(BATCH, rng), np.arange(BATCH))
    labels = torch.from_numpy(rng.integers(0, CLASSES, BATCH))
    nets = []
    for kind, inputs in ((SparseInputLinear, batch), (nn.Linear, batch.to_dense())):
        torch.manual_seed(2)
        model = nn.Sequential(
            kind(FEATURES, HIDDEN, bias=bias), nn.Tanh(), nn.Linear(HIDDEN, CLASSES)
        )
        cross_entropy(model(inputs), labels).backward()
        torch.optim.SGD(model.parameters(), 0.1).step()
        nets.append(model)
    for ours, torchs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert_allclose(ours.grad, torchs.grad, rtol=1e-4, atol=1e-7)
        assert_allclose(ours.detach(), torchs.detach(), rtol=1e-5, atol=1e-7)


def test_layer_keeps_features_contiguous_and_the_usual_shape(rng):
    layer = SparseInputLinear(FEATURES, HIDDEN)
    before = layer.weight.detach().clone()
    rows = feature_rows(layer.weight)
    assert layer.weight.shape == (HIDDEN, FEATURES)
    assert rows.flags.c_contiguous
    assert torch.equal(layer.weight, before)
    rows[4] = 9
    assert (layer.weight[:, 4] == 9).all()


def test_double_precision_layer_multiplies_densely(rng):
    layer = SparseInputLinear(FEATURES, HIDDEN).double()
    records = records_of(3, rng)
    batch = take(records, np.arange(3)).double()
    assert torch.equal(layer(batch), layer(torch.from_numpy(records.toarray()).double()))


# Replayed updates


def zero_gradient_steps(mean, square, *, since, now, rule):
    """Adam as published, in double precision, on one weight whose gradient is zero."""
    weight = 0.0
    for step in range(since + 1, now + 1):
        mean, square = rule.beta1 * mean, rule.beta2 * square
        unbiased = square / (1 - rule.beta2**step)
        weight -= rule.lr * mean / (1 - rule.beta1**step) / (math.sqrt(unbiased) + rule.eps)
    return weight, mean, square


@settings(deadline=None)
@given(
    since=st.integers(1, 3000),
    gap=st.integers(0, 2000),
    root=st.floats(-6, 2),
    betas=st.sampled_from([(0.9, 0.999), (0.0, 0.9), (0.5, 0.99), (0.9, 0.98)]),
)
def test_replay_equals_explicit_steps(since, gap, root, betas):
    rule = Rule(1e-3, *betas, 1e-8)
    mean, square = 0.3 * 10**root, 10 ** (2 * root)
    debts = owed(np.array([since]), since + gap, rule)
    weight, faded, shrunk = zero_gradient_steps(
        mean, square, since=since, now=since + gap, rule=rule
    )
    moved = -debts.gain[0] * mean / (math.sqrt(square) + debts.eps[0])
    # Very long gaps with a short second moment leave eps in charge, of updates near zero.
    assert moved == pytest.approx(weight, rel=3e-4, abs=1e-9)
    assert debts.fade1[0] * mean == pytest.approx(faded, rel=1e-5, abs=1e-11 * mean)
    assert debts.fade2[0] * square == pytest.approx(shrunk, rel=1e-5, abs=1e-37)


def test_replay_counts_epsilon_to_first_order():
    rule = Rule(1e-3, 0.9, 0.999, 1e-8)
    root = 50 * rule.eps
    debts = owed(np.array([400]), 600, rule)
    weight, _, _ = zero_gradient_steps(root, root**2, since=400, now=600, rule=rule)
    assert -debts.gain[0] * root / (root + debts.eps[0]) == pytest.approx(weight, rel=1e-4)
    assert -debts.gain[0] == pytest.approx(weight, rel=3e-2)
    assert -debts.gain[0] != pytest.approx(weight, rel=5e-3)


def test_rows_without_gradient_so_far_owe_nothing():
    debts = owed(np.array([0, 9]), 9, Rule(1e-3, 0.9, 0.999, 1e-8))
    assert_array_equal(debts.gain, 0)
    assert (debts.eps > 0).all()


# Training


def test_lazy_training_equals_dense_adam(rng):
    lazy, dense, optimizer, reference = trained_pair(400, rng)
    assert_same_logits(lazy, dense)
    optimizer.finish()
    for ours, torchs in zip(lazy.parameters(), dense.parameters(), strict=True):
        assert_allclose(ours.detach(), torchs.detach(), rtol=1e-3, atol=1e-4)
    assert reference.state[dense[0].weight]["step"] == 400


def test_weights_of_features_that_never_occur_stay_exactly(rng):
    lazy, _, optimizer, _ = trained_pair(40, rng)
    optimizer.finish()
    initial = net(SparseInputLinear)
    assert torch.equal(lazy[0].weight[:, NEVER], initial[0].weight[:, NEVER])
    assert not torch.equal(lazy[0].weight[:, EARLY], initial[0].weight[:, EARLY])


def test_outputs_are_right_before_any_flush_and_leave_the_weights_alone(rng):
    lazy, dense, optimizer, _ = trained_pair(60, rng)
    behind = lazy[0].weight.detach().clone()
    assert_same_logits(lazy, dense)
    assert torch.equal(lazy[0].weight, behind)
    with torch.no_grad():
        early = lazy(torch.from_numpy(everything().toarray()))
    assert not torch.equal(lazy[0].weight, behind)
    optimizer.flush()
    with torch.no_grad():
        assert_allclose(lazy(take(everything(), np.arange(FEATURES))), early, rtol=1e-4, atol=1e-6)


def test_training_goes_on_after_a_flush(rng):
    records, labels, groups = task(120, rng)
    whole = torch.from_numpy(records.toarray())
    lazy, dense = net(SparseInputLinear), net(nn.Linear)
    ours, torchs = LazyAdam(lazy, lr=2e-3), torch.optim.Adam(dense.parameters(), 2e-3)
    for part in np.split(groups, 4):
        train(lazy, ours, inputs=records, labels=labels, groups=part)
        train(dense, torchs, inputs=whole, labels=labels, groups=part)
        ours.flush()
        assert_allclose(lazy[0].weight.detach(), dense[0].weight.detach(), rtol=1e-3, atol=1e-4)


def test_gradients_add_up_until_the_step(rng):
    records, labels, groups = task(20, rng)
    whole = torch.from_numpy(records.toarray())
    lazy, dense = net(SparseInputLinear), net(nn.Linear)
    optimizers = LazyAdam(lazy, lr=2e-3), torch.optim.Adam(dense.parameters(), 2e-3)
    for pair in groups.reshape(-1, 2, BATCH):
        for model, optimizer, inputs in zip(
            (lazy, dense), optimizers, (records, whole), strict=True
        ):
            optimizer.zero_grad()
            for group in pair:
                cross_entropy(model(take(inputs, group)), labels[group]).backward()
            optimizer.step()
    assert_same_logits(lazy, dense)


def test_zero_grad_forgets_and_a_step_without_gradients_does_nothing(rng):
    records, labels, groups = task(3, rng)
    lazy, dense = net(SparseInputLinear), net(nn.Linear)
    optimizer = LazyAdam(lazy, lr=2e-3)
    cross_entropy(lazy(take(records, groups[0])), labels[groups[0]]).backward()
    optimizer.zero_grad()
    optimizer.step()
    assert_same_logits(lazy, dense)


def test_state_dict_is_up_to_date_and_loading_cancels_what_is_owed(rng):
    lazy, dense, _, _ = trained_pair(60, rng)
    state = lazy.state_dict()
    assert_allclose(state["0.weight"], dense.state_dict()["0.weight"], rtol=1e-3, atol=1e-4)
    fresh = net(SparseInputLinear, seed=11)
    lazy.load_state_dict(fresh.state_dict())
    assert_same_logits(lazy, fresh)


def test_a_deep_copy_is_up_to_date_and_independent(rng):
    lazy, dense, optimizer, _ = trained_pair(60, rng)
    twin = copy.deepcopy(lazy)
    optimizer.flush()
    assert_same_logits(twin, dense)
    assert twin[0].keeper is not lazy[0].keeper


def test_models_without_a_sparse_layer_get_plain_adam(rng):
    records, labels, groups = task(5, rng)
    inputs = torch.from_numpy(records.toarray())
    ours, torchs = net(nn.Linear), net(nn.Linear)
    train(ours, LazyAdam(ours, lr=2e-3), inputs=inputs, labels=labels, groups=groups)
    adam = torch.optim.Adam(torchs.parameters(), 2e-3, fused=True)
    train(torchs, adam, inputs=inputs, labels=labels, groups=groups)
    assert torch.equal(ours[0].weight, torchs[0].weight)


# Pruning


def prune(model, idxs, *, features):
    tp = pytest.importorskip("torch_pruning")
    model.eval()
    graph = tp.DependencyGraph().build_dependency(model, torch.rand(2, features))
    graph.get_pruning_group(model[1], tp.prune_linear_out_channels, idxs).prune()


def test_depgraph_prunes_to_exact_widths_and_training_resumes(rng):
    torch.manual_seed(5)
    model = nn.Sequential(
        SparseDropout(0.3), SparseInputLinear(300, 40), nn.ReLU(), nn.Dropout(), nn.Linear(40, 5)
    )
    records = records_of(64, rng, features=300)
    labels = torch.from_numpy(rng.integers(0, 5, 64))
    groups = np.arange(64).reshape(4, 16)
    optimizer = LazyAdam(model, lr=1e-3)
    train(model, optimizer, inputs=records, labels=labels, groups=groups)
    optimizer.finish()
    kept = np.sort(rng.permutation(40)[:7])
    x = torch.from_numpy(records.toarray())
    hidden = torch.relu(x @ model[1].weight[kept].T + model[1].bias[kept])
    want = (hidden @ model[4].weight[:, kept].T + model[4].bias).detach()

    prune(model, np.setdiff1d(np.arange(40), kept).tolist(), features=300)
    assert (model[1].out_features, model[4].in_features) == (7, 7)
    with torch.no_grad():
        assert_allclose(model(take(records, np.arange(64))), want, rtol=1e-4, atol=1e-6)
    assert model[1].weight.t().is_contiguous()
    train(model, LazyAdam(model, lr=1e-3), inputs=records, labels=labels, groups=groups)


def test_pruning_while_updates_are_held_back_is_refused_at_the_next_use(rng):
    lazy, _, optimizer, _ = trained_pair(3, rng)
    lazy[0].weight = nn.Parameter(lazy[0].weight.detach()[:7].clone())
    with pytest.raises(OptionError, match=r"replaced while .* call the optimizer's finish\(\)"):
        lazy(take(everything(), np.arange(2)))
    with pytest.raises(OptionError, match="replaced while"):
        optimizer.finish()


def test_an_optimizer_whose_weights_were_replaced_after_a_flush_is_spent(rng):
    lazy, _, optimizer, _ = trained_pair(3, rng)
    prune(nn.Sequential(nn.Identity(), *lazy), [0, 3], features=FEATURES)
    logits = lazy(take(everything(), np.arange(4)))
    assert lazy[0].keeper is None
    cross_entropy(logits, torch.zeros(4, dtype=torch.long)).backward()
    with pytest.raises(OptionError, match="make a new one"):
        optimizer.step()


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": 0.1}, "weight_decay must be 0.*0.1"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"eps": 0.0}, "eps=0.0"),
        ({"lr": math.nan}, "lr=nan"),
        ({"betas": (0.9, 0.5)}, "0.9, 0.5"),
        ({"betas": (0.9, 1.0)}, "0.9, 1.0"),
    ],
)
def test_settings_out_of_range_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        LazyAdam(net(SparseInputLinear), **{"lr": 1e-3, **options})


def test_weights_it_cannot_train_are_named():
    with pytest.raises(OptionError, match=r"float64 on cpu"):
        LazyAdam(net(SparseInputLinear).double(), lr=1e-3)


def test_a_finished_optimizer_is_spent_and_any_other_may_follow(rng):
    lazy, dense, optimizer, _ = trained_pair(3, rng)
    optimizer.finish()
    with pytest.raises(OptionError, match="make a new one"):
        optimizer.step()
    records, labels, groups = task(5, rng)
    inputs = torch.from_numpy(records.toarray())
    for model, data in ((lazy, records), (dense, inputs)):
        sgd = torch.optim.SGD(model.parameters(), 0.1)
        train(model, sgd, inputs=data, labels=labels, groups=groups)
    assert_same_logits(lazy, dense)


def test_weight_decay_set_on_the_way_is_refused(rng):
    optimizer = LazyAdam(net(SparseInputLinear), lr=1e-3)
    optimizer.param_groups[0]["weight_decay"] = 1e-4
    with pytest.raises(OptionError, match=r"weight_decay must be 0.*0\.0001"):
        optimizer.step()


def test_applies_to_models_with_a_trainable_float32_sparse_layer():
    assert LazyAdam.applies_to(net(SparseInputLinear))
    assert not LazyAdam.applies_to(net(nn.Linear))
    assert not LazyAdam.applies_to(net(SparseInputLinear).double())
    assert not LazyAdam.applies_to(net(SparseInputLinear).requires_grad_(False))


def test_a_dense_batch_in_training_is_refused(rng):
    model = net(SparseInputLinear)
    optimizer = LazyAdam(model, lr=1e-3)
    model(torch.rand(2, FEATURES)).sum().backward()
    with pytest.raises(OptionError, match="CSR batches"):
        optimizer.step()
    optimizer.zero_grad()
