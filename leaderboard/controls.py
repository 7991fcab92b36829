"""Controls on the board: runs whose right answer is known, each with whether it came out."""

from collections.abc import Sequence
from dataclasses import dataclass

from vlm_gauntlet.suites.controls import knows_too_little, right, survivors, survivors_allowed

from .rows import Row

UNDEFENDED = "undefended"


@dataclass(frozen=True)
class Control:
    """One control.

    Args:
        expected: the right answer, in words.
        seen: what came out, in words.
        passed: None where it cannot be told.
    """

    row: Row
    expected: str
    seen: str
    passed: bool | None

    @property
    def word(self) -> str:
        """`pass`, `fail` or `cannot be told`."""
        return {True: "pass", False: "fail", None: "cannot be told"}[self.passed]


def controls(rows: Sequence[Row]) -> list[Control]:
    """Every control among the rows, those that failed first.

    A budget of zero changes nothing, one without bound leaves nothing, and of the undefended model nothing is left at
    the largest eps (of L∞) that was tried on a data set.
    """
    largest: dict[tuple[str, str], Row] = {}
    for row in rows:
        undefended = row.method == UNDEFENDED and row.threat.norm == "linf" and row.threat.modality == "image"
        if undefended and not row.control and row.state not in ("no attack", "unknown here"):
            place = (row.backbone, row.dataset)
            if place not in largest or largest[place].threat.eps < row.threat.eps:
                largest[place] = row
    found = [_control(row) for row in [*largest.values(), *(r for r in rows if r.control)]]
    return sorted(found, key=lambda one: (one.passed is not False, one.passed is not None))


def _control(row: Row) -> Control:
    attacks = [o for o in row.outcomes if o.cell.protocol.threat.knowledge != "none"]
    n, knows = attacks[0].n, right(attacks[0])
    if row.threat.harmless:
        moved = max(sum(s.clean != s.attacked for s in o.samples) for o in attacks)
        if any(o.draws > 1 for o in attacks):  # fresh draws may answer otherwise, attack or not
            return Control(row, "nothing changes", f"{moved} of {n} samples answered otherwise, over fresh draws", None)
        return Control(row, "nothing changes", f"{moved} of {n} samples changed", moved == 0)
    left, most = min(survivors(o) for o in attacks), survivors_allowed(n)
    if row.worst:
        left = min(left, round(row.worst.accuracy.value * n))
    expected = f"all break: at most {most} of {n} survive"
    if knows_too_little(knows, n):
        return Control(row, expected, f"it knows only {knows} of {n} without attack", None)
    return Control(row, expected, f"{left} of {n} survive", left <= most)
