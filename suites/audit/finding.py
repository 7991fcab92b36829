"""What the audit finds: a rule broken by cells, the arithmetic, and a sentence for a reader."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.methods.claims import Claim

Severity = Literal["error", "warning", "note"]
GRAVITY: dict[str, int] = {"note": 0, "warning": 1, "error": 2}


class Finding(BaseModel):
    """One thing that is wrong, or odd, in what sources print.

    Args:
        rule: what was tested.
        severity: `error`: it cannot be right; `warning`: two things do not fit; `note`: a reader should know.
        cells: claim ids, `source/table/row/column`.
        values: what those cells print, in the same order.
        arithmetic: the calculation, with its numbers.
        sentence: what it means.
    """

    model_config = ConfigDict(frozen=True)

    rule: str
    severity: Severity
    cells: tuple[str, ...]
    values: tuple[str, ...]
    arithmetic: str
    sentence: str

    @property
    def fingerprint(self) -> str:
        """Changes with the rule, the cells and what they print."""
        return sha256(repr((self.rule, self.cells, self.values, self.arithmetic)).encode())[:12]

    @property
    def gravity(self) -> int:
        """Severity as a number."""
        return GRAVITY[self.severity]


def finding(rule: str, severity: Severity, cells: Sequence[Claim], arithmetic: str, sentence: str) -> Finding:
    """Builds a finding from its claims."""
    return Finding(
        rule=rule, severity=severity, cells=tuple(c.id for c in cells), values=tuple(c.value for c in cells),
        arithmetic=arithmetic, sentence=sentence,
    )  # fmt: skip
