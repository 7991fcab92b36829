"""What makes a plan affordable: each step is counted from what the cells and outcomes say, and nothing else."""

import pytest

from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.planning.affordable import saved, steps
from vlm_gauntlet.suites.planning.passes import passes
from vlm_gauntlet.suites.planning.rates import given
from vlm_gauntlet.suites.planning.work import key_of

from ..leaderboard.factory import outcome

PGD, OTHER, APGD = "pgd-10-white-box-linf-1-255", "pgd-100-white-box-linf-1-255", "apgd-ce-20-white-box-linf-1-255"
LIMITS = {"tecoa": 8, "ttc": 2}
RATE = given(10.0)


@pytest.fixture
def cells() -> dict[str, CellPlan]:
    found = plan(list(LIMITS), "miniclip-vit", ["digits"], [PGD, APGD], limit=8, limits=LIMITS)
    return {key_of(cell): cell for cell in found}


def each(cell: CellPlan) -> float:
    """Passes of one image on paper; digits has ten classes."""
    found = passes(cell.method, cell.protocol, classes=10, backbone="miniclip-vit")
    assert found is not None
    return found.forward + found.backward


def test_without_outcomes_a_plan_is_what_is_on_paper(cells: dict[str, CellPlan]) -> None:
    whole, limited = steps(cells, RATE, [], limit=8)
    assert whole.seconds == pytest.approx({key: 8 * each(cell) / 10 for key, cell in cells.items()})
    assert limited.seconds == pytest.approx({k: LIMITS[c.method.name] * each(c) / 10 for k, c in cells.items()})
    assert "limits by cost: 2 cells" in limited.words and "8 samples" in whole.words


def test_what_leaves_early_is_told_or_guessed_from_the_same_attack(cells: dict[str, CellPlan]) -> None:
    told = outcome("10", PGD, backbone="miniclip-vit", dataset="digits")  # 20 passes and two answers of one for each
    other = outcome("10", OTHER, backbone="miniclip-vit", dataset="digits", passes=3)
    by_id = {(c.method.name, c.protocol.id): key for key, c in cells.items()}
    longer = plan(["tecoa"], "miniclip-vit", ["digits"], [OTHER], limit=2)[0]
    share = saved([told, other]).shares["pgd", "white-box"]
    assert share == pytest.approx((22 + 26) / (each(cells[by_id["tecoa", PGD]]) + each(longer))) and 0 < share < 1
    _, limited, early = steps(cells, RATE, [told, other], limit=8)
    assert early.seconds[by_id["tecoa", PGD]] == pytest.approx(8 * 22 / 10)
    assert early.seconds[by_id["ttc", PGD]] == pytest.approx(limited.seconds[by_id["ttc", PGD]] * share)
    for method in LIMITS:
        assert early.seconds[by_id[method, APGD]] == limited.seconds[by_id[method, APGD]]
    assert "in 2 outcomes here; 1 cells guessed" in early.words


def test_methods_that_nobody_knows_tell_nothing() -> None:
    found = saved([outcome("10", PGD, method="mine.py:Mine"), outcome("10", PGD, method="no-such-method")])
    assert found.outcomes == 0 and not found.shares
