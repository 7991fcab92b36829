"""The controls of every tier: they fail loudly, because nothing else in a run can be believed when they do."""

from collections.abc import Callable

import pytest

from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites.controls import (
    DUMMY,
    control_plan,
    fired,
    knows_too_little,
    right,
    survivors,
    survivors_allowed,
)
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.plugin import Keeping, outcomes_folder
from vlm_gauntlet.suites.running import run_cell
from vlm_gauntlet.suites.seeds import seed_of
from vlm_gauntlet.suites.tiers import Tier, tier

Control = Callable[..., Outcome]


@pytest.fixture
def control(tier_name: str, journal: Journal, keeper: Keeping, pytestconfig: pytest.Config) -> Control:
    """Runs a control cell of the tier; the dummy's outcomes are kept apart from the board's."""
    chosen = tier(tier_name)
    apart = Journal(outcomes_folder(pytestconfig) / "controls")

    def run(method: str, protocol: str, *, dataset: str | None = None) -> Outcome:
        options = {name: pytestconfig.getoption(f"--{name}") for name in ("device", "limit")}
        seed = seed_of(chosen, pytestconfig.getoption("--seed"), outcomes_folder(pytestconfig))
        cell = control_plan(chosen, method, protocol, dataset=dataset or chosen.datasets[0], seed=seed, **options)
        try:
            return run_cell(cell, apart) if method == DUMMY else run_cell(cell, journal, keeper=keeper(cell))
        except UnavailableError as missing:
            pytest.skip(f"not run: {missing}")

    return run


def test_undefended_model_breaks(tier_name: str, control: Control) -> None:
    chosen: Tier = tier(tier_name)
    for dataset in chosen.datasets:
        outcome = control("undefended", chosen.control_protocol, dataset=dataset)
        assert survivors(outcome) <= survivors_allowed(outcome.n), (
            f"{outcome.cell.id}: {survivors(outcome)} of {outcome.n} survive; the attack or its preprocessing is broken"
        )
        assert not knows_too_little(right(outcome), outcome.n), "a model that knows nothing proves nothing"


def test_zero_budget_changes_nothing(tier_name: str, control: Control) -> None:
    outcome = control("undefended", "pgd-10-white-box-linf-0")
    assert [s.robust for s in outcome.samples] == [s.clean for s in outcome.samples]


def test_masked_gradients_are_seen_and_broken(tier_name: str, control: Control) -> None:
    chosen: Tier = tier(tier_name)
    trusting = control(DUMMY, chosen.control_protocol)
    assert "zero-gradient" in fired(trusting)
    if not right(trusting):
        pytest.skip("no sample is right without attack: too few to show anything")
    assert 2 * survivors(trusting) > right(trusting), "the dummy must fool the attack that trusts it"
    adaptive = control(DUMMY, chosen.adaptive_protocol)
    assert survivors(adaptive) <= survivors_allowed(adaptive.n), "the adaptive attack must break the dummy"


def test_clipure_as_coded_has_a_dead_gradient(tier_name: str, control: Control) -> None:
    chosen: Tier = tier(tier_name)
    released = control("clipure_cos+as_coded", chosen.control_protocol)
    assert fired(released) & {"dead-gradient", "zero-gradient"}
    intended = control("clipure_cos", chosen.control_protocol)
    assert "dead-gradient" not in fired(intended)
