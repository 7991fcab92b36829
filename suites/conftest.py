"""Fixtures of the suites."""

import pytest

from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.plugin import outcomes_folder


@pytest.fixture(scope="session")
def journal(pytestconfig: pytest.Config) -> Journal:
    """The outcomes of this run and of those before it."""
    return Journal(outcomes_folder(pytestconfig))
