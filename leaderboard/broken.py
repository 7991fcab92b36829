"""Who broke which samples of a row: one line an attack, the samples in one order, as strips and as ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from markupsafe import Markup

from vlm_gauntlet.attacks.levels import level
from vlm_gauntlet.fixtures.records import Outcome, Sample

from .rows import Row
from .statistics import Estimate, mean_of
from .worst_case import scored_fractions

Fate = Literal["stands", "in part", "broken", "wrong"]
COLUMNS = 240  # samples of a strip: more of them are thinner than a pixel
IDS = 12  # named in a line; the outcome's file has all
LONGEST = 40  # characters of an id


@dataclass(frozen=True)
class Attack:
    """What one attack did to the samples of a row.

    Args:
        level: `T0` to `T3`.
        left: what it alone leaves, as it enters the worst case.
        broke: ids that it broke in every draw in which they were right before, or in some.
        alone: ids among these that no other attack of the row broke; empty where the samples differ.
        strip: fates of the first COLUMNS samples, drawn.
    """

    outcome: Outcome
    level: str
    left: Estimate
    broke: tuple[str, ...]
    alone: tuple[str, ...]
    strip: Markup

    @property
    def named(self) -> tuple[str, ...]:
        """Some of the ids that it broke, those that nobody else broke first; long ones are cut."""
        alone = set(self.alone)
        ordered = [*self.alone, *(i for i in self.broke if i not in alone)]
        return tuple(i if len(i) <= LONGEST else f"{i[: LONGEST - 1]}…" for i in ordered[:IDS])


@dataclass(frozen=True)
class Broken:
    """All attacks of a row.

    Args:
        attacks: weakest attacker first.
        worst: strip of what stands under all of them; None where the samples differ.
        never, wrong: number of samples that nobody broke, and that were wrong without attack.
        shown: samples in each strip, of `of`.
    """

    attacks: tuple[Attack, ...]
    worst: Markup | None
    never: int
    wrong: int
    shown: int
    of: int


def broken(row: Row) -> Broken | None:
    """Who broke which samples of a row; None where nobody attacked."""
    attacked = [o for o in row.outcomes if o.cell.protocol.threat.knowledge != "none"]
    if not attacked:
        return None
    fates = [{s.id: fate(s) for s in o.samples} for o in attacked]
    same = all(one.keys() == fates[0].keys() for one in fates)
    hits: dict[str, int] = dict.fromkeys(fates[0], 0) if same else {}
    for one in fates:
        for name in hits:
            hits[name] += one[name] in ("broken", "in part")
    everywhere = [name for name in fates[0] if all(one.get(name) == "wrong" for one in fates)]
    order = _order(hits, set(everywhere))
    attacks = []
    for outcome, one in zip(attacked, fates, strict=True):
        broke = tuple(name for name, found in one.items() if found in ("broken", "in part"))
        attacks.append(
            Attack(
                outcome, level(outcome.cell.protocol), mean_of([*scored_fractions(outcome).values()]), broke,
                tuple(name for name in broke if hits.get(name) == 1),
                strip([one[name] for name in (order or list(one))[:COLUMNS]]),
            )
        )  # fmt: skip
    worst = strip([_least([one[name] for one in fates]) for name in order[:COLUMNS]]) if same else None
    never = sum(n == 0 for n in hits.values()) - len(everywhere) if same else 0
    return Broken(tuple(attacks), worst, never, len(everywhere), min(len(fates[0]), COLUMNS), len(fates[0]))


def fate(sample: Sample) -> Fate:
    """What became of a sample: `wrong` without attack, `broken` in each draw that was right, else `in part`, or not."""
    if sample.clean == 0:
        return "wrong"
    if sample.robust == sample.clean:
        return "stands"
    return "broken" if sample.robust == 0 else "in part"


def _order(hits: Mapping[str, int], wrong: set[str]) -> list[str]:
    """What most attacks broke first, what nobody broke after it, what was wrong anyway last."""
    return sorted(hits, key=lambda name: (name in wrong, -hits[name], name))


def _least(found: Sequence[Fate]) -> Fate:
    return min(found, key=("broken", "wrong", "in part", "stands").index)


def strip(fates: Sequence[Fate]) -> Markup:
    """A line of samples as one drawing: full height where a sample stands, half where in part, a low line where broken.

    A sample that was wrong without attack leaves a gap. Height and place say it; colours repeat it.
    """
    paths: dict[str, list[str]] = {"stands": [], "in part": [], "broken": []}
    place = 0
    for found, run in groupby(fates):
        width = len([*run])
        if found in paths:
            top = {"stands": 0, "in part": 5, "broken": 8}[found]
            paths[found].append(f"M{place} {top}h{width}v{10 - top}h-{width}z")
        place += width
    drawn = Markup("").join(
        Markup('<path class="{}" d="{}"/>').format(name.replace(" ", "-"), "".join(parts))
        for name, parts in paths.items()
        if parts
    )
    return Markup(
        '<svg class="strip" viewBox="0 0 {} 10" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(max(place, 1), drawn)
