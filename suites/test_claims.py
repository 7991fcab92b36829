"""Papers' claims against outcomes (nightly, full); our own frozen outcomes again (fast, mini). After the cells."""

import pytest

from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.leaderboard.mini_verdicts import mini_verdicts
from vlm_gauntlet.leaderboard.verdicts import Verdict, explained_by, verdicts
from vlm_gauntlet.methods.claims import Claim, claims
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.mini_claims import mini_claims, parts
from vlm_gauntlet.suites.plugin import Keeping, cells_of
from vlm_gauntlet.suites.running import run_cell

BROKEN = ("below claim", "above claim", "failed")


@pytest.fixture(scope="session")
def verdict_table(journal: Journal) -> dict[str, Verdict]:
    """All claims judged together, since false discoveries are controlled over all of them."""
    return verdicts(claims(), journal.outcomes())


@pytest.mark.nightly
@pytest.mark.full
def test_claim(claim: Claim, verdict_table: dict[str, Verdict]) -> None:
    found = verdict_table[claim.id]
    if found.word in BROKEN:
        if why := explained_by(claim):
            pytest.xfail(f"{found.word}: {found.reason} Explained: {why}")
        pytest.fail(f"{found.word}: {claim.value} for {claim.method} on {claim.dataset}. {found.reason}", pytrace=False)
    if found.word != "reproduced":
        pytest.skip(f"{found.word}: {found.reason}" + (f" Run: {found.command}" if found.command else ""))


def test_mini_claims(tier_name: str, journal: Journal, keeper: Keeping, pytestconfig: pytest.Config) -> None:
    """Every frozen cell of the tier comes out again."""
    if tier_name not in ("fast", "mini"):
        pytest.skip("real CLIP has papers' claims instead of frozen ones")
    cells = {c.id: c for c in cells_of(pytestconfig, tier_name)}
    frozen = [r for r in mini_claims() if r.id in cells]
    if not frozen:
        pytest.skip("no frozen outcome of this part of the matrix; gauntlet claims freeze makes them")
    outcomes = []
    for reference in frozen:
        cell = cells[reference.id]
        try:
            outcomes.append(run_cell(cell, journal, keeper=keeper(cell)))
        except UnavailableError:
            continue
    assert not parts().unusable, [error.short for error in parts().unusable.values()]
    found = mini_verdicts(frozen, outcomes)
    assert any(v.n for v in found.values()) or not outcomes, "nothing was compared: freeze the outcomes again"
    broken = [v for v in found.values() if v.fault or (v.word == "not checkable" and outcomes)]
    assert not broken, "\n".join(f"{v.word}: {v.claim}: {v.reason}" for v in broken)
