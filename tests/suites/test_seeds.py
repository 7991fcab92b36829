"""A night's seed is secret, one for all who share a folder, and stays after a kill."""

from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites.seeds import seed_of
from vlm_gauntlet.suites.tiers import tier


def test_the_small_tiers_repeat_and_the_nights_do_not(tmp_path: Path) -> None:
    assert seed_of(tier("fast"), None, tmp_path) == seed_of(tier("mini"), None, tmp_path) == 0
    drawn = {seed_of(tier("nightly"), None, tmp_path / str(i)) for i in range(8)}
    assert len(drawn) == 8 and 0 not in drawn


def test_a_folder_keeps_its_seed(tmp_path: Path) -> None:
    first = seed_of(tier("nightly"), None, tmp_path)
    assert seed_of(tier("nightly"), None, tmp_path) == first
    assert [p.name for p in tmp_path.iterdir()] == [".seed-nightly"], "nothing else is left"
    assert seed_of(tier("full"), None, tmp_path) != first
    assert seed_of(tier("nightly"), 7, tmp_path) == 7, "who asks for one gets it"


def test_a_damaged_seed_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / ".seed-nightly").write_text("1e9")
    with pytest.raises(GauntletError, match="a seed that reads '1e9'"):
        seed_of(tier("nightly"), None, tmp_path)
