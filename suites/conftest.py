"""Fixtures of the suites, and how many examples hypothesis tries."""

import pytest
from hypothesis import HealthCheck, settings

from vlm_gauntlet.suites.archive import keeper_of
from vlm_gauntlet.suites.clean_answers import CleanAnswers
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.plugin import Keeping, outcomes_folder

# One attack is the fixture of many examples: it holds no state, so sharing it is fine.
COMMON = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    print_blob=True,  # what `falsified.py` makes its command of
)
settings.register_profile("fast", COMMON, max_examples=5, derandomize=True)
settings.register_profile("nightly", COMMON, max_examples=300)
settings.load_profile("fast")


@pytest.fixture(scope="session")
def journal(pytestconfig: pytest.Config) -> Journal:
    """The outcomes of this run and of those before it."""
    return Journal(outcomes_folder(pytestconfig))


@pytest.fixture(scope="session")
def keeper(pytestconfig: pytest.Config) -> Keeping:
    """Who keeps the attacked images of a cell, with `--archive`: whichever test runs it first."""
    folder, wanted = outcomes_folder(pytestconfig), pytestconfig.getoption("--archive")
    return lambda cell: keeper_of(folder, cell.protocol, wanted=wanted)


@pytest.fixture(scope="session")
def clean() -> CleanAnswers:
    """What this session's cells share."""
    return CleanAnswers()
