"""What the checks found, as Markdown to paste."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from tabulate import tabulate

Status = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Finding:
    """The answer of one check: a status, and one sentence that says what was seen and what to do."""

    check: str
    status: Status
    sentence: str


@dataclass(frozen=True)
class Report:
    """All findings on one defence.

    Attributes:
        method: name that the defence was asked for by.
        backbone: id of the backbone.
        material: pictures that were used, in words.
        findings: in the order of the checks.
        seconds: how long all of it took.
    """

    method: str
    backbone: str
    material: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """No check failed. Warnings and skips are for a person to read."""
        return not self.named("fail")

    def named(self, status: Status) -> list[str]:
        """Names of the checks with this status."""
        return [f.check for f in self.findings if f.status == status]

    def finding(self, check: str) -> Finding:
        """What this check found; KeyError for a name that did not run."""
        return {f.check: f for f in self.findings}[check]

    def markdown(self) -> str:
        """Heading, verdict and one table row a check."""
        counts = {s: len(self.named(s)) for s in ("pass", "warn", "fail", "skip")}
        verdict = "conforms" if self.passed else f"does not conform: {', '.join(self.named('fail'))}"
        rows = [(f.check, f.status, f.sentence.replace("|", "\\|").replace("\n", " ")) for f in self.findings]
        table = tabulate(rows, ("check", "status", "what was seen"), tablefmt="github", disable_numparse=True)
        return (
            f"### Conformance of `{self.method}` on `{self.backbone}`\n\n"
            f"**{verdict}** ({', '.join(f'{n} {s}' for s, n in counts.items())}; {self.seconds:.0f} s, "
            f"{self.material}; vlm-gauntlet {version('vlm-gauntlet')}, torch {version('torch')})\n\n{table}\n"
        )
