"""Pages of what sources report: every claim beside its verdict, our own frozen numbers, and the audit of the tables."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.fixtures.sources import sources
from vlm_gauntlet.methods.claims import Claim, claims
from vlm_gauntlet.suites.audit import audit
from vlm_gauntlet.suites.audit.finding import Finding
from vlm_gauntlet.suites.audit.known import reason_for
from vlm_gauntlet.suites.mini_claims import mini_claims

from . import formatting
from .direction import directions, t0_of_rows
from .mini_verdicts import mini_verdicts
from .rows import Row
from .verdicts import WORDS, Verdict


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict, as a line of a page."""

    claim: Claim
    verdict: Verdict


def _families(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Findings with the same rule and the same reason together, in their order: (reason, findings)."""
    families: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for found in findings:
        families[found.rule, reason_for(found)].append(found)
    return [(reason, members) for (_, reason), members in families.items()]


def write_claim_pages(
    pages: Environment,
    shared: dict[str, object],
    outcomes: Sequence[Outcome],
    rows: Sequence[Row],
    judged: Mapping[str, Verdict],
    out: Path,
) -> None:
    """Writes `claims/index.html`, `claims/<method>.html` and `audit.html` into a site; `judged` has every claim."""
    found = claims()
    by_method: dict[str, list[Judged]] = defaultdict(list)
    by_source: dict[str, Counter[str]] = defaultdict(Counter)
    for claim in found:
        by_method[claim.method].append(Judged(claim, judged[claim.id]))
        by_source[claim.source][judged[claim.id].word] += 1
    mini = mini_verdicts(mini_claims(), outcomes)
    findings = audit(found)
    (out / "claims").mkdir()

    def write(name: str, template: str, **more: object) -> None:
        text = pages.get_template(f"{template}.html.j2").render(**shared, **more)
        (out / name).write_text(text, encoding="utf-8")

    write(
        "claims/index.html", "claims", root="../", by_source=sorted(by_source.items()), sources=sources(), words=WORDS,
        methods={m: len(lines) for m, lines in sorted(by_method.items())}, total=len(found), findings=len(findings),
        directions=directions(t0_of_rows(rows), found), mini=[r for r in mini.values() if r.n],
        unrun=sum(not r.n for r in mini.values()),
    )  # fmt: skip
    for method, lines in by_method.items():
        write(
            f"claims/{formatting.file_name(method)}.html", "claims_of", root="../", method=method, lines=lines,
            title=known_datasets().title, counts=Counter(line.verdict.word for line in lines), words=WORDS,
        )  # fmt: skip
    write(
        "audit.html", "audit", root="", families=_families(findings), total=len(found),
        counts=sorted(Counter(f.rule for f in findings).items()),
    )  # fmt: skip
