"""What raises leakage, from measured AUCs: data reuse, inherent memorability, both or neither.

WeMem's (NDSS 2025) three scenarios, and the method it makes for each. Which variants of pruning
are compared, and how they are measured, is `privet.jobs.analyse`'s.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from privet.signals import FloatArray

VARIANTS = ("dense", "one-shot", "one-shot-long", "iterative", "shuffled", "fresh")
"""Unpruned; pruned once; pruned once and fine-tuned for as many epochs as all rounds together;
pruned in rounds on the same rows; on a new random half of these and as many others each round; on
the others alone."""

ATTACKS = ("conf", "mentr", "gap")
GROUPS = ("all", "lowest", "highest")
"""All samples, and the quarters of them that models memorize least and most."""

LEAST_EFFECT = 0.02
"""An effect on the AUC counts from here on, ..."""
LEAST_ERRORS = 2.0
"""... and from this many of its standard errors on."""

METHODS = {
    (False, False): ("neither", "base"),
    (True, False): ("data reuse", "rsw"),
    (False, True): ("inherent memorability", "rmr"),
    (True, True): ("both", "swmr"),
}
"""From whether reuse and memorability count to the scenario and WeMem's method for it."""

COMPARED = ("distill", "auto")
"""What to hold the recommended method against in any scenario."""


@dataclass(frozen=True)
class Mean:
    """A mean over repeats and its standard error, which takes at least two."""

    mean: float
    error: float

    @property
    def counts(self) -> bool:
        """Whether it is an effect large and sure enough to act on."""
        return self.mean > LEAST_EFFECT and self.mean > LEAST_ERRORS * self.error


def mean(values: FloatArray) -> Mean:
    """Return the mean of one value a repeat, shape (repeats,), with its standard error."""
    return Mean(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)))


def conclude(areas: FloatArray) -> dict[str, Any]:
    """Return what was found, JSON-ready: each variant's leakage, the effects, the recommendation.

    Everything is said of one attack, the one with the highest mean AUC over all variants: effects
    compare like with like, and the strongest of several is not picked anew, which would favor
    variants with more noise, in each.

    Reuse counts if pruning in rounds on the same rows leaks more than pruning once *and* more
    than pruning in rounds on other rows: the first alone could come from longer training on
    anything, the second alone from forgetting what the unpruned network knew. Memorability counts
    if, in pruning in rounds, the quarter that models memorize most leaks more than the quarter
    they memorize least.

    Parameters
    ----------
    areas
        Shape (repeats, variants, attacks, groups): AUCs, in the order of `VARIANTS`, `ATTACKS`
        and `GROUPS`, at least two repeats.
    """
    strongest = int(areas[..., 0].mean(axis=(0, 1)).argmax())
    by_name = dict(zip(VARIANTS, areas[:, :, strongest].swapaxes(0, 1), strict=True))
    effects = _effects(by_name)
    reuse, memorability = (
        all(one["counts"] for one in effects if one["factor"] == factor and one["decides"])
        for factor in ("reuse", "memorability")
    )
    scenario, method = METHODS[reuse, memorability]
    return {
        "attack": ATTACKS[strongest],
        "variants": [
            {
                "variant": name,
                "auc": {g: asdict(mean(by_name[name][:, i])) for i, g in enumerate(GROUPS)},
                "auc_by_attack": {
                    attack: asdict(mean(areas[:, place, i, 0])) for i, attack in enumerate(ATTACKS)
                },
            }
            for place, name in enumerate(VARIANTS)
        ],
        "effects": effects,
        "criteria": {"least_effect": LEAST_EFFECT, "least_errors": LEAST_ERRORS},
        "scenario": scenario,
        "recommendation": method,
        "compare": list(COMPARED),
    }


def _effects(areas: dict[str, FloatArray]) -> list[dict[str, Any]]:
    """Return differences of AUCs; ``areas`` has shape (repeats, groups) for each variant."""
    iterative = areas["iterative"]
    rounds = [
        ("reuse", "one-shot", True),
        ("reuse", "fresh", True),
        ("reuse", "shuffled", False),
        ("rounds", "one-shot-long", False),
    ]
    found = [(*one, mean(iterative[:, 0] - areas[one[1]][:, 0])) for one in rounds]
    found.append(("memorability", "lowest", True, mean(iterative[:, 2] - iterative[:, 1])))
    return [
        {
            "factor": factor,
            "against": against,
            "decides": decides,
            **asdict(difference),
            "counts": difference.counts,
        }
        for factor, against, decides, difference in found
    ]
