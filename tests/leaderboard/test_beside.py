"""A board that two processes write is the board that one writes; what fails in either changes no page."""

import os
import signal
from pathlib import Path

import pytest

from tests.leaderboard.factory import outcome
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Sample
from vlm_gauntlet.leaderboard import site
from vlm_gauntlet.leaderboard.beside import beside
from vlm_gauntlet.leaderboard.sharing import SharingJournal
from vlm_gauntlet.suites.journal import Journal


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_processes_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [outcome("1100"), outcome("1010", method="ttc")]
    monkeypatch.setattr(site, "cores", lambda: 2)
    site.build_site(made, tmp_path / "one")
    monkeypatch.setattr(site, "MANY", 0)
    site.build_site(made, tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one == two
    assert any(name.startswith("cells/") for name in two) and f"outcomes/{made[0].key}.json" in two


def test_the_work_is_done_in_a_process_of_its_own_and_waited_for(tmp_path: Path) -> None:
    with beside(lambda: (tmp_path / "who").write_text(str(os.getpid())) and None, apart=True):  # type: ignore[func-returns-value]
        pass
    assert (tmp_path / "who").read_text() != str(os.getpid())


def fail() -> None:
    raise GauntletError("no room", expected="room", where="here", fix="make some")


@pytest.mark.parametrize("apart", [True, False])
def test_what_the_work_raises_is_raised(apart: bool) -> None:
    with pytest.raises(GauntletError, match="no room"), beside(fail, apart=apart):
        pass


def test_a_killed_process_is_an_error() -> None:
    with pytest.raises(GauntletError, match="died"), beside(lambda: os.kill(os.getpid(), signal.SIGKILL), apart=True):
        pass


def test_where_the_body_fails_its_error_is_raised_and_nobody_waits() -> None:
    with pytest.raises(ValueError, match="mine"), beside(signal.pause, apart=True):  # type: ignore[arg-type]
        raise ValueError("mine")


def test_a_failure_of_the_second_process_leaves_the_old_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.build_site([outcome("1100")], tmp_path / "site")
    before = files(tmp_path / "site")
    monkeypatch.setattr(site, "MANY", 0)
    monkeypatch.setattr(site, "cores", lambda: 2)
    monkeypatch.setattr(site, "write_cell_pages", lambda *_: fail())
    with pytest.raises(GauntletError, match="no room"):
        site.build_site([outcome("1010", method="ttc")], tmp_path / "site")
    assert files(tmp_path / "site") == before and [path.name for path in tmp_path.iterdir()] == ["site"]


def test_equal_samples_are_one_object_and_all_outcomes_as_they_were(tmp_path: Path) -> None:
    first, second = outcome("1100"), outcome("1010", method="ttc")
    plain, sharing = Journal(tmp_path), SharingJournal(tmp_path)
    for each in (first, second):
        plain.write(each)
    held, aside = sharing.held()
    assert not aside
    assert {key: same[0][1] for key, same in held.items()} == {o.key: o for o in (first, second)}
    found: list[Sample] = [sample for same in held.values() for sample in same[0][1].samples]
    assert len({id(sample) for sample in found}) == len(set(found)) < len(found)
