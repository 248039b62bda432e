"""Attribute inference attacks: from users who tell an attribute to guesses about those who do not.

To add an attacker: write one file with a frozen dataclass that satisfies `AttributeAttacker`, and
give it a row in `ATTRIBUTE_ATTACKERS` with its citation. Nothing else changes: the command line,
the audit and the tests find it there. Nothing heavy is imported before an attacker learns.
"""

from collections.abc import Mapping
from dataclasses import replace

from privet.attacks.attribute.adversarial import AdversariallyTrained
from privet.attacks.attribute.base import (
    AttributeAttacker,
    Guess,
    Known,
    Protect,
    Records,
    Rows,
    as_inputs,
    hold_out,
)
from privet.attacks.attribute.distilled import Distilled
from privet.attacks.attribute.forest import RandomForest
from privet.attacks.attribute.linear import LogisticRegression
from privet.attacks.attribute.majority import Majority
from privet.attacks.attribute.networks import NetworkGuess, NeuralNetwork, guesses, with_hidden
from privet.attacks.attribute.region import RegionGuess, RegionVoting

__all__ = [
    "ATTRIBUTE_ATTACKERS",
    "NETWORK",
    "AdversariallyTrained",
    "AttributeAttacker",
    "Distilled",
    "Guess",
    "Known",
    "LogisticRegression",
    "Majority",
    "NetworkGuess",
    "NeuralNetwork",
    "Protect",
    "RandomForest",
    "Records",
    "RegionGuess",
    "RegionVoting",
    "Rows",
    "as_inputs",
    "guesses",
    "hold_out",
    "with_hidden",
]

ATTRIGUARD = (
    "Jia & Gong, AttriGuard: A Practical Defense Against Attribute Inference Attacks via "
    "Adversarial Machine Learning, USENIX Security 2018"
)
SP_ASPP = (
    "SP-ASPP, adversarial sample privacy protection based on structural pruning, "
    "Electronics 13 (2024) 1230"
)
PAPERNOT = (
    "Papernot et al., Distillation as a Defense to Adversarial Perturbations against Deep Neural "
    "Networks, IEEE S&P 2016"
)
CAO_GONG = (
    "Cao & Gong, Mitigating Evasion Attacks to Deep Neural Networks via Region-based "
    "Classification, ACSAC 2017"
)
NETWORK = NeuralNetwork(paper=ATTRIGUARD)

ATTRIBUTE_ATTACKERS: Mapping[str, AttributeAttacker] = {
    "nn": NETWORK,
    "nn-sgd": NeuralNetwork(
        paper=SP_ASPP,
        hidden=30_000,
        optimizer="sgd",
        learning_rate=0.05,
        batch_size=100,
        epochs=50,
        patience=None,
    ),
    "nn-late": replace(NETWORK, epochs=30, patience=None),
    "logistic": LogisticRegression(paper=ATTRIGUARD),
    "forest": RandomForest(paper=ATTRIGUARD),
    "distilled": Distilled(paper=PAPERNOT, network=NETWORK),
    "region": RegionVoting(paper=CAO_GONG, network=NETWORK),
    "adversarial": AdversariallyTrained(paper=ATTRIGUARD, network=NETWORK),
    "majority": Majority(paper=ATTRIGUARD),
}
"""Every attacker by the name that the command line and the reports use."""
