"""Tiers: which methods, data sets and protocols run together, from `fixtures/data/tiers/*.toml` or a file elsewhere.

A method enters a tier by what its card says: its cost, whether it is exemplary, which variants of it are worth a row,
on which embedded backbones it was trained.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from vlm_gauntlet import fixtures
from vlm_gauntlet.fixtures.backbones import embedded
from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.fixtures.inheritance import inherited
from vlm_gauntlet.fixtures.parts import Parts, read_all
from vlm_gauntlet.methods.card import Card
from vlm_gauntlet.methods.registry import methods, without_unusable
from vlm_gauntlet.methods.registry import parts as registered
from vlm_gauntlet.methods.released import HERE, SWITCH, read_released

from .described import described

TIERS = ("fast", "mini", "nightly", "full")  # those that pytest has a mark for; `gauntlet run --tier` takes all
FEWEST = 32  # samples, however dear a method is: fewer tell nothing
FOLDER = Path(next(iter(fixtures.__path__))) / "data" / "tiers"


class Tier(BaseModel):
    """One matrix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    backbone: str
    named: tuple[str, ...] = Field(default=(), description="these, whatever their cards say; with switches")
    exemplary: bool = Field(default=False, description="only methods that their cards call exemplary")
    passes: int | None = Field(default=None, description="at most so many for one gradient of an adaptive attacker")
    datasets: tuple[str, ...]
    protocols: tuple[str, ...] = Field(description="ids, or paths of protocol files")
    limit: int = Field(ge=1)
    randomised_limit: int | None = Field(default=None, ge=1, description="in place of limit, for many draws")
    effort: int | None = Field(
        default=None, ge=1,
        description="samples times passes of one adaptive gradient, for a data set: who takes more gets fewer samples",
    )  # fmt: skip
    batch_size: int = Field(ge=1)
    seed: int = 0
    secret_seed: bool = Field(default=False, description="one is drawn for each folder of outcomes: see `seeds.py`")
    control_protocol: str = Field(description="under this white-box protocol the undefended model must break")
    adaptive_protocol: str = Field(description="under this one a gradient-masking dummy must break")
    gpu: bool = False
    network: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that run, variants included. What cannot be read may belong here: it is named, too."""
        broken = sorted(registered().unusable.keys() - registered().outside)
        return self.named or tuple([*(name for card in _cards() for name in self._names(card)), *broken])

    @property
    def limits(self) -> dict[str, int]:
        """Other limits for single methods, by name: fewer for one that draws, or that takes many passes."""
        if self.randomised_limit is None and self.effort is None:
            return {}
        usable, _ = without_unusable(self.methods)
        limits = {name: self._limit(described(name).card) for name in usable}
        return {name: limit for name, limit in limits.items() if limit != self.limit}

    def _limit(self, card: Card) -> int:
        most = self.randomised_limit if self.randomised_limit is not None and card.randomised else self.limit
        if self.effort is None or (cost := card.attack_cost) is None:
            return most
        return min(most, max(FEWEST, self.effort // (cost.forward + cost.backward)))

    def _names(self, card: Card) -> Iterator[str]:
        """The names by which a method enters: its own, those of its variants, those of weights that were released.

        One that needs weights stays out of a tier on an embedded backbone for which nobody trained it.
        """
        if card.weights and self.backbone in embedded() and self.backbone not in card.weights:
            return
        cost = card.attack_cost
        affordable = self.passes is None or (cost is not None and cost.forward + cost.backward <= self.passes)
        if affordable and cost is not None and (card.exemplary or not self.exemplary):
            yield card.id
            for variant in card.variants:
                if variant.exemplary if self.exemplary else self.gpu or not variant.gpu:
                    yield card.id + variant.name
            weights = read_released(HERE / card.id)
            yield from (f"{card.id}+{SWITCH}={each.id}" for each in weights if each.backbone == self.backbone)


def _cards() -> list[Card]:
    return [defence.card for _, defence in sorted(methods().items())]


def read_tier(path: Path) -> Tier:
    """The tier of a file.

    Raises:
        GauntletError: it does not validate.
    """
    with reading("tier file", path, expected="the fields of Tier", fix="compare with fixtures/data/tiers/fast.toml"):
        return Tier.model_validate({"name": path.stem, **inherited(path, FOLDER)})


@cache
def parts() -> Parts[Tier]:
    """The tiers of the house, the broken ones with what is wrong."""
    return read_all("tier", sorted(FOLDER.glob("*.toml")), read_tier, lambda path: path.stem)


def tier(name: str) -> Tier:
    """The tier with this name, or of this file (`path/to/mine.toml`, which may have a `base`).

    Raises:
        GauntletError: nobody knows it, with near misses; or the file does not validate.
    """
    return read_tier(Path(name)) if name.endswith(".toml") else parts().get(name, "--tier")
