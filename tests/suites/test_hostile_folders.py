"""A results folder that somebody else filled: links, pipes, devices and huge files are refused, and nothing waits."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures import files
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites import check_records, verification_records
from vlm_gauntlet.suites.archive import Archive
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.retrieval_records import RetrievalJournal
from vlm_gauntlet.suites.stale import made_by_other_code

from ..leaderboard.factory import outcome, retrieved

DONE, FOUND = outcome("10"), retrieved()
SECRET = "secret-words"


def link(path: Path) -> None:
    (path.parent / "elsewhere").write_text(SECRET)
    path.symlink_to(path.parent / "elsewhere")


def large(path: Path) -> None:
    path.touch()
    os.truncate(path, files.LARGEST + 1)  # a hole: no byte of it lies on the disk


HAZARDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "link": (link, "it is a symbolic link"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "it is a symbolic link"),
    "link into nothing": (lambda path: path.symlink_to("nowhere"), "it is a symbolic link"),
    "pipe": (os.mkfifo, "it is no ordinary file"),
    "folder": (Path.mkdir, "it is no ordinary file"),
    "large": (large, "bytes are more than any such file has"),
}


def told(reasons: list[str]) -> None:
    """Of readers that tell what they set aside."""
    if reasons:
        raise GauntletError(reasons[0], expected="", where="", fix="")


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "outcome": (lambda f: f / f"{DONE.key}.json", lambda f: Journal(f).find(DONE.key)),
    "outcomes": (lambda f: f / "any.json", lambda f: Journal(f).outcomes()),
    "outcomes of a board": (lambda f: f / "any.json", lambda f: told([a.reason for a in Journal(f).read_all()[1]])),
    "partial log": (lambda f: f / f"{DONE.key}.partial.jsonl", lambda f: Journal(f).batches(DONE.key)),
    "retrieval": (
        lambda f: f / "retrieval" / f"{FOUND.key}.json",
        lambda f: told([a.reason for a in RetrievalJournal(f).read_all()[1]]),
    ),
    "verifications": (
        lambda f: verification_records.beside(f, DONE.key),
        lambda f: told([a.reason for a in [verification_records.verifications(f, DONE)[1]] if a]),
    ),
    "checks": (
        lambda f: f / check_records.FOLDER / "a.json",
        lambda f: told([error.came for error in check_records.kept(f)[1]]),
    ),
    "archive's record": (lambda f: f / "archive" / f"{DONE.key}.json", lambda f: _archive(f)),
}


def _archive(folder: Path) -> None:
    Archive(folder).path(DONE.key).touch()
    Archive(folder).read(DONE)


@pytest.mark.parametrize("hazard", HAZARDS)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_of_its_own_is_refused(
    reader: str, hazard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place, read), (make, said) = READERS[reader], HAZARDS[hazard]
    if (reader, hazard) == ("partial log", "large"):
        monkeypatch.setattr("vlm_gauntlet.suites.record_folder.LONGEST_LOG", files.LARGEST)
    path = place(tmp_path)
    path.parent.mkdir(exist_ok=True)
    make(path)
    with pytest.raises(GauntletError, match=said) as error:
        read(tmp_path)
    assert SECRET not in str(error.value)
    assert made_by_other_code(tmp_path, [DONE.cell]) == 0, "it is passed over, and nobody waits for it"


def test_an_outcome_names_no_file_outside_its_folder(tmp_path: Path) -> None:
    """Its key is the digest of its cell, and nothing that a forger writes: names of files are made of it."""
    text = DONE.model_dump_json().replace(DONE.key, "../../out")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(GauntletError, match="is not the digest of the cell"):
        Journal(tmp_path).read(tmp_path / "a.json")


def test_a_file_that_grows_is_not_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 9)
    looked = os.fstat

    def before_it_grew(handle: int) -> os.stat_result:
        found = [*looked(handle)]
        found[6] = 4
        return os.stat_result(found)

    assert files.read_plain(path, 9) == b"x" * 9
    monkeypatch.setattr(os, "fstat", before_it_grew)
    with pytest.raises(ValueError, match="it grew"):
        files.read_plain(path, 8)
