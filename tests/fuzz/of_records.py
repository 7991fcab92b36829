"""Parsers of results: outcomes, logs, verifications, archives."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save

from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.records import Cell, Cost, Indicator
from vlm_gauntlet.suites import check_records, verification_records
from vlm_gauntlet.suites.archive import Archive, ArchiveRecord
from vlm_gauntlet.suites.archive_codec import encode
from vlm_gauntlet.suites.journal import BatchResult, Journal
from vlm_gauntlet.suites.known_here import KnownHere
from vlm_gauntlet.suites.plausible import UNJUDGED, doubts, judgement
from vlm_gauntlet.suites.retrieval_records import RetrievalJournal
from vlm_gauntlet.suites.stale import made_by_other_code

from ..leaderboard.factory import outcome, retrieved
from .mutations import as_bytes, as_json
from .targets import Target

SIGN = Indicator(name="zero-gradient", value=0.5, threshold=0.1, fired=True, meaning="words")
# Of a method that nobody knows here: judging one that is known takes seconds for each new protocol.
DONE = outcome("1023", draws=3, method="away:Nobody", indicators=[SIGN])
COST = Cost(forward=1, backward=1, seconds=0.1)
BATCH = BatchResult(
    samples=DONE.samples, telemetry={"loss": (0.5, float("inf"))}, defence_cost=COST, attack_cost=COST, notes=("a",),
    files={"/a": "0" * 64},
)  # fmt: skip
HERE = KnownHere()
CLEAN = torch.linspace(0, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
PAIR = outcome("11", protocol_id="pgd-10-white-box-linf-1-255", ids=["0000", "0001"])


def targets() -> Iterator[Target]:
    """See `targets.py`."""
    yield Target("outcome", [_tree(DONE)], as_json, _outcome)
    yield Target("outcome under its own key", [_tree(DONE)], _keyed, _judged)
    yield Target("retrieval outcome", [_tree(retrieved())], as_json, _retrieval)
    yield Target("partial log", [[_tree(BATCH), _tree(BATCH)]], _lines, _log)
    yield Target("verifications", [_looked_at()], as_json, _verifications)
    yield Target("record of a check", [_checked()], as_json, _check)
    yield Target("archive's record", [_archived()], as_json, _archive_record)
    yield Target("archive", [_images()], as_bytes, _archive)
    yield Target("archived image", [encode((CLEAN[0] + 1 / 512).clamp(0, 1), CLEAN[0])], as_bytes, _archived_image)


def _tree(record: Any) -> Any:
    return json.loads(record.model_dump_json())


def _keyed(tree: Any) -> bytes:
    """With the key that its cell has, so that a forger's numbers get behind the first check."""
    if isinstance(tree, dict):
        try:
            tree["key"] = Cell.model_validate_json(json.dumps(tree.get("cell"))).key
        except (ValidationError, ValueError):
            tree.pop("key", None)
    return as_json(tree)


def _lines(tree: Any) -> bytes:
    return b"".join(as_json(line) + b"\n" for line in (tree if isinstance(tree, list) else [tree]))


def _put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _outcome(data: bytes, folder: Path) -> None:
    path = _put(folder / "o" / "a.json", data)
    made_by_other_code(path.parent, [DONE.cell])
    Journal(path.parent).read(path)


def _judged(data: bytes, folder: Path) -> None:
    path = _put(folder / "j" / "a.json", data)
    found = judgement(doubts, Journal(path.parent).read(path), HERE)
    if said := [doubt.meaning for doubt in found if UNJUDGED in doubt.meaning]:
        raise AssertionError(said)


def _retrieval(data: bytes, folder: Path) -> None:
    journal = RetrievalJournal(folder / "r")
    journal.read(_put(journal.folder / "a.json", data))


def _log(data: bytes, folder: Path) -> None:
    journal = Journal(folder / "l")
    _put(journal.partial("k"), data)
    journal.batches("k")


def _looked_at() -> Any:
    look = {
        "by": "me", "made": "2026-01-02T03:04:05Z", "seed": 1, "chosen": ["0000", "0001"], "of": 4,
        "differences": [{"sample": "0000", "field": "clean", "recorded": "1", "recomputed": "0"}],
        "bits_digest": DONE.bits_digest, "code_digest": "c", "method_digest": "m", "device": "cpu",
        "versions": {"torch": "2"}, "source": "archive",
    }  # fmt: skip
    return {"schema_version": 1, "key": DONE.key, "verifications": [look]}


def _verifications(data: bytes, folder: Path) -> None:
    _put(verification_records.beside(folder, DONE.key), data)
    found, wrong = verification_records.verifications(folder, DONE)
    _told([view.words for view in found], wrong is not None)


def _checked() -> Any:
    made = check_records.CheckRecord(
        method="m", backbone="b", code_digest="c", findings=(("range", "pass", "as it should be"),)
    )
    return _tree(made)


def _check(data: bytes, folder: Path) -> None:
    _put(folder / check_records.FOLDER / "a.json", data)
    found, broken = check_records.kept(folder)
    _told(list(found), bool(broken))


def _told(found: object, refused: bool) -> None:
    """A reader that tells of bad files instead of raising."""
    if refused:
        raise GauntletError(f"told, beside {found}", expected="", where="", fix="")


def _archived() -> Any:
    return _tree(_record(_images()))


def _record(data: bytes) -> ArchiveRecord:
    return ArchiveRecord(
        key=PAIR.key, bits_digest=PAIR.bits_digest, size=max(1, len(data)), sha256=sha256(data), images_sha256="0" * 64
    )


def _bytes_of(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _images() -> bytes:
    attacked = (CLEAN + 1 / 255).clamp(0, 1)
    return save({str(i): _bytes_of(encode(attacked[i], CLEAN[i])) for i in range(2)})


def _archive_record(data: bytes, folder: Path) -> None:
    archive = Archive(folder / "ar")
    _put(archive.path(PAIR.key), _images())
    _put(archive.folder / f"{PAIR.key}.json", data)
    archive.read(PAIR)


def _archive(data: bytes, folder: Path) -> None:
    """Of a forger who knows how a record is made."""
    _forged(data, folder, CLEAN)


def _forged(data: bytes, folder: Path, clean: torch.Tensor) -> None:
    archive = Archive(folder / "a")
    _put(archive.path(PAIR.key), data)
    _put(archive.folder / f"{PAIR.key}.json", _record(data).model_dump_json().encode())
    found = archive.read(PAIR)
    assert found is not None
    found.attacked(Batch(tuple(s.id for s in PAIR.samples), clean, torch.zeros(2).long()))


def _archived_image(data: bytes, folder: Path) -> None:
    if data:
        _forged(save({str(i): _bytes_of(data) for i in range(2)}), folder, CLEAN[[0, 0]])
