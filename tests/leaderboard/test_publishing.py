"""A site changes as a whole or not at all, and what is the same is kept."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from vlm_gauntlet.leaderboard import publishing
from vlm_gauntlet.leaderboard.publishing import publish, write_or_keep


def pages(**texts: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name, text in texts.items():
            (folder / "sub").mkdir(exist_ok=True)
            (folder / "sub" / name).write_text(text)

    return write


def held(out: Path) -> dict[str, tuple[str, int]]:
    return {path.name: (path.read_text(), path.stat().st_ino) for path in (out / "sub").iterdir()}


@pytest.mark.parametrize("exchanges", [True, False])
def test_what_changed_is_new_and_the_rest_is_kept(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(publishing, "_exchanged", lambda one, other: False)
    out = tmp_path / "site"
    assert publish(out, pages(a="1", b="2", gone="3"))
    before = held(out)
    assert publish(out, pages(a="1", b="two", new="4"))
    after = held(out)
    assert {name: text for name, (text, _) in after.items()} == {"a": "1", "b": "two", "new": "4"}
    assert after["a"][1] == before["a"][1] and after["b"][1] != before["b"][1]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_where_nothing_changed_the_folder_stays(tmp_path: Path) -> None:
    out = tmp_path / "site"
    publish(out, pages(a="1"))
    place = out.stat().st_ino
    assert not publish(out, pages(a="1")) and out.stat().st_ino == place
    assert publish(out, pages(a="2")) and out.stat().st_ino != place


def test_a_killed_build_leaves_the_old_site_and_the_next_one_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    publish(out, pages(a="1", b="2"))
    before = held(out)

    def killed(folder: Path) -> None:
        pages(a="half")(folder)
        os.kill(os.getpid(), signal.SIGKILL)

    if (child := os.fork()) == 0:
        publish(out, killed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert held(out) == before and len(list(tmp_path.iterdir())) == 2
    publish(out, pages(a="1"))
    assert len(list(tmp_path.iterdir())) == 2, "a folder as young as that may be a build in flight"
    monkeypatch.setattr(publishing, "STALE", 0.0)
    publish(out, pages(a="3"))
    assert held(out)["a"][0] == "3" and [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_build_that_fails_leaves_the_old_site(tmp_path: Path) -> None:
    out = tmp_path / "site"
    publish(out, pages(a="1"))

    def broken(folder: Path) -> None:
        pages(a="2")(folder)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        publish(out, broken)
    assert held(out)["a"][0] == "1" and [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_file_is_written_only_where_the_old_one_differs(tmp_path: Path) -> None:
    old, same, other = tmp_path / "old", tmp_path / "same", tmp_path / "other"
    old.write_bytes(b"1")
    write_or_keep(same, old, b"1")
    write_or_keep(other, old, b"2")
    assert same.samefile(old) and other.read_bytes() == b"2" and old.read_bytes() == b"1"
