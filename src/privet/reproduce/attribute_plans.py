"""What SP-ASPP's Table 1 for attribute protection consists of: its scales, rows and controls."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from privet.jobs.attribute_training import AS_PUBLISHED, PAPER, AttributeSettings

ATTACKER = "nn-sgd"
"""The paper's attacker."""
NOMINAL: Mapping[int, float] = {699: 50, 299: 100, 200: 150, 99: 200}
"""Hidden units of the paper's tiers, from the parameters it states, and the speed-up it calls
them by. Of 40,000 units, these are really 57, 134, 200 and 404 times fewer MACs."""


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is.

    Parameters
    ----------
    hidden
        Hidden units of D (the paper: 40,000).
    units
        Hidden units of the tiers, one row each.
    wide
        Defense models with more units than this are attacked on ``few`` test users only.
    controls_at
        The tier that controls are made for, and adaptive attackers attack.
    paper_epochs
        Of the control that is trained as published: for D, which takes a hundredfold longer than
        a tier, and for the tier.
    attacker_hidden, others_hidden
        Hidden units of the paper's attacker (30,000), and of all other networks that attack.
    adaptive_users
        Known users that the adversarially trained attacker protects and learns from.
    attackers
        Who attacks every row, by name; see `privet.attacks.attribute.ATTRIBUTE_ATTACKERS`.
    hardened
        Who attacks, at ``controls_at`` only, besides: attackers that evasion is hard against.
        Adversarially trained ones are added there.
    settings
        Everything else.
    """

    hidden: int = 40_000
    units: tuple[int, ...] = (20_000, 8000, 2000, 800, 699, 400, 299, 200, 99)
    wide: int = 1000
    few: int = 100
    controls_at: int = 200
    paper_epochs: tuple[int, int] = (12, 100)
    attacker_hidden: int = 30_000
    others_hidden: int = 4000
    adaptive_users: int = 4000
    attackers: tuple[str, ...] = (ATTACKER, "nn", "nn-late", "logistic", "forest", "majority")
    hardened: tuple[str, ...] = ("distilled", "region")
    settings: AttributeSettings = field(default_factory=AttributeSettings)


SCALES: Mapping[str, Scale] = {
    "paper": Scale(),
    "small": Scale(
        hidden=4000,
        units=(800, 400, 200, 99),
        few=400,
        paper_epochs=(12, 40),
        attacker_hidden=3000,
        others_hidden=2000,
        adaptive_users=1000,
    ),
}
"""The small one has the paper's tiers of a tenth of its D: speed-ups are a tenth, too."""


@dataclass(frozen=True)
class Row:
    """One way to protect.

    Parameters
    ----------
    name
        Of its stages.
    method
        What the table calls it.
    settings
        How its networks are trained; `Settings` for its search stand in there, too.
    units
        Hidden units of the defense model, None for D itself.
    about
        What makes it differ, in words.
    control
        Whether the row is there to explain others.
    noise
        Whether its changes are replaced by as many random ones.
    adaptive
        Whether hardened and adversarially trained attackers attack it besides.
    """

    name: str
    method: str
    settings: AttributeSettings
    units: int | None
    about: str = ""
    control: bool = False
    noise: bool = False
    adaptive: bool = False

    @property
    def nominal_speedup(self) -> float | None:
        """What the paper calls the row's speed-up; None where it has no such row."""
        if self.noise:
            return None
        return 1 if self.units is None else NOMINAL.get(self.units)


def rows_at(scale: Scale) -> list[Row]:
    """Return the rows of the table, the published methods first."""
    ours = replace(scale.settings, hidden=scale.hidden)
    base_epochs, tier_epochs = scale.paper_epochs
    published = replace(
        ours,
        base=replace(PAPER, epochs=base_epochs),
        tier=replace(PAPER, epochs=tier_epochs),
        search=AS_PUBLISHED,
        rare=0.0,
    )
    at = scale.controls_at
    tiers = [
        Row(f"units-{units}", "SP-ASPP", ours, units, adaptive=units == at) for units in scale.units
    ]
    return [
        Row("D", "AttriGuard, ours", ours, None, "D unpruned, training stopped early"),
        *tiers,
        Row(
            "D-published",
            "AttriGuard, trained long",
            published,
            None,
            f"D trained for {base_epochs} epochs whatever happens, of the paper's 100, the search "
            f"as printed",
            control=True,
        ),
        Row(
            "published",
            "SP-ASPP, trained long",
            published,
            at,
            f"{at} units retrained for {tier_epochs} epochs whatever happens, though kept from our "
            f"D, the search as printed",
            control=True,
        ),
        Row(
            "overtrained",
            "trained long, our search",
            replace(published, search=ours.search, rare=ours.rare),
            at,
            f"{at} units retrained for {tier_epochs} epochs, our search",
            control=True,
        ),
        Row(
            "printed-search",
            "search as printed",
            replace(ours, search=AS_PUBLISHED, rare=0.0),
            at,
            f"{at} units retrained as ours, Algorithm 1 as printed",
            control=True,
        ),
        Row(
            "random-units",
            "random units",
            replace(ours, importance="random"),
            at,
            f"{at} units chosen by lot",
            control=True,
        ),
        Row(
            "random-noise",
            "random noise",
            ours,
            at,
            f"random changes that cost as much as those of {at} units",
            control=True,
            noise=True,
        ),
    ]
