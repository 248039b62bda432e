import copy

import numpy as np
import pytest

ATTACKS = {
    "conf": 0.30,
    "entr": 0.22,
    "mentr": 0.31,
    "hconf": 0.2,
    "nn": 0.34,
    "samia": 0.36,
    "lira": 0.55,
    "rmia": 0.6,
    "loss": 0.28,
    "gap": 0.1,
}


def _rates(strength, nonmembers):
    rates = {}
    for level in ("0.1", "0.01", "0.001"):
        at = float(level) ** (1 - strength)
        rates[level] = {
            "tpr": at,
            "low": at * 0.8,
            "high": min(1.0, at * 1.3),
            "band_low": at * 0.6,
            "band_high": min(1.0, at * 1.5),
            "resolved": float(level) * nonmembers >= 1,
            "nonmembers_accused": int(float(level) * nonmembers),
        }
    return rates


def _group(name, strength, *, members, nonmembers, rates=True):
    area = 1 / (2 - strength)
    entry = {
        "name": name,
        "members": members,
        "nonmembers": nonmembers,
        "balanced_accuracy": None,
        "auc": area,
        "auc_low": area - 0.05,
        "auc_high": min(1.0, area + 0.04),
    }
    return entry | ({"tpr_at_fpr": _rates(strength, nonmembers)} if rates else {})


def _breakdowns(strength):
    quartiles = ("lowest", "2 of 4", "3 of 4", "highest")
    return {
        "class": [
            _group(f"class {place}", strength * place / 12, members=30, nonmembers=12, rates=False)
            for place in range(12)
        ],
        "memorization": [
            _group(name, strength * (place + 1) / 4, members=250, nonmembers=100)
            for place, name in enumerate(quartiles)
        ],
        "canaries": [_group("planted", (1 + strength) / 2, members=150, nonmembers=150)],
    }


def _finding(attack, strength, *, nonmembers=400):
    fpr = np.linspace(0, 1, 60) ** 3
    tpr = fpr ** (1 - strength)
    ranks_only = attack in ("lira", "rmia")
    return {
        "attack": attack,
        "paper": f"Somebody et al., on {attack}",
        "balanced_accuracy": None if ranks_only else 0.5 + strength / 3,
        "auc": 1 / (2 - strength),
        "auc_low": 1 / (2 - strength) - 0.02,
        "auc_high": 1 / (2 - strength) + 0.02,
        "tpr_at_fpr": _rates(strength, nonmembers),
        "members": 1000,
        "nonmembers": nonmembers,
        "seconds": 1.5,
        "roc": {"fpr": fpr.tolist(), "tpr": tpr.tolist()},
        "breakdowns": _breakdowns(strength),
        "most_exposed": [
            {"sample": 100 * place, "fpr": 0.0025 * place / (1 + strength)} for place in range(10)
        ],
    }


def _run(defense, *, leak):
    return {
        "prune": {
            "dataset": "location",
            "model": "fully-connected",
            "defense": defense,
            "pruner": "magnitude",
            "sparsity": 0.6,
            "rounds": [
                {
                    "round": place,
                    "sparsity": 1 - 0.4 ** (place / 4),
                    "train_accuracy": 0.75 + leak * (0.04 + 0.05 * place),
                    "dev_accuracy": 0.66 - 0.005 * place,
                    "seconds": 2.5,
                }
                for place in range(5)
            ],
            "test_accuracy": 0.6543,
            "train_accuracy": 0.75 + 0.24 * leak,
            "parameters": 150_000,
            "nonzero": 61_234,
            "seconds": 75.2,
            "seed": 7,
            "versions": {"privet": "0.1.0", "torch": "2.13.0"},
        },
        "audit": {
            "dataset": "location",
            "defense": defense,
            "sparsity": 0.6,
            "findings": [_finding(name, leak * value) for name, value in ATTACKS.items()],
            "adaptive": True,
            "online": True,
            "shadows": 5,
            "skipped": {"multi-release": "signals of another release of the same target"},
            "canaries": {"members": 150, "nonmembers": 150},
            "test_accuracy": 0.6543,
            "train_accuracy": 0.75 + 0.24 * leak,
        },
    }


def _build():
    budgets = ("1.5", "2", "3", "4", "5")
    return {
        "dataset": "att",
        "kind": "attribute",
        "base": {"accuracy": 0.4907, "parameters": 40_104_025, "macs": 40_100_000},
        "tiers": [
            {
                "asked_speedup": asked,
                "reached_speedup": asked * 1.1,
                "parameters": 40_104_025 // asked,
                "macs": 40_100_000 // asked,
                "accuracy": accuracy,
                "bytes": 160_416_100 // asked,
                "bundle": f"att-x{asked}.safetensors",
                "attack_accuracy_by_budget": {
                    key: 0.34 - 0.04 * place + 0.0002 * asked for place, key in enumerate(budgets)
                },
                "attack_accuracy": 0.26 + 0.0002 * asked,
                "found": 0.993,
                "definitions": {
                    "measured": {
                        "m": abs(accuracy - 0.4907),
                        "r": 1 / asked,
                        "q": 0.26 + 0.0002 * asked,
                        "n": 0.058 + 0.0002 * asked,
                    },
                    "bounds": {"m": 0.02, "r": 0.05, "q": 0.35, "n": 0.1},
                    "failed": [],
                    "passed": True,
                },
            }
            for asked, accuracy in ((50, 0.494), (100, 0.4883), (200, 0.481))
        ],
        "definitions": {"m": 0.02, "r": 0.05, "q": 0.35, "n": 0.1, "passed": True},
        "attack": {"unprotected_accuracy": 0.47, "majority_accuracy": 0.0993, "name": "NN"},
        "base_attack_accuracy_by_budget": dict.fromkeys(budgets, 0.33),
        "base_attacked_users": 400,
        "attacked_users": 1631,
    }


@pytest.fixture
def run():
    return _run("none", leak=1.0)


@pytest.fixture
def older(run):
    """A run as it was written before audits were broken down."""
    for key in ("online", "skipped", "canaries"):
        del run["audit"][key]
    for finding in run["audit"]["findings"]:
        for key in ("auc_low", "auc_high", "breakdowns", "most_exposed"):
            del finding[key]
        for rate in finding["tpr_at_fpr"].values():
            for key in ("band_low", "band_high", "nonmembers_accused"):
                del rate[key]
    return run


@pytest.fixture
def build():
    return _build()


@pytest.fixture
def demo():
    return copy.deepcopy(
        {
            "title": "privet: a guided tour",
            "intro": "Two stories in three minutes.\nEverything below was made on this machine.",
            "seconds": 192.4,
            "pruning": [_run("none", leak=1.0), _run("rmr", leak=0.5), _run("distill", leak=0.3)],
            "protection": _build(),
            "next": ["privet prune location --out runs/mine", "privet audit runs/mine"],
            "versions": {"privet": "0.1.0"},
            "seed": 7,
        }
    )
