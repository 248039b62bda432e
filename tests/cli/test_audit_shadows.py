"""`privet audit RUN`: attackers of other knowledge, shadow models on disk, attacks by name."""

import json
import shutil

import numpy as np
import pytest

from cli.commands import (
    ONE_JOB,
    PRUNE,
    SEED,
    answers,
    asked,
    files,
    refusal,
    the_json,
    timeless,
)
from privet.attacks import ATTACKS

# Other attackers


@pytest.mark.slow
def test_an_attacker_who_does_not_know_the_defense(undefended, defended):
    command = f"audit {{}} --shadows 2 {ONE_JOB} --attacks conf,mentr"
    known = the_json(command, defended)
    before = (defended / "audit.json").read_bytes()
    unknown = the_json(f"{command} --non-adaptive", defended)
    assert (defended / "audit.json").read_bytes() == before
    assert json.loads((defended / "audit-non-adaptive.json").read_text()) == unknown
    assert (known["adaptive"], unknown["adaptive"]) == (True, False)
    assert timeless(known["findings"]) != timeless(unknown["findings"])
    # Shadow models know nothing of the target: without its defense they are an undefended run's.
    the_json(command, undefended)
    for file in ("0000.npz", "0001.npz"):
        naive = answers(defended / "shadows" / "online-non-adaptive-seed-0" / file)
        plain = answers(undefended / "shadows" / "online-seed-0" / file)
        adapted = answers(defended / "shadows" / "online-seed-0" / file)
        assert naive.keys() == plain.keys()
        for name in naive:
            np.testing.assert_array_equal(naive[name], plain[name])
        assert not np.array_equal(naive["logits"], adapted["logits"])


def test_without_a_defense_there_is_nothing_to_adapt_to(undefended):
    command = f"audit {{}} --shadows 1 {ONE_JOB} --attacks conf"
    assert timeless(the_json(command, undefended)["findings"]) == timeless(
        the_json(f"{command} --non-adaptive", undefended)["findings"]
    )


@pytest.mark.slow
def test_an_offline_attacker_runs_what_it_can(small, capsys):
    audit = the_json(f"audit {{}} --offline --shadows 3 {ONE_JOB}", small)
    assert audit["online"] is False
    assert audit["skipped"].keys() == {"lira", "rmia"}
    assert {each["attack"] for each in audit["findings"]} == ATTACKS.keys() - {"lira", "rmia"}
    assert all("memorization" not in each["breakdowns"] for each in audit["findings"])
    assert sorted(p.name for p in (small / "shadows").iterdir()) == ["offline-seed-0"]
    for name in ("lira", "rmia"):
        err = refusal(f"audit {{}} --offline --attacks {name} --shadows 3", small, capsys=capsys)
        assert f"'{name}'" in err
    both = f"audit {{}} --offline --shadows 3 {ONE_JOB} --attacks lira-offline,rmia-offline"
    for finding in the_json(both, small)["findings"]:
        assert 0 <= finding["balanced_accuracy"] <= 1
    assert asked("report {}", small)[0] == 0


def test_an_attack_that_cannot_run_is_refused_before_shadow_models_train(undefended, capsys):
    refusal(f"audit {{}} --offline --attacks lira --shadows 1 {ONE_JOB}", undefended, capsys=capsys)
    assert not (undefended / "shadows").exists()


# Shadow models on disk


def test_more_shadow_models_join_those_that_are_there(undefended, finished, tmp_path):
    command = f"audit {{}} {ONE_JOB} --attacks conf,lira"
    the_json(f"{command} --shadows 2", undefended)
    first = files(undefended / "shadows")
    assert len(first) == 2 + 1  # and whose they are
    more = the_json(f"{command} --shadows 3", undefended)
    after = files(undefended / "shadows")
    assert len(after) == 3 + 1
    assert first.items() <= after.items(), "a finished shadow model was trained again"
    at_once = the_json(
        f"{command} --shadows 3", shutil.copytree(finished["base"], tmp_path / "new")
    )
    assert timeless(more) == timeless(at_once)


def test_fewer_shadow_models_use_the_first_ones(undefended):
    command = f"audit {{}} {ONE_JOB} --attacks conf"
    few = the_json(f"{command} --shadows 1", undefended)
    the_json(f"{command} --shadows 2", undefended)
    assert timeless(the_json(f"{command} --shadows 1", undefended)) == timeless(few)


def test_another_seed_has_shadow_models_of_its_own(undefended):
    for seed in (0, 1):
        the_json(f"audit {{}} --jobs 1 --shadows 1 --attacks gap --seed {seed}", undefended)
    one, other = (undefended / "shadows" / f"online-seed-{seed}" / "0000.npz" for seed in (0, 1))
    assert not np.array_equal(answers(one)["logits"], answers(other)["logits"])


@pytest.mark.slow
def test_how_many_train_at_the_same_time_changes_nothing(small, finished, tmp_path):
    command = "audit {} --shadows 3 --attacks conf,lira --jobs"
    other = shutil.copytree(finished["small"], tmp_path / "other")
    assert timeless(the_json(f"{command} 1", small)) == timeless(the_json(f"{command} 2", other))


def test_shadow_models_of_another_run_are_not_taken_for_its_own(undefended, tmp_path, capsys):
    other = tmp_path / "other"
    assert asked(f"{PRUNE} --seed 4 --out {{}}".replace(f"--seed {SEED} ", ""), other)[0] == 0
    the_json(f"audit {{}} --shadows 1 {ONE_JOB} --attacks conf", undefended)
    shutil.copytree(undefended / "shadows", other / "shadows")
    command = f"audit {{}} --shadows 1 {ONE_JOB} --attacks conf"
    assert "shadows" in refusal(command, other, capsys=capsys)


def test_a_damaged_shadow_model_is_named_in_one_line(undefended, capsys):
    command = f"audit {{}} --shadows 1 {ONE_JOB} --attacks conf"
    the_json(command, undefended)
    file = undefended / "shadows" / "online-seed-0" / "0000.npz"
    file.write_bytes(file.read_bytes()[:300])
    before = (undefended / "audit.json").read_bytes()
    assert "0000.npz" in refusal(command, undefended, capsys=capsys)
    assert (undefended / "audit.json").read_bytes() == before


# Attacks by name


@pytest.mark.slow
def test_every_attack_runs_by_its_name_as_it_does_among_all(small):
    command = f"audit {{}} --shadows 3 {ONE_JOB}"
    together = the_json(command, small)
    assert together["skipped"] == {}
    assert [finding["attack"] for finding in together["findings"]] == list(ATTACKS)
    for finding in together["findings"]:
        name = finding["attack"]
        alone = the_json(f"{command} --attacks {name}", small)["findings"]
        assert timeless(alone) == timeless([finding]), name
        assert 0 <= finding["balanced_accuracy"] <= 1
        assert finding["paper"] == ATTACKS[name].paper
