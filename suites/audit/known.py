"""Known findings: why each stands, in `known.toml`. A reason expires when the cells or their values change."""

import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.fixtures.files import sha256

from .finding import Finding

PATH = Path(__file__).parent / "known.toml"


class Known(BaseModel):
    """A reason for one finding or a family of them.

    Args:
        rule: the rule that found them.
        cells: pattern of the first cell's id (`mmcoa/Table III/*`).
        digest: of all findings that the pattern covers, so that any change to them expires the reason.
        reason: why they stand, for a reader.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    cells: str
    digest: str
    reason: str = Field(min_length=10)

    def covers(self, found: Finding) -> bool:
        """Whether the reason is about this finding."""
        return found.rule == self.rule and fnmatchcase(found.cells[0], self.cells)

    def among(self, findings: Sequence[Finding]) -> list[Finding]:
        """The findings that it is about."""
        return [f for f in findings if self.covers(f)]

    def digest_of(self, findings: Sequence[Finding]) -> str:
        """What `digest` has to be for these findings."""
        return sha256("\n".join(sorted(f.fingerprint for f in self.among(findings))).encode())[:12]

    def expired(self, findings: Sequence[Finding]) -> bool:
        """Whether the findings are no longer those that somebody looked at."""
        return not self.among(findings) or self.digest_of(findings) != self.digest


@cache
def known_findings() -> tuple[Known, ...]:
    """All reasons."""
    fix = "each [[known]] has rule, cells, digest and reason"
    with reading("known findings", PATH, expected="the fields of Known", fix=fix):
        return tuple(Known.model_validate(k) for k in tomllib.loads(PATH.read_text()).get("known", []))


def reason_for(found: Finding) -> str:
    """Why a finding stands, or an empty string where nobody has looked at it."""
    return next((k.reason for k in known_findings() if k.covers(found)), "")


def explained(found: Finding) -> bool:
    """Whether somebody has looked at a finding."""
    return bool(reason_for(found))
