from dataclasses import asdict, replace

import pytest
import torch
from scipy import sparse
from torch import nn
from torch.nn.functional import cross_entropy

from privet import query
from privet.errors import OptionError
from privet.fit import Pass, Setup, adam, fit, seeded
from privet.models import FullyConnected, load_weights
from privet.pruning import PRUNERS, keep_at
from privet.pruning.iterate import Plan, Round, prune_rounds
from privet.pruning.structural import Structural
from privet.seeds import derive

EXAMPLE = torch.zeros(1, 12)
PLAN = Plan((0.0, 0.3, 0.55, 0.8), epochs=4, patience=2)


@pytest.fixture(params=sorted(PRUNERS))
def pruner(request):
    return PRUNERS[request.param]


def samples(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    inputs = torch.randn(count, 12, generator=generator)
    inputs[torch.arange(count), labels] += 1.5
    return inputs, labels


def setup_of(seed: int = 0) -> Setup:
    with seeded(seed):
        model = FullyConnected(12, (20, 10), 4, dropout=0.2).build()
    return Setup(
        model,
        *samples(60, 0),
        adam(0.01),
        batch_size=16,
        weight_decay=1e-3,
        dev=samples(40, 1),
    )


def dense_sizes(pruner) -> dict[str, int]:
    return pruner.sizes(FullyConnected(12, (20, 10), 4, dropout=0.2).build(), EXAMPLE)


def run(setup, *, pruner, plan=PLAN, defend=lambda setup: setup, done=(), seed=3, rewind=None):
    """Start the rounds; yields each beside a copy of the weights it left."""
    rounds = prune_rounds(
        setup,
        plan,
        pruner=pruner,
        sizes=dense_sizes(pruner),
        defend=defend,
        seed=seed,
        rewind=rewind,
        done=done,
    )
    for each in rounds:
        yield each, {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}


def remaining(pruner, model: nn.Module) -> dict[str, int]:
    """Return what is left of each part of a network of dense tensors."""
    sizes = pruner.sizes(model, EXAMPLE)
    if pruner is PRUNERS["structural"]:
        return sizes
    return {name: int(model.get_parameter(name).count_nonzero()) for name in sizes}


def timeless(rounds) -> list[dict[str, object]]:
    return [asdict(replace(each, seconds=0.0)) for each in rounds]


def test_every_round_reaches_its_sparsity_exactly(pruner):
    setup, sizes = setup_of(), dense_sizes(pruner)
    reached = []
    for each, _ in run(setup, pruner=pruner):
        assert remaining(pruner, setup.model) == keep_at(sizes, each.sparsity)
        reached.append((each.round, each.sparsity))
    assert reached == list(enumerate(PLAN.sparsities))


def test_pruned_weights_stay_zero_on_sparse_inputs_too():
    magnitude = PRUNERS["magnitude"]
    inputs, labels = samples(60, 0)
    # Each feature in half of the samples: rows then owe the lazy optimizer updates.
    records = sparse.csr_array((inputs - inputs.median(0).values).relu().numpy())
    with seeded(0):
        model = FullyConnected(12, (20, 10), 4, sparse_input=True).build()
    setup = Setup(model, records, labels, adam(0.01), batch_size=2, dev=(records, labels))
    sizes = magnitude.sizes(model, EXAMPLE)
    rounds = prune_rounds(
        setup,
        Plan((0.3, 0.6), epochs=2, patience=2),
        pruner=magnitude,
        sizes=sizes,
        defend=lambda setup: setup,
        seed=0,
    )
    for each in rounds:
        assert remaining(magnitude, model) == keep_at(sizes, each.sparsity)


def test_a_defense_learns_how_many_epochs_were_spent(pruner):
    told: list[int] = []

    def note(setup: Setup) -> Setup:
        told.append(setup.first_epoch)
        return setup

    spent = 0
    for each, _ in run(setup_of(), pruner=pruner, defend=note):
        assert told[-1] == spent
        assert 1 <= each.epochs <= PLAN.epochs
        spent += each.epochs
    assert len(told) == len(PLAN.sparsities)


def test_rounds_that_stop_early_count_what_they_ran(monkeypatch):
    # One reading an epoch, and one of the training set at the end of each round.
    script = iter([0.5, 0.4, 0.4, 0.9, 0.1, 0.2, 0.3, 0.4, 0.8])
    monkeypatch.setattr(query, "accuracy", lambda *_: next(script))
    told: list[int] = []

    def note(setup: Setup) -> Setup:
        told.append(setup.first_epoch)
        return setup

    plan = Plan((0.0, 0.5), epochs=4, patience=2)
    rounds = [
        each for each, _ in run(setup_of(), pruner=PRUNERS["magnitude"], plan=plan, defend=note)
    ]
    assert [(each.epochs, each.dev_accuracy, each.train_accuracy) for each in rounds] == [
        (3, 0.4, 0.9),
        (4, 0.4, 0.8),
    ]
    assert told == [0, 3]


def test_the_defense_decides_what_is_trained_on(pruner):
    visited: set[int] = set()

    def window(setup: Setup) -> Setup:
        def loss(step):
            visited.update(step.indices.tolist())
            return setup.loss(step)

        return replace(setup, passes=lambda _: [Pass(torch.arange(5, 17), 0.0)], loss=loss)

    list(run(setup_of(), pruner=pruner, defend=window))
    assert visited == set(range(5, 17))


def test_accuracies_are_those_of_the_weights_that_remain(pruner):
    setup = setup_of()
    for each, _ in run(setup, pruner=pruner):
        assert each.train_accuracy == query.accuracy(setup.model, setup.inputs, setup.labels)
        assert each.dev_accuracy == query.accuracy(setup.model, *samples(40, 1))
        assert each.seconds > 0


@pytest.mark.parametrize("finished", range(len(PLAN.sparsities) + 1))
def test_a_resumed_run_is_the_unbroken_run_bit_for_bit(pruner, finished):
    unbroken = list(run(setup_of(), pruner=pruner))
    rounds = [each for each, _ in unbroken]

    resumed = setup_of(seed=99 if finished else 0)
    if finished:
        load_weights(resumed.model, unbroken[finished - 1][1])
    told: list[int] = []

    def note(setup: Setup) -> Setup:
        told.append(setup.first_epoch)
        return setup

    done = tuple(rounds[:finished])
    rest = list(run(resumed, pruner=pruner, defend=note, done=done))
    assert timeless(each for each, _ in rest) == timeless(rounds[finished:])
    assert told == [sum(each.epochs for each in rounds[:k]) for k in range(finished, len(rounds))]
    last = resumed.model.state_dict()
    assert all(torch.equal(last[name], tensor) for name, tensor in unbroken[-1][1].items())


def test_the_seed_decides_the_rounds(pruner):
    first, again, other = (
        list(run(setup_of(), pruner=pruner, seed=seed))[-1][1] for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_rounds_are_trained_only_when_asked_for(pruner):
    setup = setup_of()
    before = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    rounds = run(setup, pruner=pruner)
    assert all(torch.equal(before[k], now) for k, now in setup.model.state_dict().items())
    assert next(rounds)[0].round == 0
    after = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    rounds.close()
    assert all(torch.equal(after[k], now) for k, now in setup.model.state_dict().items())


def test_a_dense_round_is_plain_fine_tuning(pruner):
    pruned, plain = setup_of(), setup_of()
    (each, _), *_ = run(pruned, pruner=pruner, plan=Plan((0.0,), epochs=3, patience=9))
    assert each == Round(0, 0.0, each.train_accuracy, each.dev_accuracy, 3, each.seconds)
    # A sparsity of zero removes nothing: the weights are those of one call of fit.
    fit(plain, derive(3, "round", 0), most=3)
    assert all(
        torch.equal(one, other)
        for one, other in zip(pruned.model.parameters(), plain.model.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("epochs", "patience", "wrong"),
    [(0, 1, "epochs .*got 0"), (1, 0, "patience .*got 0"), (-1, None, "epochs .*got -1")],
)
def test_impossible_plans_are_refused(epochs, patience, wrong):
    with pytest.raises(OptionError, match=wrong):
        Plan((0.5,), epochs, patience)


# Rewinding


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def at_epoch(epoch: int) -> dict[str, torch.Tensor]:
    """Return the weights after so many epochs of dense training."""
    setup = setup_of()
    if epoch:
        fit(setup, 11, most=epoch)
    return state_of(setup.model)


@pytest.mark.parametrize("epoch", [0, 2])
def test_survivors_are_the_rewound_weights_right_after_each_pruning(epoch):
    magnitude, early, setup = PRUNERS["magnitude"], at_epoch(epoch), setup_of()
    fit(setup, 11, most=6)
    seen = []

    def look(each: Setup) -> Setup:
        seen.append(state_of(each.model))
        return each

    reached = [each.sparsity for each, _ in run(setup, pruner=magnitude, defend=look, rewind=early)]
    names = dense_sizes(magnitude)
    for sparsity, state in zip(reached, seen, strict=True):
        keep = magnitude.allot(setup.model, names, sparsity)
        for name, tensor in state.items():
            if name in names:
                assert int(tensor.count_nonzero()) == keep[name]
                assert torch.equal(tensor[tensor != 0], early[name][tensor != 0])
            else:
                assert torch.equal(tensor, early[name])


def test_what_survives_is_decided_by_the_trained_weights_not_the_rewound():
    magnitude, setup = PRUNERS["magnitude"], setup_of()
    fit(setup, 11, most=6)
    trained, seen = state_of(setup.model), []

    def look(each: Setup) -> Setup:
        seen.append(state_of(each.model))
        return each

    plan = Plan((0.5,), epochs=1, patience=None)
    list(run(setup, pruner=magnitude, plan=plan, defend=look, rewind=at_epoch(0)))
    for name, size in dense_sizes(magnitude).items():
        strongest = trained[name].abs().flatten().argsort(descending=True)[: size // 2]
        assert set(seen[0][name].flatten().nonzero()[:, 0].tolist()) == set(strongest.tolist())


def test_a_rewound_run_resumes_bit_for_bit():
    magnitude, early = PRUNERS["magnitude"], at_epoch(1)
    unbroken = list(run(setup_of(), pruner=magnitude, rewind=early))
    resumed = setup_of(seed=99)
    load_weights(resumed.model, unbroken[1][1])
    done = tuple(each for each, _ in unbroken[:2])
    rest = list(run(resumed, pruner=magnitude, rewind=early, done=done))
    assert timeless(each for each, _ in rest) == timeless(each for each, _ in unbroken[2:])
    last = resumed.model.state_dict()
    assert all(torch.equal(last[name], tensor) for name, tensor in unbroken[-1][1].items())


# Gradients


def test_a_pruner_that_asks_for_gradients_gets_those_of_the_training_loss():
    structural, setup = Structural(importance="taylor"), setup_of()
    asked = []

    class Watching:
        needs_gradients = True
        sizes, allot = structural.sizes, structural.allot

        def prune(self, model, keep, example):
            asked.append({n: p.grad.clone() for n, p in model.named_parameters()})
            return structural.prune(model, keep, example)

    plain = setup_of()
    plain.model.eval()
    cross_entropy(plain.model(plain.inputs), plain.labels, reduction="sum").backward()
    plan = Plan((0.5,), epochs=1, patience=None)
    list(run(setup, pruner=Watching(), plan=plan))
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(asked[0][name], parameter.grad, rtol=1e-4, atol=1e-5)
    assert remaining(PRUNERS["structural"], setup.model) == keep_at(dense_sizes(structural), 0.5)


def test_a_pruner_that_asks_for_none_sees_none():
    magnitude, seen = PRUNERS["magnitude"], []

    class Watching:
        needs_gradients = False
        sizes, allot = magnitude.sizes, magnitude.allot

        def prune(self, model, keep, example):
            seen.append([p.grad for p in model.parameters()])
            return magnitude.prune(model, keep, example)

    setup = setup_of()
    list(run(setup, pruner=Watching(), plan=Plan((0.5,), epochs=1, patience=None)))
    assert seen == [[None] * 6]
