"""Folders that cannot be written or hold what is no record: one clear error, and nothing else is lost."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Cost
from vlm_gauntlet.suites.journal import BatchResult, Journal
from vlm_gauntlet.suites.retrieval_records import RetrievalJournal

from ..leaderboard.factory import outcome, retrieved

BATCH = BatchResult(
    samples=outcome("1").samples, telemetry={}, defence_cost=Cost(forward=1, backward=0, seconds=0),
    attack_cost=Cost(forward=1, backward=0, seconds=0), notes=(),
)  # fmt: skip


def failing(number: int) -> Callable[..., None]:
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fails


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "tempfile.mkstemp"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_record_that_cannot_be_written_is_one_clear_error(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, made = Journal(tmp_path), outcome("10")
    journal.append(made.key, BATCH)
    with monkeypatch.context() as patch:
        patch.setattr(call, failing(number))
        with pytest.raises(GauntletError, match="cannot be written") as error:
            journal.write(made)
    assert os.strerror(number) in error.value.came and "goes on from there" in error.value.fix
    assert journal.batches(made.key) == [BATCH] and journal.outcomes() == []
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".json")]
    journal.write(made)
    assert journal.outcomes() == [made]


def test_a_batch_that_cannot_be_written_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(GauntletError, match=r"k\.partial\.jsonl cannot be written: No space left"):
        Journal(tmp_path).append("k", BATCH)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "o").write_text("a file where the folder should be")
    for write in (lambda j: j.append("k", BATCH), lambda j: j.write(outcome("1")), lambda j: j.lock("k").__enter__()):
        with pytest.raises(GauntletError, match="cannot be written"):
            write(Journal(tmp_path / "o"))


def test_bad_files_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    journal, good = Journal(tmp_path), [outcome("10"), outcome("11", seed=1)]
    for made in good:
        journal.write(made)
    (tmp_path / "cut.json").write_bytes((tmp_path / f"{good[0].key}.json").read_bytes()[:200])
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "copy.json").write_bytes((tmp_path / f"{good[0].key}.json").read_bytes())
    found, aside = journal.read_all()
    assert found == sorted(good, key=lambda o: (o.cell.id, o.key))
    assert [a.path.name for a in aside] == ["copy.json", "cut.json", "folder.json"]
    assert "counts once" in aside[0].reason and "does not validate" in aside[1].reason


def test_two_results_of_one_key_count_for_neither_reader(tmp_path: Path) -> None:
    journal, made = Journal(tmp_path), outcome("10")
    other = made.model_copy(update={"samples": outcome("01").samples})
    for name, record in (("a", made), ("b", other)):
        (tmp_path / f"{name}.json").write_text(record.model_dump_json())
    found, aside = journal.read_all()
    assert not found and [a.path.name for a in aside] == ["a.json", "b.json"]
    with pytest.raises(GauntletError, match="with different results"):
        journal.outcomes()


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm_gauntlet.fixtures.files.LARGEST", 100)
    Journal(tmp_path).write(outcome("10"))
    assert "more than any such file has" in Journal(tmp_path).read_all()[1][0].reason


def test_retrieval_is_read_as_strictly(tmp_path: Path) -> None:
    journal, made = RetrievalJournal(tmp_path), retrieved()
    journal.write(made)
    text = made.model_dump_json()
    changed = f'"captions_changed":{made.captions_changed}'
    for number, (old, new) in enumerate({
        '"schema_version":1': '"schema_version":99', changed: '"captions_changed":true', '"seed":0': '"seed":"0"',
        '"eps":"2/255"': '"eps":"2/0"',
    }.items()):  # fmt: skip
        assert old in text
        (journal.folder / f"{number}.json").write_text(text.replace(old, new))
    found, aside = journal.read_all()
    assert found == [made] and len(aside) == 4
