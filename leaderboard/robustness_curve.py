"""Robustness curves: what stands of one row as the budget grows, under each attacker and under all of them.

A sample broken at a smaller eps is broken at a larger one: its image is legal there (carry-over). Between two radii of
the grid a curve keeps the value at the smaller one, so that its area is the mean of the smallest radius known to break
each sample, cut at the largest radius (AttackBench, Cina et al. 2025, arXiv 2404.19460).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Outcome

from .beaten import passes_of
from .flags import recipe
from .worst_case import different_samples, robust_fractions

ALL = "all attackers"


@dataclass(frozen=True)
class RobustnessCurve:
    """What stands at each radius.

    Args:
        attacker: id of its protocols, without the radius.
        grid: radii in [0,1] space, from 0 upwards.
        stands: sample id -> robust fraction of the draws at each radius, never rising.
        passes: image-encoder passes for one sample up to each radius, those at smaller radii included.
        tried: the radii that he attacked at; at the others he keeps what he broke at smaller ones.
    """

    attacker: str
    grid: tuple[Fraction, ...]
    stands: Mapping[str, tuple[float, ...]]
    passes: tuple[float, ...]
    tried: frozenset[Fraction]

    @property
    def whole(self) -> bool:
        """Whether he attacked at every radius: only then is his area that of his attack."""
        return self.tried.issuperset(self.grid[1:])

    @property
    def accuracy(self) -> tuple[float, ...]:
        """Mean of the samples at each radius; the first is clean accuracy."""
        return tuple(sum(column) / len(self.stands) for column in zip(*self.stands.values(), strict=True))

    @property
    def area(self) -> float:
        """Accuracy times radius, in [0,1] space."""
        widths = (float(right - left) for left, right in pairwise(self.grid))
        return sum(height * width for height, width in zip(self.accuracy[:-1], widths, strict=True))

    def at(self, eps: Fraction) -> float:
        """Accuracy at a radius, by the largest one of the grid that is no larger."""
        return self.accuracy[max(i for i, known in enumerate(self.grid) if known <= eps)]


def curves(outcomes: Sequence[Outcome]) -> list[RobustnessCurve]:
    """One curve an attacker, all on the grid of every radius that any of them tried; sorted by attacker.

    Where an attacker did not try a radius, what he broke at smaller ones is known to be broken.

    Raises:
        GauntletError: no attack among them; outcomes of several rows or balls, or of different samples.
    """
    attacks = [outcome for outcome in outcomes if outcome.cell.protocol.threat.norm != "none"]
    if not attacks:
        raise _refused("no attack", "outcomes of attacks on images")
    if len(rows := {_row(outcome) for outcome in attacks}) > 1:
        raise _refused(f"{len(rows)} rows, such as {' and '.join(map(str, sorted(rows)[:2]))}", "outcomes of one row")
    if difference := different_samples(attacks):
        raise _refused(f"different samples: {difference}", "the same samples at every radius and of every attacker")
    grid = tuple(sorted({Fraction(0), *(outcome.cell.protocol.threat.eps for outcome in attacks)}))
    clean = _least({s.id: s.clean / outcome.draws for s in outcome.samples} for outcome in attacks)
    found: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in attacks:
        found[recipe(outcome)].append(outcome)
    return [_curve(attacker, grid, clean, found[attacker]) for attacker in sorted(found)]


def best_curve(known: Sequence[RobustnessCurve]) -> RobustnessCurve:
    """What stands where every sample meets who breaks it at the smallest radius; passes of all together."""
    stands = {
        sample: tuple(min(column) for column in zip(*(curve.stands[sample] for curve in known), strict=True))
        for sample in known[0].stands
    }
    passes = tuple(sum(column) for column in zip(*(curve.passes for curve in known), strict=True))
    return RobustnessCurve(ALL, known[0].grid, stands, passes, frozenset().union(*(curve.tried for curve in known)))


def _curve(
    attacker: str, grid: tuple[Fraction, ...], clean: Mapping[str, float], tried: Sequence[Outcome]
) -> RobustnessCurve:
    columns, passes, spent = [dict(clean)], [0.0], 0.0
    for eps in grid[1:]:
        now = [outcome for outcome in tried if outcome.cell.protocol.threat.eps == eps]
        spent += sum(map(passes_of, now))
        columns.append(_least([columns[-1], *map(robust_fractions, now)]))
        passes.append(spent)
    stands = {sample: tuple(column[sample] for column in columns) for sample in clean}
    here = frozenset(outcome.cell.protocol.threat.eps for outcome in tried)
    return RobustnessCurve(attacker, grid, stands, tuple(passes), here)


def _least(fractions: Iterable[Mapping[str, float]]) -> dict[str, float]:
    first, *others = fractions
    return {sample: min([value, *(other[sample] for other in others)]) for sample, value in first.items()}


def _row(outcome: Outcome) -> tuple[str, ...]:
    cell, threat = outcome.cell, outcome.cell.protocol.threat
    place = (cell.method, cell.backbone, cell.dataset, str(cell.seed))
    return (*place, threat.norm, threat.modality, threat.attack_resolution)


def _refused(came: str, expected: str) -> GauntletError:
    return GauntletError(came, expected=expected, where="robustness curve", fix="run each attacker on the whole grid")
