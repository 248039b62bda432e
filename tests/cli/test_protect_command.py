"""`privet protect`: what a person may say about the changes, and how tiers are made."""

import json
import re

import numpy as np
import pytest

from cli.commands import asked, refusal, the_json
from cli.person import NAMES, handmade, write_csv, write_people
from cli.refusals import snapshot
from privet.cli import run
from privet.device import Bundle, Settings, load_bundle, write_bundle
from privet.jobs.attribute_training import RECIPES

BUILD = "protect build {} --hidden 16 --attacker-hidden 8 --speedups 2 --seed 1 --out {}"
OTHERWISE = " --recipe smoothed --importance taylor"


@pytest.fixture
def bundle(tmp_path):
    """Makes a bundle of 6 ratings with names and 3 classes, with settings of its own."""

    def make(**settings):
        path = tmp_path / "made.safetensors"
        made = Bundle(
            "attribute", handmade(6, 8, 3), settings=Settings(**settings), feature_names=NAMES
        )
        write_bundle(made, path)
        return path

    return make


@pytest.fixture
def ratings(tmp_path):
    """A file of 80 records, half of whose entries are 0; no value is what a change makes of it."""
    rng = np.random.default_rng(1)
    values = np.where(rng.random((80, 6)) < 0.5, 0, rng.integers(1, 5, (80, 6)) / 5)
    write_csv(tmp_path / "mine.csv", values)
    return values


def applied(bundle, folder, *options):
    """Protect the records in mine.csv; return them."""
    command = ["protect", "apply", str(folder / "mine.csv"), "--bundle", str(bundle)]
    command += ["--budget", "4", "--key", str(folder / "key"), "--out", str(folder / "safe.csv")]
    assert run([*command, *options]) == 0
    header, *lines = (folder / "safe.csv").read_text().splitlines()
    assert header == ",".join(NAMES)
    return np.array([[float(value) for value in line.split(",")] for line in lines])


@pytest.mark.parametrize("policy", ["add_new", "modify_exist", "modify_add", None])
def test_only_what_the_policy_allows_is_changed(policy, bundle, ratings, tmp_path):
    options = [] if policy is None else ["--policy", policy]
    changed = applied(bundle(), tmp_path, *options) != ratings
    new, present = changed[ratings == 0].any(), changed[ratings > 0].any()
    assert (new, present) == (policy != "modify_exist", policy != "add_new")


def test_a_person_overrules_the_policy_of_the_bundle(bundle, ratings, tmp_path):
    path = bundle(policy="add_new")
    assert not (applied(path, tmp_path) != ratings)[ratings > 0].any()
    changed = applied(path, tmp_path, "--policy", "modify_exist") != ratings
    assert changed[ratings > 0].any()
    assert not changed[ratings == 0].any()


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("chess", [1]),
        ("bank app, 0", [0, 3]),
        ("5,radio", [5]),
        ("7", [2]),  # a name, though it could be a number
        (" chess ,,", [1]),
    ],
)
def test_what_is_kept_stays_as_it_is(keep, kept, bundle, ratings, tmp_path):
    path = bundle()
    free = applied(path, tmp_path) != ratings
    assert free.any(axis=0).all()  # without --keep every feature is changed for somebody
    changed = applied(path, tmp_path, "--keep", keep) != ratings
    assert not changed[:, kept].any()
    others = [feature for feature in range(6) if feature not in kept]
    assert changed[:, others].any()


def test_nothing_to_keep_is_as_if_not_said(bundle, ratings, tmp_path):
    path = bundle()
    expected = applied(path, tmp_path)
    assert np.array_equal(applied(path, tmp_path, "--keep", " , "), expected)


def test_policy_and_kept_entries_hold_together(bundle, ratings, tmp_path):
    changed = applied(bundle(), tmp_path, "--policy", "add_new", "--keep", "maps,news") != ratings
    assert changed.any()
    assert not changed[:, [0, 4]].any()
    assert not changed[ratings > 0].any()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("--keep chess,bingo", "'bingo'"),
        ("--keep 6", "'6'"),
        ("--keep -1", "'-1'"),
        ("--keep Chess", "'Chess'"),
        ("--policy delete", "delete"),
    ],
)
def test_rules_that_do_not_fit_are_refused(options, word, bundle, ratings, tmp_path, capsys):
    path = bundle()
    before = snapshot(tmp_path)
    command = "protect apply {} --bundle {} --budget 2 --key {} --out {} " + options.replace(
        "--keep -1", "--keep=-1"
    )
    places = tmp_path / "mine.csv", path, tmp_path / "key", tmp_path / "safe.csv"
    assert word in refusal(command, *places, capsys=capsys)
    assert snapshot(tmp_path) == before


def refused_for_confidences(options, folder, capsys):
    path = folder / "membership.safetensors"
    write_bundle(Bundle("membership", handmade(3, 5, 1)), path)
    np.savez(folder / "answers.npz", confidences=np.full((4, 3), 1 / 3))
    before = snapshot(folder)
    command = "protect apply {} --bundle {} --budget 0.5 --key {} --out {} " + options
    places = folder / "answers.npz", path, folder / "key", folder / "safe.npz"
    assert "attribute" in refusal(command, *places, capsys=capsys)
    assert snapshot(folder) == before


@pytest.mark.parametrize("options", ["--policy add_new", "--keep 1"])
def test_confidences_have_no_entries_to_keep(options, tmp_path, capsys):
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "key").chmod(0o600)
    refused_for_confidences(options, tmp_path, capsys)


def test_rules_for_confidences_are_refused_before_a_key_is_made(tmp_path, capsys):
    refused_for_confidences("--keep 1", tmp_path, capsys)


# Building, and attacking what was built.


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table of 200 users, whose six ratings tell one of three cities."""
    return write_people(tmp_path_factory.mktemp("people") / "people.csv")


@pytest.fixture(scope="module")
def built(people, tmp_path_factory):
    """A build by another recipe and importance than the usual: its folder and its JSON."""
    folder = tmp_path_factory.mktemp("built") / "bundles"
    return folder, the_json(BUILD + OTHERWISE, people, folder)


def settings_of(folder):
    return json.loads((folder / "run.json").read_text())["settings"]


def test_recipe_and_importance_are_those_asked_for(built):
    settings = settings_of(built[0])
    assert settings["tier"] == vars(RECIPES["smoothed"])
    assert settings["base"] == vars(RECIPES["plain"])
    assert settings["importance"] == "taylor"
    (tier,) = built[1]["tiers"]
    assert tier["reached_speedup"] == 2
    assert load_bundle(built[0] / "people-x2.safetensors").feature_names == NAMES


@pytest.mark.parametrize("bounds", ["q=1,m=1,r=1,n=1", "q=0.0001"])
def test_the_last_lines_say_which_bundles_meet_the_definitions(bounds, people, tmp_path):
    folder = tmp_path / "out"
    status, printed = asked(f"{BUILD} --bounds {bounds}", people, folder)
    *_, verdict, following = printed.splitlines()
    assert (status, following) == (0, f"Next: privet report {folder}")
    (tier,) = json.loads((folder / "protect.json").read_text())["tiers"]
    assert tier["definitions"]["passed"] == (bounds != "q=0.0001")
    if tier["definitions"]["passed"]:
        assert verdict.replace("\N{NO-BREAK SPACE}", " ") == "Bundles that meet Definitions 1-3: 2x"
    else:
        assert verdict.startswith("No bundle meets Definitions 1-3")


def test_help_names_every_recipe_and_what_the_exit_status_means():
    printed = " ".join(asked("protect build --help")[1].replace("│", " ").split())
    (told,) = re.findall(r"How attribute tiers are retrained: (.*?)\. ", printed + " ")
    assert set(RECIPES) <= set(re.findall(r"\w+", told))
    assert "Exit status 1 when no bundle was written" in printed


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_builds(recipe, people, tmp_path):
    assert asked(BUILD + f" --recipe {recipe}", people, tmp_path / "out")[0] == 0
    settings = settings_of(tmp_path / "out")
    assert settings["tier"] == vars(RECIPES[recipe])
    assert settings["importance"] == "l1"
    assert (tmp_path / "out" / "people-x2.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("", "tier = "),
        ("--recipe plain --importance taylor", "tier = "),
        ("--recipe smoothed --importance random", "importance = 'taylor', not 'random'"),
    ],
)
def test_another_recipe_in_the_same_folder_is_refused(options, word, built, people, capsys):
    before = snapshot(built[0])
    assert word in refusal(f"{BUILD} {options}", people, built[0], capsys=capsys)
    assert snapshot(built[0]) == before


def test_who_holds_the_bundle_may_practice_on_it(built, people):
    command = "protect attack --known {} --bundle {} --budget 2 --attacker-hidden 8 --seed 3"
    bundle = built[0] / "people-x2.safetensors"
    found = the_json(command + " --attackers adversarial,majority", people, bundle)
    adversarial, majority = found["attackers"]
    assert [adversarial["attacker"], majority["attacker"]] == ["adversarial", "majority"]
    assert (found["users"], found["known_users"], found["classes"]) == (40, 160, 3)
    assert majority["accuracy"] == found["majority_accuracy"]
    assert adversarial["low"] <= adversarial["accuracy"] <= adversarial["high"]
    again = the_json(command + " --attackers adversarial", people, bundle)
    assert again["attackers"][0]["accuracy"] == adversarial["accuracy"]


def without_labels(people, folder):
    """Write the people's records and their cities to mine.csv and cities.txt."""
    lines = [line.rpartition(",") for line in people.read_text().splitlines()]
    (folder / "mine.csv").write_text("\n".join(line[0] for line in lines) + "\n")
    (folder / "cities.txt").write_text("\n".join(line[2] for line in lines[1:]) + "\n")


def test_what_is_protected_is_guessed_less_often(built, people, tmp_path):
    without_labels(people, tmp_path)
    bundle = built[0] / "people-x2.safetensors"
    protect = "protect apply {} --bundle {} --budget 2 --key {} --out {}"
    places = tmp_path / "mine.csv", bundle, tmp_path / "key", tmp_path / "safe.csv"
    assert asked(protect, *places)[0] == 0
    attack = "protect attack {} --labels {} --known {} --attackers logistic"
    before, after = (
        the_json(attack, tmp_path / name, tmp_path / "cities.txt", people)["attackers"][0]
        for name in ("mine.csv", "safe.csv")
    )
    assert after["accuracy"] < before["accuracy"] - 0.1


def test_a_build_guesses_about_the_files_and_by_the_names_that_it_was_made_from(
    built, people, tmp_path, capsys
):
    header, *lines = people.read_text().splitlines()
    cities = ("Bonn", "Graz", "Linz")
    named = tmp_path / "people.csv"
    with_names = [f"{line[:-1]}{cities[int(line[-1])]}" for line in lines]
    named.write_text("\n".join([header, *with_names]) + "\n")
    the_json(BUILD + OTHERWISE, named, tmp_path / "out")
    without_labels(named, tmp_path)
    attack = "protect attack {} --labels {} --build {}"
    places = tmp_path / "mine.csv", tmp_path / "cities.txt", tmp_path / "out"
    found = the_json(attack, *places)

    # The same build by numbers, of the same records as pairs.
    values = [line.split(",") for line in lines]
    pairs = [" ".join(f"{i}:{v}" for i, v in enumerate(row[:-1]) if v != "0") for row in values]
    (tmp_path / "mine.txt").write_text("\n".join(pairs) + "\n")
    (tmp_path / "numbers.txt").write_text("\n".join(row[-1] for row in values) + "\n")
    numbers = tmp_path / "mine.txt", tmp_path / "numbers.txt", built[0]
    assert the_json(attack, *numbers) == found
    assert (found["users"], found["accuracy"] > 0) == (200, True)

    (tmp_path / "cities.txt").write_text("Rome\n" * 200)
    err = refusal(attack, *places, capsys=capsys)
    assert "line 1: 'Rome' is no class; they are Bonn, Graz, Linz" in err
