"""The learned attacks: what they see, how they deal samples, and that they weigh both kinds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from evidence import make_evidence
from privet.attacks import ATTACKS, learned, networks
from privet.errors import EvidenceError
from privet.metrics import auc, balanced_accuracy
from privet.signals import Evidence, Signals

POSTERIORS = np.array([[0.7, 0.2, 0.06, 0.04], [0.1, 0.1, 0.5, 0.3]])
LABELS = np.array([3, 2])


def one_model(posteriors=POSTERIORS, labels=LABELS) -> Signals:
    logits = np.log(posteriors)[None] + 3.0  # softmax forgets what is added to all
    return Signals(logits, labels, sensitivity=posteriors[None] * 2)


def oracle(known: learned.Examples, held: learned.Examples, seed: int) -> learned.Scorer:
    return lambda inputs: inputs[:, 0].astype(float)


def test_posterior_is_the_floored_log_confidence():
    expected = [[np.log(p + learned.POSTERIOR_FLOOR) for p in row] for row in POSTERIORS]
    np.testing.assert_allclose(learned.posterior(one_model()), expected)


def test_top_three_by_hand():
    floor = learned.TOP_FLOOR
    expected = np.log(np.array([[0.7, 0.2, 0.06], [0.5, 0.3, 0.1]]) + floor)
    np.testing.assert_allclose(learned.top_three(one_model()), expected)


def test_top_three_ignores_the_label_and_the_order_of_classes():
    shuffled = one_model(POSTERIORS[:, [2, 0, 3, 1]], np.array([0, 0]))
    np.testing.assert_allclose(learned.top_three(shuffled), learned.top_three(one_model()))


def test_two_classes_have_a_top_two():
    assert learned.top_three(one_model(np.array([[0.9, 0.1]]), np.array([0]))).shape == (1, 2)


def test_posterior_and_label_ends_in_the_one_hot_true_class():
    features = learned.posterior_and_label(one_model())
    np.testing.assert_array_equal(features[:, :4], learned.posterior(one_model()))
    np.testing.assert_array_equal(features[:, 4:], [[0, 0, 0, 1], [0, 0, 1, 0]])


def test_samia_sees_posterior_sensitivity_and_label():
    features = learned.posterior_sensitivity_label(one_model())
    np.testing.assert_allclose(features[:, 4:8], POSTERIORS * 2)
    np.testing.assert_array_equal(features[:, 8:].argmax(axis=1), LABELS)


def test_samia_without_sensitivity_says_how_to_get_it():
    with pytest.raises(EvidenceError, match=r"no sensitivity; query it with privet\.query"):
        learned.posterior_sensitivity_label(replace(one_model(), sensitivity=None))


def test_part_takes_one_models_answers_on_some_samples():
    evidence, _ = make_evidence(leak=1.0, seed=0, samples=20)
    some = learned.part(evidence.shadow, 2, np.array([7, 3]))
    np.testing.assert_array_equal(some.logits[0], evidence.shadow.logits[2, [7, 3]])
    np.testing.assert_array_equal(some.sensitivity[0], evidence.shadow.sensitivity[2, [7, 3]])
    np.testing.assert_array_equal(some.labels, evidence.shadow.labels[[7, 3]])


def rows_of(members: np.ndarray, most: int = learned.MOST_ROWS) -> learned.Examples:
    """Rows whose features say which model and sample they are."""
    return learned.examples(
        lambda model, samples: np.column_stack([np.full(len(samples), model), samples]),
        members,
        np.random.default_rng(0),
        most=most,
    )


def test_examples_keep_each_row_with_its_membership():
    members = np.random.default_rng(1).random((3, 10)) < 0.5
    rows = rows_of(members)
    assert len(rows.members) == 30
    assert rows.inputs.dtype == np.float32
    models, samples = rows.inputs.astype(int).T
    np.testing.assert_array_equal(rows.samples, samples)
    np.testing.assert_array_equal(rows.members, members[models, samples])


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_rows_are_capped_and_keep_the_rarer_kind(share):
    members = np.random.default_rng(2).random((4, 1000)) < share
    rows = rows_of(members, most=800)
    assert len(rows.members) == 800
    for model, inside in enumerate(members):
        drawn = rows.inputs[:, 0] == model
        assert drawn.sum() == 200
        assert len(set(rows.samples[drawn])) == 200
        rarer = min(inside.sum(), (~inside).sum(), 100)
        assert min(rows.members[drawn].sum(), (~rows.members[drawn]).sum()) == rarer


def test_no_sample_is_learned_from_and_held_out():
    evidence, _ = make_evidence(leak=1.0, seed=0, samples=90)
    sides = []

    def spy(known, held, seed):
        sides.append((set(known.samples), set(held.samples), seed))
        return oracle(known, held, seed)

    learned.Learned(learned.posterior, spy, paper="").attack(evidence, np.random.default_rng(0))
    for known, held, _ in sides:
        assert not known & held
        assert len(known | held) == 90
    assert sorted(sample for _, held, _ in sides for sample in held) == list(range(90))
    assert len({seed for *_, seed in sides}) == learned.FOLDS


def test_folds_share_members_evenly():
    members = np.arange(300)[None] < 290  # ten nonmembers only
    fold = learned.deal(rows_of(members), 3, np.random.default_rng(0))
    assert sorted(np.bincount(fold[290:], minlength=3)) == [3, 3, 4]
    assert sorted(np.bincount(fold, minlength=3)) == [100, 100, 100]


def test_too_few_nonmembers_to_learn_from_is_an_error():
    members = np.arange(300)[None] < 298
    with pytest.raises(EvidenceError, match=r"each of 3 folds .* 298 members and 2 nonmembers"):
        learned.cross_fit(
            rows_of(members),
            np.zeros((5, 2), dtype=np.float32),
            learner=oracle,
            rng=np.random.default_rng(0),
        )


def test_learners_that_lean_are_levelled():
    """Three learners right up to a constant of their own must not spoil the common threshold."""
    rng = np.random.default_rng(0)
    members = rng.random(600) < 0.5
    inputs = (members + 0.1 * rng.normal(size=600))[:, None].astype(np.float32)
    leans = iter([-50.0, 0.0, 200.0])

    def leaning(known, held, seed):
        lean = next(leans)
        return lambda asked: asked[:, 0] + lean

    verdict = learned.cross_fit(
        learned.Examples(inputs, members, np.arange(600)), inputs, learner=leaning, rng=rng
    )
    assert balanced_accuracy(verdict.decisions, members) > 0.99


def unbalanced(seed: int, share: float) -> tuple[Evidence, np.ndarray]:
    """Evidence in which nearly everyone is a member, and the leak is small."""
    rng = np.random.default_rng(seed)

    def answers(models: int) -> tuple[Signals, np.ndarray]:
        inside = rng.random((models, 1500)) < share
        labels = rng.integers(4, size=1500)
        logits = rng.normal(size=(models, 1500, 4))
        logits[:, np.arange(1500), labels] += 1.5 * inside
        return Signals(logits, labels), inside

    target, truth = answers(1)
    shadow, members = answers(4)
    return Evidence(target, shadow, members), truth[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nn", "nn-top3", "nn-class", "boosting"])
def test_decisions_are_balanced_where_nearly_all_are_members(name):
    evidence, members = unbalanced(0, share=0.85)
    decisions = ATTACKS[name].attack(evidence, np.random.default_rng(0)).decisions
    # An attack trained on plain accuracy accuses everyone here.
    assert 0.1 < decisions.mean() < 0.8
    assert balanced_accuracy(decisions, members) > 0.55


@pytest.mark.slow
def test_the_label_helps():
    evidence, members = unbalanced(1, share=0.5)
    rng = np.random.default_rng
    blind = ATTACKS["nn-top3"].attack(evidence, rng(0))
    seeing = ATTACKS["nn-class"].attack(evidence, rng(0))
    assert auc(seeing.scores, members) > auc(blind.scores, members) + 0.05


def test_renaming_moves_all_blocks_alike_in_training_only():
    inputs = torch.arange(8.0).repeat(10, 1)
    layer = networks.Renamed(blocks=2)
    torch.manual_seed(0)
    first, second = layer.train()(inputs).split(4, dim=1)
    torch.testing.assert_close(second, first + 4)
    torch.testing.assert_close(first.sort(dim=1).values, inputs[:, :4])
    torch.testing.assert_close(first[:5], inputs[:5, :4])
    assert (first[5:] != inputs[5:, :4]).any()
    torch.testing.assert_close(layer.eval()(inputs), inputs)


def test_standardizing_survives_constant_and_extreme_features():
    inputs = np.column_stack([np.ones(50), np.random.default_rng(0).normal(5, 2, 50)])
    layer = networks.Standardize(inputs.astype(np.float32))
    out = layer(torch.from_numpy(inputs).float())
    assert (out[:, 0] == 0).all()
    assert out[:, 1].mean().item() == pytest.approx(0, abs=1e-5)
    assert out[:, 1].std(correction=0).item() == pytest.approx(1, abs=1e-4)
    far = layer(torch.tensor([[1e30, -1e30]]))
    np.testing.assert_array_equal(far, [[networks.FARTHEST, -networks.FARTHEST]])


def test_the_networks_have_the_published_shapes():
    linear = [m for m in networks.perceptron_network(30).modules() if hasattr(m, "in_features")]
    assert [m.out_features for m in linear] == [512, 256, 128, 2]
    network = networks.ClassTransformer(classes=7).eval()
    assert len(network.encode.layers) == 3
    layer = network.encode.layers[0]
    assert (layer.self_attn.embed_dim, layer.self_attn.num_heads) == (64, 4)
    assert layer.linear1.out_features == 128
    assert network(torch.zeros(5, 21)).shape == (5, 2)


def test_a_token_holds_what_belongs_to_its_class():
    network = networks.ClassTransformer(classes=4).eval()
    seen = []
    network.project.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network(torch.arange(12.0)[None])
    np.testing.assert_array_equal(seen[0][0], [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]])


def test_attacks_leave_torch_as_they_found_it():
    evidence, _ = make_evidence(leak=6.0, seed=0, samples=60)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    ATTACKS["nn-top3"].attack(evidence, np.random.default_rng(0))
    assert torch.get_num_threads() == threads
    torch.testing.assert_close(torch.get_rng_state(), state)
