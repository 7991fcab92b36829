"""Runs every cell of the tier. A broken attack or contract fails it; a low accuracy is a finding."""

from collections.abc import Callable

import pytest

from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.suites.cells import CellPlan
from vlm_gauntlet.suites.clean_answers import CleanAnswers
from vlm_gauntlet.suites.device_record import properties
from vlm_gauntlet.suites.indicators import BROKEN_ATTACK
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.plugin import Keeping
from vlm_gauntlet.suites.running import run_cell


def test_cell(
    cell_plan: CellPlan,
    journal: Journal,
    keeper: Keeping,
    clean: CleanAnswers,
    record_property: Callable[[str, object], None],
) -> None:
    try:
        outcome = run_cell(cell_plan, journal, keeper=keeper(cell_plan), clean=clean)
    except UnavailableError as missing:
        pytest.skip(f"not run: {missing}")
    for name, value in properties(outcome).items():
        record_property(name, value)
    assert outcome.n <= cell_plan.limit
    assert outcome.cell.id == cell_plan.id
    fired = {i.name: i.meaning for i in outcome.indicators if i.fired and i.name in BROKEN_ATTACK}
    assert not fired, f"the attack itself is broken: {fired}"
