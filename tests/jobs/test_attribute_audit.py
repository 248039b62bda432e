"""The attribute audit: from known users to judged guesses, in Python and on the command line."""

import json

import numpy as np
import pytest
from scipy import sparse

from privet.attacks.attribute import ATTRIBUTE_ATTACKERS, Majority
from privet.cli import run
from privet.data.registry import load
from privet.data.synthetic import synthetic_ratings
from privet.device import Bundle, Network, write_bundle
from privet.errors import DataError, OptionError
from privet.jobs import attribute_evaluation
from privet.jobs.attribute_audit import audit_attribute, audit_attribute_data, choose_attackers
from privet.jobs.attribute_training import AttributeSettings, split_users
from privet.jobs.protect_attribute import build_attribute
from privet.jobs.stages import open_run
from privet.metrics import clopper_pearson

LIGHT = ("logistic", "majority")


@pytest.fixture(scope="module")
def people():
    table = synthetic_ratings(3, users=400, features=40, classes=3)
    return (table.inputs, table.labels), (table.test.inputs, table.test.labels)


def figures(found):
    return [(each["attacker"], each["accuracy"]) for each in found["attackers"]]


def test_what_is_told(people):
    known, asked = people
    found = audit_attribute(known, asked, attackers=LIGHT, seed=7)
    assert (found["users"], found["known_users"], found["classes"]) == (100, 400, 3)
    assert found["seed"] == 7
    assert [each["attacker"] for each in found["attackers"]] == list(LIGHT)
    common = np.bincount(known[1]).argmax()
    assert found["majority_accuracy"] == (asked[1] == common).mean()
    assert figures(found)[1][1] == found["majority_accuracy"] < figures(found)[0][1]
    for each in found["attackers"]:
        assert each["paper"] == ATTRIBUTE_ATTACKERS[each["attacker"]].paper
        interval = clopper_pearson(round(100 * each["accuracy"]), 100)
        assert (each["low"], each["high"]) == interval
        assert each["seconds"] >= 0
    assert json.loads(json.dumps(found)) == found


def test_layouts_and_types_do_not_matter(people):
    (records, labels), (questions, truth) = people
    expected = figures(audit_attribute(*people, attackers=LIGHT))
    wide = records.copy()
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    for known, asked in (
        ((wide, labels.astype("i2")), (questions, truth)),
        ((records.tocoo(), labels.tolist()), (questions.toarray(), truth.astype(float))),
        ((records, labels), (sparse.csc_matrix(questions), truth)),
    ):
        found = audit_attribute(known, asked, attackers=LIGHT)
        assert figures(found) == expected


def test_sparse_questions_to_who_learned_from_dense_records(people):
    (records, labels), asked = people
    named = ("forest", "majority")
    dense = audit_attribute((records.toarray(), labels), asked, attackers=named)
    assert figures(dense) == figures(audit_attribute(*people, attackers=named))


def test_entries_that_are_stored_twice_are_one(people):
    (records, labels), asked = people
    twice = sparse.csr_array(
        (
            np.repeat(records.data / 2, 2),
            np.repeat(records.indices, 2),
            2 * records.indptr,
        ),
        shape=records.shape,
    )
    before = twice.data.copy()
    found = audit_attribute((twice, labels), asked, attackers="forest")
    assert figures(found) == figures(audit_attribute(*people, attackers="forest"))
    assert np.array_equal(twice.data, before)


def test_attackers_of_ones_own(people):
    found = audit_attribute(*people, attackers={"mine": Majority("unpublished")})
    assert figures(found) == [("mine", found["majority_accuracy"])]


def test_choosing_attackers():
    assert list(choose_attackers("all", protected=True)) == list(ATTRIBUTE_ATTACKERS)
    assert choose_attackers("all").keys() == ATTRIBUTE_ATTACKERS.keys() - {"adversarial"}
    assert list(choose_attackers(name for name in ("forest", "nn"))) == ["forest", "nn"]
    assert choose_attackers("nn", hidden=12)["nn"].hidden == 12
    assert choose_attackers("region", hidden=12)["region"].network.hidden == 12
    assert choose_attackers("nn-sgd")["nn-sgd"].hidden == 4000
    assert choose_attackers("nn-sgd", hidden=None)["nn-sgd"].hidden == 30_000
    with pytest.raises(OptionError, match=r"adversarial .* --bundle"):
        choose_attackers(["nn", "adversarial"])
    for names in ("tree", [], ["nn", "tree"], ""):
        with pytest.raises(OptionError, match="majority or all"):
            choose_attackers(names)
    with pytest.raises(OptionError, match="0"):
        choose_attackers("all", hidden=0)


def small(records=4, features=3, high=1.0):
    return np.full((records, features), high), np.arange(records) % 2


@pytest.mark.parametrize(
    ("known", "asked", "word"),
    [
        (small(), small(features=2), "2 features"),
        (small(), (small()[0], np.arange(3)), r"\(3,\)"),
        (small(), (small()[0], np.array([0, 1, 2, 1])), "0..1"),
        (small(), (small()[0], np.array([0, 1, -1, 1])), "-1"),
        (small(), (small()[0], np.array([0, 1, 0.5, 1])), "0.5"),
        (small(), (small()[0], np.array(["a", "b", "a", "b"])), "<U1"),
        (small(), small(records=0), r"\(0, 3\)"),
        (small(high=1.5), small(), "1.5"),
        (small(high=np.nan), small(), "nan"),
        ((sparse.csr_array(small(high=-0.5)[0]), small()[1]), small(), "-0.5"),
        ((small()[0], np.zeros(4, int)), small(), "nothing to guess|0..0"),
        ((small()[0], np.full(4, 3)), small(), "nothing to guess"),
        ((np.zeros(4), np.arange(4)), small(), r"\(4,\)"),
        ((np.array([["x"]]), np.arange(1)), small(), "<U1"),
        ([[1, 2]], small(), r"\(X, y\)"),
    ],
)
def test_users_that_do_not_fit_are_refused(known, asked, word):
    with pytest.raises(DataError, match=word) as refused:
        audit_attribute(known, asked, attackers="majority")
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_network_is_the_one_that_judges_a_build(tmp_path):
    table = synthetic_ratings(3, users=300, features=40, classes=3)
    settings = AttributeSettings(hidden=8, attacker_hidden=24, speedups=(2.0,), budgets=(2.0,))
    users = split_users(table, settings, 5)
    built = build_attribute(users, settings, seed=5, run=open_run(tmp_path, "protect", {}))
    found = audit_attribute(
        (table.inputs, table.labels),
        (table.test.inputs, table.test.labels),
        attackers=choose_attackers("nn", hidden=24),
        seed=5,
    )
    assert found["attackers"][0]["accuracy"] == built["attack"]["unprotected_accuracy"]
    assert found["attackers"][0]["accuracy"] != built["attack"]["majority_accuracy"]


def test_the_defense_reaches_who_learns_from_it(people):
    seen = []

    def protect(records, seed):
        seen.append(records.shape)
        return records

    attackers = choose_attackers(["adversarial", "majority"], hidden=8, protected=True)
    found = audit_attribute(*people, attackers=attackers, protect=protect)
    assert set(seen) == {people[0][0].shape}
    assert figures(found)[0][1] > figures(found)[1][1]
    with pytest.raises(OptionError, match="--bundle"):
        audit_attribute(*people, attackers=attackers)
    with pytest.raises(OptionError, match="--bundle"):
        audit_attribute(*people, attackers="adversarial")


def asked_of(*arguments, capsys):
    capsys.readouterr()
    status = run(["protect", "attack", *map(str, arguments)])
    return status, *capsys.readouterr()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table with named classes, one without, and a table of pictures."""
    folder = tmp_path_factory.mktemp("attribute-audit")
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    records = np.column_stack([labels, rng.integers(2, size=200) * 0.6])
    cities = np.array(["oslo", "rome"])[labels]
    rows = [f"{a:g},{b:g},{city}" for (a, b), city in zip(records, cities, strict=True)]
    (folder / "known.csv").write_text("\n".join(["pasta,fish,label", *rows]) + "\n")
    (folder / "asked.csv").write_text("fish,pasta\n0,1\n0.6,0\n0,1\n0.6,1\n")
    (folder / "asked.txt").write_text("0:1\n1:0.6\n0:1\n0:1 1:0.6\n")
    np.savez(folder / "asked.npz", X=np.array([[1, 0], [0, 0.6], [1, 0], [1, 0.6]]))
    (folder / "cities.txt").write_text("rome\noslo\nrome\noslo\n")
    (folder / "tokyo.txt").write_text("rome\noslo\ntokyo\noslo\n")
    (folder / "three.txt").write_text("rome\noslo\nrome\n")
    (folder / "beyond.txt").write_text("0:1.5\n")
    (folder / "one.txt").write_text("0\n")
    np.savez(folder / "high.npz", X=10 * records, y=labels)
    np.savez(folder / "pictures.npz", X=np.zeros((20, 3, 2, 2)), y=np.arange(20) % 2)
    return folder


@pytest.mark.parametrize("name", ["asked.csv", "asked.txt", "asked.npz"])
def test_files_of_every_kind_are_asked(name, folder, capsys):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    files = [folder / name, "--labels", folder / "cities.txt", "--known", folder / "known.csv"]
    status, out, _ = asked_of(*files, "--attackers", "logistic,forest", "--json", capsys=capsys)
    assert status == 0
    found = json.loads(out)
    assert (found["dataset"], found["users"], found["known_users"]) == ("known", 4, 200)
    # Pasta is Rome: right but for the last, who eats it in Oslo. The header's order counts.
    assert figures(found) == [("logistic", 0.75), ("forest", 0.75)]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_without_a_file_a_fifth_is_held_out(folder, capsys):
    _, out, _ = asked_of("--known", folder / "known.csv", "--attackers", "forest", "--json",
                         capsys=capsys)  # fmt: skip
    found = json.loads(out)
    assert (found["users"], found["known_users"]) == (40, 160)
    assert figures(found) == [("forest", 1.0)]


def test_a_data_set_with_test_users_is_asked_about_them(capsys):
    command = ["--known", "synthetic-ratings", "--attackers", "majority,logistic", "--seed", "2"]
    status, out, _ = asked_of(*command, "--json", capsys=capsys)
    found = json.loads(out)
    test = load("synthetic-ratings").test
    assert (status, found["users"], found["known_users"]) == (0, len(test), 4000)
    assert figures(found)[0][1] == found["majority_accuracy"]
    assert figures(found)[1][1] > 0.5
    assert found["seed"] == 2
    assert "seconds" in found["attackers"][0]


def bundle_for(path, *, features=2, names=("pasta", "fish"), kind="attribute"):
    """A bundle that says class 1, Rome, by feature 0."""
    sizes = ((features, 2), (2, 2)) if kind == "attribute" else ((3, 2), (2, 1))
    rng = np.random.default_rng(0)
    network = Network(
        tuple(rng.standard_normal((after, before)).astype("f4") for before, after in sizes),
        tuple(np.zeros(after, "f4") for _, after in sizes),
    )
    ratings = kind == "attribute"
    write_bundle(Bundle(kind, network, feature_names=names if ratings else None), path)
    return path


def test_an_attacker_learns_from_a_bundle(folder, tmp_path, monkeypatch, capsys):
    bundle = bundle_for(tmp_path / "any.safetensors")
    made, searched = attribute_evaluation.releases_by_budget, []

    def spy(network, records, **options):
        searched.append((records.shape, options["budgets"]))
        return made(network, records, **options)

    monkeypatch.setattr(attribute_evaluation, "releases_by_budget", spy)
    command = ["--known", folder / "known.csv", "--attacker-hidden", "16", "--json"]
    command += ["--bundle", bundle, "--budget", "1.5", "--attackers", "adversarial,nn"]
    status, out, err = asked_of(*command, capsys=capsys)
    assert status == 0, err
    assert [name for name, _ in figures(json.loads(out))] == ["adversarial", "nn"]
    # The known users' records, all four draws of them from one search.
    assert searched == [((160, 2), [1.5])]


@pytest.mark.parametrize(
    ("options", "arguments", "word"),
    [
        ({}, "--budget 0", "budget"),
        ({}, "", "--budget"),
        ({"features": 3, "names": None}, "--budget 1", "3 features"),
        ({"names": ("fish", "pasta")}, "--budget 1", "order"),
        ({"kind": "membership"}, "--budget 1", "membership"),
    ],
)
def test_bundles_that_do_not_fit_are_refused(options, arguments, word, folder, tmp_path, capsys):
    bundle = bundle_for(tmp_path / "any.safetensors", **options)
    command = ["--known", folder / "known.csv", "--attackers", "adversarial", "--bundle", bundle]
    status, out, err = asked_of(*command, *arguments.split(), capsys=capsys)
    last = err.splitlines()[-1]
    assert (status, out) == (2, "")
    assert last.startswith("privet: ")
    assert word in last


def test_for_people_it_is_a_table(folder, capsys):
    status, out, _ = asked_of("--known", folder / "known.csv", "--attackers", "majority",
                              capsys=capsys)  # fmt: skip
    assert status == 0
    assert "majority" in out
    assert "40 users" in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("--known known.csv --build asked.csv", "--build"),
        ("asked.csv --labels cities.txt", "--known"),
        ("asked.csv --known known.csv", "--labels"),
        ("--labels cities.txt --known known.csv", "RECORDS"),
        ("--build run", "RECORDS"),
        ("asked.csv --labels cities.txt --build run --attackers nn", "--attackers"),
        ("--known known.csv --attackers adversarial", "--bundle"),
        ("--known known.csv --budget 2", "--bundle"),
        ("--known known.csv --bundle cities.txt --budget 2", "cities.txt"),
        ("asked.csv --labels cities.txt --build run --bundle cities.txt", "--bundle"),
        ("--known known.csv --attackers tree", "tree"),
        ("--known known.csv --attackers ,", "empty"),
        ("--known known.csv --attacker-hidden 0", "0"),
        ("--known known.csv --seed -1", "seed"),
        ("--known high.npz", "10.0"),
        ("--known pictures.npz", "images"),
        ("--known nowhere.csv", "nowhere.csv"),
        ("asked.csv --labels tokyo.txt --known known.csv", "line 3"),
        ("asked.csv --labels nowhere.txt --known known.csv", "nowhere.txt"),
        ("asked.csv --labels three.txt --known known.csv", "(3,)"),
        ("known.csv --labels cities.txt --known known.csv", "known.csv"),
        ("beyond.txt --labels one.txt --known known.csv", "1.5"),
        ("asked.txt --labels one.txt --known synthetic-ratings", "(4, 500)"),
    ],
)
def test_mistakes_are_one_line(arguments, word, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    status, out, err = asked_of(*arguments.split(), capsys=capsys)
    assert (status, out) == (2, "")
    # Above it, the data room may have told how it numbers the classes.
    last = err.splitlines()[-1]
    assert last.startswith("privet: ")
    assert err.count("privet: ") == 1
    assert word in last
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
def test_cities_of_att_are_guessed_as_published(real_data, monkeypatch):
    if not (real_data / "att").is_dir():
        pytest.skip("needs Att")
    monkeypatch.setenv("PRIVET_DATA", str(real_data))
    found = audit_attribute_data("att", attackers=["logistic", "forest", "majority"], seed=0)
    accuracies = dict(figures(found))
    assert accuracies["majority"] == pytest.approx(0.0993, abs=5e-5)
    assert accuracies["logistic"] > 0.43
    assert accuracies["forest"] > 0.43
