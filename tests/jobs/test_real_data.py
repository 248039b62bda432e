"""The jobs on the published data sets, where they are at hand."""

import re

import numpy as np
import pytest
import torch

from device.plain_loops import plain_search
from privet.cli import run
from privet.data.registry import load
from privet.device.attribute import search
from privet.fit import Setup, adam, fit
from privet.jobs.audit import Settings
from privet.jobs.audit_run import audit_run
from privet.jobs.prune import Source, prune_source, recommended
from privet.jobs.tiers import fresh, make_tier, to_device
from privet.models import FullyConnected


@pytest.fixture(autouse=True)
def at_hand(real_data, monkeypatch):
    monkeypatch.setenv("PRIVET_DATA", str(real_data))


@pytest.fixture(scope="module")
def tier(real_data):
    """A small defense model of Att, trained, pruned five times and retrained for an epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIVET_DATA", str(real_data))
        table = load("att")
    labels = torch.from_numpy(table.labels)
    base = fresh(FullyConnected(10_000, (500,), 25, 0.5, sparse_input=True), 0)
    for network in (base, pruned := make_tier(base, 5)):
        setup = Setup(network.model, table.inputs, labels, adam(5e-3), batch_size=200)
        fit(setup, 0, most=2)
    assert pruned.architecture.hidden == (100,)
    return to_device(pruned.model), table


@pytest.mark.slow
def test_same_picks_as_the_plain_loop_on_200_pairs_of_att(tier):
    network, table = tier
    users = table.test.inputs[:8].toarray()
    found = search(network, users)
    steps, differing = 0, 0
    for target in range(25):
        perturbed = found.apply(users, np.full(8, target))
        for user in range(8):
            expected, reached = plain_search(network, users[user], target)
            differing += not np.array_equal(perturbed[user], expected)
            assert found.reached[user, target] == reached
            steps += found.cost[user, target]
    assert steps > 200
    assert differing == 0


@pytest.mark.slow
def test_a_small_budget_changes_few_of_a_users_apps(tier, tmp_path):
    network, table = tier
    found = search(network, table.test.inputs[:200], max_steps=16)
    own = found.label[:, None] == np.arange(25)
    assert (found.cost[own] == 0).all()
    assert np.median(found.cost[~own]) <= 5


@pytest.mark.slow
def test_location_leaks_less_under_rsw_at_like_accuracy(tmp_path):
    figures = {}
    for defense in ("none", "rsw"):
        folder = tmp_path / defense
        pruned = prune_source(Source("location", seed=3), recommended(defense), out=folder)
        settings = Settings(("conf", "entr", "mentr", "hconf"), shadows=2, seed=3)
        found = audit_run(folder, settings)["findings"]
        leaks = np.mean([finding["balanced_accuracy"] for finding in found])
        figures[defense] = pruned["test_accuracy"], leaks
    # Margins of several standard deviations over seeds (docs/picture.py).
    assert figures["none"][1] > 0.72
    assert figures["rsw"][1] < figures["none"][1] - 0.1
    assert figures["rsw"][0] > figures["none"][0] - 0.12


@pytest.mark.slow
def test_the_published_file_of_users_comes_out_in_its_own_format(tier, real_data, tmp_path):
    from privet.device import Bundle, write_bundle

    network, table = tier
    prior = np.bincount(table.labels, minlength=25) / len(table.labels)
    write_bundle(Bundle("attribute", network, prior=prior), tmp_path / "bundle.safetensors")
    source, out = real_data / "att" / "test_user.txt", tmp_path / "noisy.txt"
    command = ["protect", "apply", str(source), "--bundle", str(tmp_path / "bundle.safetensors")]
    options = ["--budget", "2", "--key", str(tmp_path / "key"), "--out", str(out)]
    assert run([*command, *options]) == 0
    before, after = source.read_text().splitlines(), out.read_text().splitlines()
    assert len(before) == len(after) == 1631
    assert all(re.fullmatch(r"(\d+:(0\.[2468]|1\.0) ?)*", line) for line in after)
    changed = sum(
        set(one.split()) != set(two.split()) for one, two in zip(before, after, strict=True)
    )
    assert 0.3 < changed / 1631 < 1
