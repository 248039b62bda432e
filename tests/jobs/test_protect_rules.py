"""Rules of a bundle's own: what a build is told, the evaluated search and the bundle both keep."""

import json

import numpy as np
import pytest

from privet.device import load_bundle
from privet.errors import OptionError
from privet.jobs import protect_attribute
from privet.jobs.attribute_evaluation import releases_by_budget
from privet.jobs.attribute_training import AttributeSettings
from privet.jobs.protect import build_protection

NAMES = ("cats", "dogs", "tea", "coffee", "jazz", "rock")
HIGH = (1.0, 0.8, 1.0, 0.6, 1.0, 1.0)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table of 150 users, whose six ratings tell one of three cities; few like rock."""
    rng = np.random.default_rng(2)
    cities = rng.integers(0, 3, 150)
    likes = np.array([[9, 1, 1, 5, 5, 0], [1, 9, 1, 5, 1, 0], [1, 1, 9, 1, 5, 0]]) / 10
    rated = rng.random((150, 6)) < likes[cities]
    path = tmp_path_factory.mktemp("people") / "people.csv"
    rows = np.column_stack([rated * np.minimum(HIGH, 0.6), cities])
    lines = [",".join(f"{value:g}" for value in row) for row in rows]
    path.write_text("\n".join([",".join([*NAMES, "label"]), *lines]) + "\n")
    return path


def build(people, folder, **options):
    small = {"hidden": 16, "attacker_hidden": 8, "speedups": (2.0,), "seed": 1}
    return build_protection(str(people), out=folder, **{**small, **options})


def test_rules_reach_the_evaluation_and_the_bundle(people, tmp_path, monkeypatch):
    searched = []

    def watched(network, records, *, settings, **options):
        releases = releases_by_budget(network, records, settings=settings, **options)
        searched.append((settings, records, releases))
        return releases

    monkeypatch.setattr(protect_attribute, "releases_by_budget", watched)
    rules = {"policy": "add_new", "low": 0.0, "high": list(HIGH), "never": ("tea", "0")}
    document = build(people, tmp_path / "out", **rules)
    settings = load_bundle(tmp_path / "out" / "people-x2.safetensors").settings
    assert (settings.policy, settings.low, settings.high) == ("add_new", 0.0, HIGH)
    assert settings.never == (0, 2, 5)  # beside the named, the one that no user has
    assert searched
    for used, records, releases in searched:
        assert used == settings
        dense = records.toarray() if hasattr(records, "toarray") else records
        for each in releases.values():
            found = each.candidates
            users = np.repeat(np.arange(found.reached.size), np.diff(found.start))
            before = dense[users // found.reached.shape[1], found.feature]
            assert (before == 0).all()
            assert not set(found.feature.tolist()) & {0, 2, 5}
            assert np.array_equal(found.value, np.array(HIGH)[found.feature])
    assert any(len(each.candidates.feature) for *_, all_ in searched for each in all_.values())
    assert document["tiers"][0]["bundle"]


def test_rules_tell_runs_apart_and_a_finished_one_returns(people, tmp_path):
    first = build(people, tmp_path / "out", high=0.6)
    assert build(people, tmp_path / "out", high=0.6) == first
    with pytest.raises(OptionError, match="search = "):
        build(people, tmp_path / "out", high=0.8)


def test_without_rules_nothing_new_is_written_of_a_run(people, tmp_path):
    build(people, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["search"]
    assert written == json.loads(json.dumps(vars(AttributeSettings().search)))


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"policy": "modify_nothing"}, "modify_nothing"),
        ({"low": -0.1}, "low"),
        ({"high": 1.5}, r"1\.5"),
        ({"high": (1.0, 0.5)}, "one number or 6"),
        ({"low": (0.0,) * 6, "high": (1.0,) * 5}, "one number or 6"),
        ({"low": 0.7, "high": HIGH}, "feature 3"),
        ({"high": ()}, "high"),
        ({"never": ("wine",)}, "wine"),
        ({"never": ("6",)}, "'6'"),
    ],
)
def test_rules_that_do_not_fit_are_refused_and_nothing_is_written(rules, told, people, tmp_path):
    with pytest.raises(OptionError, match=told):
        build(people, tmp_path / "out", **rules)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "rules", [{"policy": "add_new"}, {"low": 0.0}, {"high": 1.0}, {"never": ("tea",)}]
)
def test_rules_are_for_attribute_protection(rules, people, tmp_path):
    with pytest.raises(OptionError, match="attribute protection only"):
        build_protection(str(people), kind="membership", seed=1, out=tmp_path / "out", **rules)
    assert not (tmp_path / "out").exists()
