"""Rows that were attacked at several radii: their robustness curves, and how near each attacker comes to the best."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .formatting import file_name
from .optimality import Optimality, optimality
from .robustness_curve import RobustnessCurve, best_curve, curves
from .rows import Row
from .worst_case import different_samples

LEAST = 3  # radii of a curve
UNFIT = ("unknown here", "no attack")
Table = tuple[str, str, str, str]  # backbone, data set, norm, attack resolution


@dataclass(frozen=True)
class Sweep:
    """One method on one backbone and data set over the radii of a norm.

    Args:
        rows: at each radius, ascending, all of the same samples and the same version.
        best: curve of all attackers together.
        attackers: each with his optimality, the best first.
    """

    rows: tuple[Row, ...]
    best: RobustnessCurve
    attackers: tuple[Optimality, ...]

    @property
    def row(self) -> Row:
        """The one at the smallest radius, which stands for the others."""
        return self.rows[0]

    @property
    def table(self) -> Table:
        """The table that it belongs to."""
        return (self.row.backbone, self.row.dataset, self.row.threat.norm, self.row.threat.attack_resolution)

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from the others."""
        return (*self.table, self.row.method, str(self.row.seed))

    @property
    def anchor(self) -> str:
        """Its place on its method's page."""
        return f"curve-{file_name('-'.join((*self.table, str(self.row.seed))))}"

    @property
    def grid(self) -> tuple[Fraction, ...]:
        """Its radii, without 0."""
        return self.best.grid[1:]

    @property
    def states(self) -> list[tuple[str, int]]:
        """How many of its rows have each state, the most frequent first."""
        return sorted(Counter(row.state for row in self.rows).items(), key=lambda pair: (-pair[1], pair[0]))


def sweeps(rows: Sequence[Row]) -> list[Sweep]:
    """What was attacked on images at three radii or more, on the same samples; by table, what stands longest first.

    Where radii have different samples or versions, those count that most radii share, of as many the largest.
    """
    places: dict[tuple[object, ...], dict[tuple[object, ...], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        fits = row.threat.modality == "image" and not row.control and row.state not in UNFIT
        if fits and not different_samples(row.outcomes):
            place = (row.backbone, row.dataset, row.threat.norm, row.threat.attack_resolution, row.method, row.seed)
            places[place][_same(row)].append(row)
    found = []
    for groups in places.values():
        chosen = max(groups.values(), key=lambda group: (len(group), group[0].clean.n))
        if len(chosen) >= LEAST:
            known = curves([o for row in chosen for o in row.outcomes])
            ordered = tuple(sorted(chosen, key=lambda row: row.threat.eps))
            found.append(Sweep(ordered, best_curve(known), tuple(optimality(known))))
    return sorted(found, key=lambda sweep: (sweep.table, -sweep.best.area, sweep.row.method, sweep.row.seed))


def _same(row: Row) -> tuple[object, ...]:
    """What rows of one curve share: version and samples."""
    first = row.outcomes[0]
    cell, ids = first.cell, frozenset(s.id for s in first.samples)
    return (cell.method_digest, cell.backbone_digest, cell.dataset_digest, cell.prompts_digest, cell.code_digest, ids)


def records(found: Sequence[Sweep]) -> list[dict[str, object]]:
    """One object for each attacker on each row, and one for all of them together; fractions in [0, 1]."""
    lines = []
    for sweep in found:
        place = {
            "method": sweep.row.method, "backbone": sweep.row.backbone, "dataset": sweep.row.dataset,
            "norm": sweep.row.threat.norm, "attack_resolution": sweep.row.threat.attack_resolution,
            "seed": sweep.row.seed, "n": sweep.row.clean.n, "states": ", ".join(f"{n} {s}" for s, n in sweep.states),
        }  # fmt: skip
        together = Optimality(sweep.best, None)
        for one in (together, *sweep.attackers):
            curve = one.curve
            lines.append({
                **place, "attacker": curve.attacker, "optimality": one.value, "area": curve.area,
                "passes": curve.passes[-1], "radii_tried": " ".join(map(str, sorted(curve.tried))),
                "curve": " ".join(f"{e}:{a:.6g}" for e, a in zip(curve.grid, curve.accuracy, strict=True)),
            })  # fmt: skip
    return lines
