"""A batch that does not fit is done in halves, and no bit moves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites import running
from vlm_gauntlet.suites.archive import Archive
from vlm_gauntlet.suites.attacking import Here
from vlm_gauntlet.suites.cells import CellPlan
from vlm_gauntlet.suites.halving import NOTE, Done, within_memory
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.running import run_cell

from .test_running import cell, tiny_set  # noqa: F401


def small_memory(monkeypatch: pytest.MonkeyPatch, most: int, raised: Callable[[], Exception]) -> list[int]:
    """Batches of more than so many samples fail; the sizes that were tried."""
    tried: list[int] = []
    attack = Here.attack

    def attacked(self: Here, batch: Batch) -> object:
        tried.append(len(batch.ids))
        if len(batch.ids) > most:
            raise raised()
        return attack(self, batch)

    monkeypatch.setattr(Here, "attack", attacked)
    return tried


@pytest.mark.parametrize(
    "raised",
    [
        lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        lambda: GauntletError("CUDA out of memory", expected="", where="scoring", fix=""),  # told by another process
    ],
)
def test_halves_give_the_same_bits(
    cell: CellPlan,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: Callable[[], Exception],
) -> None:
    whole = run_cell(cell, Journal(tmp_path / "whole"), keeper=Archive(tmp_path / "whole"))
    tried = small_memory(monkeypatch, 1, raised)
    halved = run_cell(cell, Journal(tmp_path / "halved"), keeper=Archive(tmp_path / "halved"))
    assert tried[:3] == [4, 2, 1]
    assert halved.key == whole.key and halved.bits_digest == whole.bits_digest
    assert NOTE in halved.notes and NOTE not in whole.notes and halved.provenance.batch_size == cell.batch_size
    assert halved.attack_cost.forward == whole.attack_cost.forward
    assert [i.name for i in halved.indicators] == [i.name for i in whole.indicators]
    images = [(tmp_path / name / "archive" / f"{whole.key}.safetensors").read_bytes() for name in ("whole", "halved")]
    assert images[0] == images[1]


def test_one_sample_that_does_not_fit_is_one_clear_error(
    cell: CellPlan,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_memory(monkeypatch, 0, lambda: torch.cuda.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(GauntletError, match="out of memory with 1 sample\n"):
        run_cell(cell, Journal(tmp_path))


def test_what_must_stay_together_is_not_divided() -> None:
    batch = Batch(("a", "b"), torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.long))

    def full(_: Batch) -> Done:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(GauntletError, match="2 samples that must stay together"):
        within_memory(batch, full, whole=True)


def test_other_errors_stay_what_they_are(cell: CellPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    tried = small_memory(monkeypatch, 0, lambda: ZeroDivisionError("no memory of it"))
    with pytest.raises(ZeroDivisionError):
        run_cell(cell, Journal(tmp_path))
    assert tried == [4]


def test_a_coupled_cell_is_never_divided(cell: CellPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    seen = []
    monkeypatch.setattr(running, "within_memory", lambda batch, work, whole: (seen.append(whole), work(batch))[1])
    run_cell(cell, Journal(tmp_path / "alone"))
    mean = cell.protocol.attack.model_copy(update={"reduction": "mean"})
    run_cell(replace(cell, protocol=cell.protocol.model_copy(update={"attack": mean})), Journal(tmp_path / "mean"))
    assert set(seen[:3]) == {False} and set(seen[3:]) == {True}
