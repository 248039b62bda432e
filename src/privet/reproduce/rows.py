"""The rows of WeMem's table: the defenses, and the controls that say what explains them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from privet.defenses import choose
from privet.errors import OptionError
from privet.jobs.settings import PruneSettings, recommended


@dataclass(frozen=True)
class Row:
    """One way to prune.

    Parameters
    ----------
    name
        What tables call it.
    defense, options, changes
        The defense, changes to its options, and to the settings of the run.
    control
        Whether the row is there to explain others, rather than to be used.
    about
        What makes it differ, in words; stands in the table's notes.
    """

    name: str
    defense: str
    options: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    control: bool = False
    about: str = ""

    def settings(
        self,
        sparsity: float,
        scale: Mapping[str, Any],
        options: Mapping[str, Any] = MappingProxyType({}),
        own: Mapping[str, Any] = MappingProxyType({}),
    ) -> PruneSettings:
        """Return the settings of a run: a scale's, then the defense's own, then the row's.

        ``options`` and ``own`` are what the scale changes of the defense's options and of the
        settings that it comes with. They yield to the row's.
        """
        chosen = {**options, **self.options}
        preferred = {**choose(self.defense, chosen).settings, **own}
        merged = {**scale, **preferred, "sparsity": sparsity, **self.changes}
        return recommended(self.defense, chosen, **merged)


def _control(name: str, defense: str, about: str, **changes: Any) -> Row:
    return Row(name, defense, changes.pop("options", {}), changes, control=True, about=about)


ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        Row("none", "none", about="all epochs of all rounds, no weight decay"),
        Row("base", "base", about="early stopping and weight decay 5e-4"),
        Row("ppb", "ppb"),
        Row("adv", "adv"),
        Row("relaxloss", "relaxloss"),
        Row("hamp", "hamp"),
        Row("dp", "dp", about="DP-SGD in all of training"),
        Row("rsw", "rsw"),
        Row("rmr", "rmr"),
        Row("swmr", "swmr", about="its window moves on over rounds"),
        Row("radd", "radd", about="in the manner of"),
        Row("distill", "distill"),
        _control(
            "unpruned",
            "base",
            "the network before pruning",
            sparsity=0.0,
            rounds=0,
        ),
        _control("sparsity-0", "base", "all rounds of fine-tuning, nothing pruned", sparsity=0.0),
        _control("one-shot", "base", "pruned at once, then one round of fine-tuning", rounds=1),
        _control(
            "from-scratch",
            "base",
            "pruned at once, then trained again from the first weights",
            rounds=1,
            rewind=0,
            epochs=50,
        ),
        *(
            _control(
                f"decay-{decay:g}",
                "base",
                f"base with weight decay {decay:g} on all samples",
                options={"weight_decay": decay},
            )
            for decay in (0.003, 0.01, 0.02, 0.03, 0.06)
        ),
        _control(
            "rsw-random",
            "rsw",
            "rsw with its window in random order",
            options={"order": "random"},
        ),
        _control("rmr-shuffled", "rmr", "rmr with shuffled scores", scores="shuffled"),
        _control("swmr-shuffled", "swmr", "swmr with shuffled scores", scores="shuffled"),
        _control(
            "swmr-restart",
            "swmr",
            "swmr as published, its window starting over in each round",
            options={"restart": True},
        ),
        _control(
            "rmr-quantile",
            "rmr",
            "rmr on the 5.5 % of samples that score highest, as many as in the paper",
            options={"threshold": 0.945, "quantile": True},
        ),
        _control(
            "swmr-quantile",
            "swmr",
            "swmr on the same share",
            options={"threshold": 0.945, "quantile": True},
        ),
        _control(
            "dp-rounds",
            "dp",
            "DP-SGD in the rounds only, as published: proves nothing about the dense network",
            options={"whole": False},
        ),
        _control(
            "distill-hard",
            "distill",
            "distill's recipe on labels alone, without its teacher",
            options={"hard": 1.0},
        ),
        _control(
            "distill-iterative",
            "distill",
            "distill with five rounds of pruning",
            rounds=5,
        ),
        _control("distill-sparsity-0", "distill", "distill, nothing pruned", sparsity=0.0),
    )
}
"""Every row by its name."""

FEW = ("none", "base", "rsw", "rmr", "swmr", "radd", "distill")
"""The rows for a first look."""


def choose_rows(names: Sequence[str]) -> list[Row]:
    """Return rows by name; "all", "defenses", "controls" and "few" stand for several.

    Raises
    ------
    OptionError
        On an unknown name, or one that is named twice.
    """
    groups = {
        "all": list(ROWS),
        "defenses": [name for name, row in ROWS.items() if not row.control],
        "controls": [name for name, row in ROWS.items() if row.control],
        "few": list(FEW),
    }
    chosen = [each for name in names for each in groups.get(name, [name])]
    if unknown := [name for name in chosen if name not in ROWS]:
        raise OptionError(
            f"unknown row {unknown[0]!r}; choose from {', '.join(groups)}, or {', '.join(ROWS)}"
        )
    if not chosen or len(set(chosen)) < len(chosen):
        raise OptionError(f"name each row once, and at least one; got {', '.join(names)}")
    return [ROWS[name] for name in chosen]
