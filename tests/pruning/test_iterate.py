from dataclasses import asdict, replace

import pytest
import torch
from scipy import sparse
from torch import nn

from privet import query
from privet.errors import OptionError
from privet.fit import Pass, Setup, adam, fit, seeded
from privet.models import FullyConnected, load_weights
from privet.pruning import PRUNERS, keep_at
from privet.pruning.iterate import Plan, Round, prune_rounds
from privet.seeds import derive

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
    return Setup(model, *samples(60, 0), adam(0.01), batch_size=16, weight_decay=1e-3)


def run(setup, *, pruner, plan=PLAN, defend=lambda setup: setup, done=(), seed=3):
    """Start the rounds; yields each beside a copy of the weights it left."""
    sizes = pruner.sizes(FullyConnected(12, (20, 10), 4, dropout=0.2).build())
    rounds = prune_rounds(
        setup,
        plan,
        pruner=pruner,
        sizes=sizes,
        defend=defend,
        dev=samples(40, 1),
        seed=seed,
        done=done,
    )
    for each in rounds:
        yield each, {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}


def remaining(pruner, model: nn.Module) -> dict[str, int]:
    if pruner is PRUNERS["structural"]:
        return {name: model.get_submodule(name).out_features for name in pruner.sizes(model)}
    return {
        name: int(model.get_submodule(name).weight.count_nonzero()) for name in pruner.sizes(model)
    }


def timeless(rounds) -> list[dict[str, object]]:
    return [asdict(replace(each, seconds=0.0)) for each in rounds]


def test_every_round_reaches_its_sparsity_exactly(pruner):
    setup = setup_of()
    sizes = pruner.sizes(setup.model)
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
    setup = Setup(model, records, labels, adam(0.01), batch_size=2)
    sizes = magnitude.sizes(model)
    rounds = prune_rounds(
        setup,
        Plan((0.3, 0.6), epochs=2, patience=2),
        pruner=magnitude,
        sizes=sizes,
        defend=lambda setup: setup,
        dev=(records, labels),
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


@pytest.mark.parametrize(("epochs", "patience"), [(0, 1), (1, 0), (-1, 5)])
def test_impossible_plans_are_refused(epochs, patience):
    with pytest.raises(OptionError, match=f"got {epochs} and {patience}"):
        Plan((0.5,), epochs, patience)
