"""LiRA, RMIA and calibrated loss beside Meta's PrivacyGuard, on the same logits."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from privacy_guard.analysis.mia.aggregate_analysis_input import AggregationType
from privacy_guard.attacks.base_attack import BaseAttack
from privacy_guard.attacks.calib_attack import CalibAttack, CalibScoreType
from privacy_guard.attacks.lira_attack import LiraAttack
from privacy_guard.attacks.rmia_attack import RmiaAttack
from rows import Row, alike, same

from privet.attacks.reference import RMIA, CalibratedLoss, LiRA, scaled_logit
from privet.attacks.threshold import confidence
from privet.metrics import auc
from privet.signals import Evidence, Signals

SIDE = 4  # IN models, and as many OUT models, of every sample
A = 0.3
RNG = np.random.default_rng(0)  # the attacks draw nothing

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Case:
    """A target and its references: exactly `SIDE` IN and `SIDE` OUT models for every sample.

    PrivacyGuard's online RMIA averages over all references, which is privet's average of the IN
    and the OUT mean only if there are as many of both.
    """

    target: Signals
    reference: Signals
    inside: np.ndarray
    members: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, members: np.ndarray, labels: np.ndarray) -> "Case":
        """Return a case from models' logits; the first model is the target."""
        inside = members[1:]
        enough = (inside.sum(axis=0) >= SIDE) & ((~inside).sum(axis=0) >= SIDE)
        logits, members, labels = logits[:, enough], members[:, enough], labels[enough]
        inside = members[1:]
        # Each sample chooses its own references, in an order of its own.
        by_side = np.argsort(inside + np.random.default_rng(0).random(inside.shape), axis=0)
        chosen = np.concatenate([by_side[:SIDE], by_side[-SIDE:]])
        chosen = np.random.default_rng(1).permuted(chosen, axis=0)
        return cls(
            Signals(logits[:1], labels),
            Signals(np.take_along_axis(logits[1:], chosen[:, :, None], axis=0), labels),
            np.take_along_axis(inside, chosen, axis=0),
            members[0],
        )

    def online(self) -> Evidence:
        """Return evidence whose population are the target's nonmembers."""
        outside = ~self.members
        part = [
            Signals(s.logits[:, outside], s.labels[outside]) for s in (self.reference, self.target)
        ]
        return Evidence(
            self.target,
            part[0],
            self.inside[:, outside],
            self.reference,
            self.inside,
            population=part[1],
        )

    def offline(self) -> Evidence:
        """Return evidence of the OUT models only."""
        out = self.side(self.reference.logits, inside=False)
        return Evidence(
            self.target,
            reference=Signals(out, self.target.labels),
            reference_members=np.zeros(out.shape[:2], dtype=bool),
        )

    def side(self, values: np.ndarray, *, inside: bool) -> np.ndarray:
        """Return the values of each sample's IN or OUT models; shape (SIDE, samples, ...)."""
        rows = np.argsort(self.inside == inside, axis=0, kind="stable")[-SIDE:]
        return np.take_along_axis(values, rows[:, :, None] if values.ndim == 3 else rows, axis=0)


def made_up(seed: int = 0, *, models: int = 33, samples: int = 2000) -> Case:
    """Return logits in which members' true classes stand out, of samples of any difficulty."""
    rng = np.random.default_rng(seed)
    labels, members = rng.integers(10, size=samples), rng.random((models, samples)) < 0.5
    logits = rng.normal(size=(models, samples, 10))
    logits[:, np.arange(samples), labels] += 2 * members + 2 * rng.normal(size=samples)
    return Case.of(logits, members, labels)


def privacyguard_lira(columns: Columns, options: dict[str, bool | str]) -> np.ndarray:
    return scores(LiraAttack(*halves(columns), AggregationType.NONE, **options))


def privacyguard_rmia(
    pool: Columns, population: Columns, *, references: int, online: bool
) -> np.ndarray:
    attack = RmiaAttack(
        *halves(pool),
        frame(population),
        AggregationType.NONE,
        num_reference_models=references,
        alpha_coefficient=A,
        online=online,
    )
    return scores(attack)


def scores(attack: BaseAttack) -> np.ndarray:
    found = attack.run_attack()
    return np.concatenate([found.df_train_merge["score"], found.df_test_merge["score"]])


def frame(columns: Columns) -> pd.DataFrame:
    some = next(iter(columns.values()))
    return pd.DataFrame({"user_id": np.arange(len(some)), **columns})


def halves(columns: Columns) -> tuple[pd.DataFrame, pd.DataFrame]:
    whole = frame(columns)
    middle = len(whole) // 2
    return whole.iloc[:middle].copy(), whole.iloc[middle:].copy()


def against_privacyguard(case: Case) -> Iterator[Row]:
    yield from lira_rows(case)
    yield from rmia_rows(case)
    yield from loss_rows(case)


def lira_rows(case: Case) -> Iterator[Row]:
    phi, known = scaled_logit(case.target)[0], scaled_logit(case.reference)
    sides = {"in": case.side(known, inside=True), "out": case.side(known, inside=False)}
    columns = {"score_orig": phi}
    for side, values in sides.items():
        columns[f"score_mean_{side}"] = values.mean(axis=0)
        columns[f"score_std_{side}"] = values.std(axis=0, ddof=1)
    ours = LiRA("", variance="per-sample").attack(case.online(), RNG).scores
    yield same("LiRA online, per sample", ours, privacyguard_lira(columns, {"online_attack": True}))

    ours = LiRA("", variance="fixed").attack(case.online(), RNG).scores
    fixed = {"online_attack": True, "use_fixed_variance": True}
    pooled = {
        f"score_std_{side}": np.full(len(phi), np.sqrt(values.var(axis=0, ddof=1).mean()))
        for side, values in sides.items()
    }
    theirs = privacyguard_lira({**columns, **pooled}, {"std_dev_type": "mix", **fixed})
    yield same("LiRA online, fixed, given privet's two pooled spreads", ours, theirs)
    theirs = privacyguard_lira(columns, {"std_dev_type": "mix", **fixed})
    yield alike("  their 'mix' averages standard deviations, not variances", ours, theirs)
    theirs = privacyguard_lira(columns, {"std_dev_type": "global", **fixed})
    yield alike("  their 'global' is the target's spread over all samples", ours, theirs)

    ours = LiRA("", online=False, variance="fixed").attack(case.offline(), RNG).scores
    spread = pooled["score_std_out"]
    theirs = privacyguard_lira(
        {"score_orig": phi, "score_mean": columns["score_mean_out"], "score_std": spread},
        {"std_dev_type": "shadows_out"},
    )
    density = ours**2 / 2 + np.log(spread) + np.log(2 * np.pi) / 2
    yield same("LiRA offline, as minus a log-density", density, theirs)
    yield Row(
        "  theirs is two-sided: samples fitted far *worse* than by OUT models count as members",
        f"AUC {auc(ours, case.members):.3f}, theirs {auc(theirs, case.members):.3f}",
    )


def rmia_rows(case: Case) -> Iterator[Row]:
    p, known = np.exp(confidence(case.target)[0]), np.exp(confidence(case.reference))

    def columns(target: np.ndarray, references: np.ndarray, inside: np.ndarray) -> Columns:
        return {
            "score_orig": target,
            **{f"score_ref_{k}": values for k, values in enumerate(references)},
            **{f"member_ref_{k}": values for k, values in enumerate(inside)},
        }

    outside = ~case.members
    theirs = privacyguard_rmia(
        columns(p, known, case.inside),
        columns(p[outside], known[:, outside], case.inside[:, outside]),
        references=2 * SIDE,
        online=True,
    )
    ours = RMIA("").attack(case.online(), RNG).scores
    count = np.floor(ours * (outside.sum() + 1) + 1e-9)
    # Where the population is part of the pool, privet's x >= z counts x itself, their x > z not.
    yield same("RMIA online, share of the population", (count - outside) / outside.sum(), theirs)

    pool = columns(p, case.side(known, inside=False), np.zeros((SIDE, len(p)), dtype=bool))
    theirs = privacyguard_rmia(pool, pool, references=SIDE, online=False)
    ours = RMIA("", online=False, a=A).attack(case.offline(), RNG).scores
    count = np.floor(ours * (len(p) + 1) + 1e-9)
    yield same("RMIA offline, share of the pool", (count - 1) / len(p), theirs)


def loss_rows(case: Case) -> Iterator[Row]:
    log_p, known = confidence(case.target)[0], case.side(confidence(case.reference), inside=False)
    own = {"label": np.ones(len(log_p)), "predictions": np.exp(log_p)}
    # One reference whose loss is the average: their attack knows a single reference model.
    calibration = {**own, "predictions": np.exp(known.mean(axis=0))}
    attack = CalibAttack(
        *halves(own),
        *halves(calibration),
        AggregationType.NONE,
        should_calibrate_scores=True,
        score_type=CalibScoreType.LOSS,
    )
    ours = CalibratedLoss("").attack(case.offline(), RNG).scores
    yield same("calibrated loss", ours, scores(attack))

    phi = scaled_logit(case.target)[0]
    precise = np.abs(phi) < 20  # beyond, 1 - p has lost its digits
    theirs = -np.asarray(CalibAttack.compute_scaled_logits(frame(own)))
    yield same("scaled logit", phi[precise], theirs[precise])
