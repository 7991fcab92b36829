"""The tables of papers, tested before any model runs. A known finding has its reason in `audit/known.toml`."""

import pytest

from vlm_gauntlet.methods.claims import claims
from vlm_gauntlet.suites.audit import RULES, audit
from vlm_gauntlet.suites.audit.known import explained, known_findings

pytestmark = pytest.mark.fast


def test_every_finding_has_a_reason() -> None:
    unexplained = [f for f in audit() if not explained(f)]
    shown = "\n".join(f"{f.severity}: {f.rule}: {f.sentence} {f.arithmetic}" for f in unexplained[:20])
    assert not unexplained, f"{len(unexplained)} findings without a reason in suites/audit/known.toml:\n{shown}"


def test_every_reason_still_has_its_finding() -> None:
    found = audit()
    stale = [k for k in known_findings() if k.expired(found)]
    assert not stale, "the data changed; look again and renew or remove:\n" + "\n".join(
        f"{k.rule} {k.cells}: now {k.digest_of(found)} ({len(k.among(found))} findings)" for k in stale
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_sees_something(rule: object) -> None:
    """A rule that finds nothing in all that was ever printed has gone blind."""
    assert list(rule(claims())), "no finding"  # type: ignore[operator]
