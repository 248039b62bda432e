"""Cross-fitted distillation: learn from models that never met the sample (after SELENA)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from privet.errors import OptionError
from privet.fit import Setup, Step


@dataclass(frozen=True)
class Distill:
    """Train from fresh weights on flattened out-of-fold posteriors.

    What a sample's target says comes from models that did not train on it, so learning the targets
    by heart gives little away. What remains leaks through the teachers of *other* samples, which
    did: the less a teacher memorizes, the better. Tang et al. (SELENA, USENIX Security 2022) use
    posteriors of networks as they are; simple teachers, flattening, and the option of mixing in
    the label are ours. Defaults were chosen on Location, on splits that no table of privet's
    reports.

    Parameters
    ----------
    teacher, folds
        Who teaches, in how many folds; see `privet.teachers`.
    power
        Exponent of the posteriors, in (0, 1]: below 1 flattens them.
    hard
        Share of the sample's own label in its target, in [0, 1]. It buys little accuracy, and
        gives calibrated attacks much to find.
    """

    teacher: Literal["auto", "centroids", "lda", "network"] = "auto"
    folds: int = 20
    power: float = 0.3
    hard: float = 0.0

    paper: ClassVar[str] = (
        "after Tang et al., Mitigating Membership Inference Attacks by Self-Distillation Through "
        "a Novel Ensemble Architecture (SELENA), USENIX Security 2022"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"soft labels"})
    whole: ClassVar[bool] = True
    settings: ClassVar[Mapping[str, Any]] = {
        "rounds": 1,
        "dense_epochs": 30,
        "epochs": 15,
        "patience": None,
        "batch_size": 256,
        "learning_rate": 4e-3,
        "weight_decay": 3e-4,
        "anneal": True,
    }

    def __post_init__(self) -> None:
        if self.teacher not in ("auto", "centroids", "lda", "network"):
            raise OptionError(
                f"the teacher must be auto, centroids, lda or network; got {self.teacher!r}"
            )
        if self.folds < 2 or not (0 < self.power <= 1 and 0 <= self.hard <= 1):
            raise OptionError(
                f"distillation needs folds >= 2, power in (0, 1] and hard in [0, 1]; got "
                f"{self.folds}, {self.power} and {self.hard}"
            )

    def start(self, setup: Setup) -> Setup:
        """Return the setup with soft targets in place of labels; see `Defense`."""
        if setup.soft_labels is None:
            raise OptionError("distillation learns from teachers: setup.soft_labels is missing")
        flat = setup.soft_labels.pow(self.power)
        flat = flat / flat.sum(1, keepdim=True)
        hard = one_hot(setup.labels, flat.shape[1])
        targets = (1 - self.hard) * flat + self.hard * hard

        def loss(step: Step) -> Tensor:
            return cross_entropy(step.logits, targets[step.indices])

        return replace(setup, loss=loss)
