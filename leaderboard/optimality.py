"""How near each attacker comes to the best known, over a grid of radii (AttackBench, arXiv 2404.19460).

Of attacker a on one row: 1 - (A_a - A*) / (clean eps_max - A*), with A_a the area under his robustness curve and A*
that under the curve of all attackers together. 1: nobody breaks a sample at a smaller radius; 0: he breaks nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .robustness_curve import RobustnessCurve, best_curve


@dataclass(frozen=True)
class Optimality:
    """One attacker on one row.

    Args:
        curve: his; its last passes are those of the whole grid.
        value: in [0, 1]; None where he did not try every radius, or where no attacker breaks anything.
    """

    curve: RobustnessCurve
    value: float | None

    @property
    def attacker(self) -> str:
        """See RobustnessCurve."""
        return self.curve.attacker


def optimality(known: Sequence[RobustnessCurve]) -> list[Optimality]:
    """Each attacker of one row, the best first, of equals the cheapest; those without a value last."""
    best = best_curve(known)
    room = best.accuracy[0] * float(best.grid[-1]) - best.area
    found = [
        Optimality(curve, 1 - (curve.area - best.area) / room if room > 0 and curve.whole else None)
        for curve in sorted(known, key=lambda curve: (curve.area, curve.passes[-1], curve.attacker))
    ]
    return sorted(found, key=lambda one: one.value is None)


def over_rows(rows: Iterable[Sequence[Optimality]]) -> dict[str, tuple[float, int]]:
    """Attacker -> (mean optimality, number of rows), over the rows where he has a value; the best first."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for one in row:
            if one.value is not None:
                values[one.attacker].append(one.value)
    means = {attacker: (sum(found) / len(found), len(found)) for attacker, found in values.items()}
    return dict(sorted(means.items(), key=lambda pair: (-pair[1][0], pair[0])))
