"""Transferred images are made once for all defences and runs; but for a note, an outcome is what it is without."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites import attacking, kept_images, running
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.kept_images import NOTE, KeptImages
from vlm_gauntlet.suites.running import run_cell

from .in_process import stay_here

T0 = "pgd-10-transfer-linf-16-255"


def cell(method: str = "rn", protocol: str = T0, **more: object) -> CellPlan:
    (made,) = plan([method], "miniclip-vit", ["digits"], [protocol], limit=5, batch_size=3)
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that were attacked."""
    sizes, attack = [], attacking.attack_batch
    stay_here(monkeypatch, running)

    def counting(evaluation, batch):  # type: ignore[no-untyped-def]
        sizes.append(len(batch.ids))
        return attack(evaluation, batch)

    monkeypatch.setattr(attacking, "attack_batch", counting)
    return sizes


def run(plan: CellPlan, folder: Path, store: KeptImages | None) -> Outcome:
    return run_cell(plan, Journal(folder / sha256(repr((plan.id, store)).encode())[:8]), kept=store)


def told(outcome: Outcome) -> dict[str, object]:
    costs = outcome.attack_cost.forward, outcome.attack_cost.backward
    return {"key": outcome.key, "bits": outcome.bits_digest, "costs": costs, "indicators": outcome.indicators,
            "notes": [n for n in outcome.notes if n != NOTE]}  # fmt: skip


def test_one_making_serves_all_defences_and_changes_no_bit(made: list[int], tmp_path: Path) -> None:
    alone = {m: run(cell(m), tmp_path / "alone", None) for m in ("rn", "undefended")}
    assert made == [3, 2, 3, 2]
    store = KeptImages(tmp_path / "store")
    first = run(cell("rn"), tmp_path / "kept", store)
    other = run(cell("undefended"), tmp_path / "kept", KeptImages(tmp_path / "store"))
    assert made == [3, 2] * 3, "the second defence read them, in a store that was opened again"
    assert [told(o) for o in (first, other)] == [told(alone[m]) for m in ("rn", "undefended")]
    assert (NOTE in first.notes, NOTE in other.notes) == (False, True) and len(store.entries()) == 2


@pytest.mark.parametrize(
    "asked",
    [{"seed": 1}, {"protocol": "pgd-10-transfer-linf-1-255"}, {"protocol": "mi-fgsm-10-transfer-linf-16-255"},
     {"dataset_name": "fashion_mnist"}, {"batch_size": 5}, {"protocol": "pgd-10-white-box-linf-16-255"}],
)  # fmt: skip
def test_another_question_gets_no_kept_image(made: list[int], tmp_path: Path, asked: dict[str, object]) -> None:
    store = KeptImages(tmp_path / "store")
    run(cell(), tmp_path, store)
    made.clear()
    other = cell(protocol=str(asked.pop("protocol"))) if "protocol" in asked else cell(**asked)
    outcome = run(other, tmp_path / "other", store)
    assert sum(made) == 5 and NOTE not in outcome.notes


def test_other_code_gets_no_kept_image(made: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeptImages(tmp_path / "store")
    run(cell(), tmp_path, store)
    for name in ("cell_code", "attack_code"):
        with monkeypatch.context() as patch:
            patch.setattr(kept_images, name, lambda *_: "edited")
            assert NOTE not in run(cell("undefended"), tmp_path / name, store).notes


def forged(raw: bytes, change) -> bytes:  # type: ignore[no-untyped-def]
    """An entry with another content, whose digests are right."""
    held = kept_images.load(raw[32:])
    change(held)
    data = kept_images.save(held)
    return bytes.fromhex(sha256(data)) + data


def turned(held: dict[str, torch.Tensor]) -> None:
    held["told success"] = 1 - held["told success"]


@pytest.mark.parametrize("how", ["cut", "a bit", "empty", "another name", "wrong answers", "other images"])
def test_an_entry_that_is_not_what_was_written_is_made_again(made: list[int], tmp_path: Path, how: str) -> None:
    store = KeptImages(tmp_path / "store")
    right = run(cell("undefended"), tmp_path / "right", store)
    whole = {path: path.read_bytes() for path in store.entries()}
    (one, first), (_, second) = whole.items()
    bad = {
        "cut": first[:-9], "a bit": first[:50] + bytes([first[50] ^ 1]) + first[51:], "empty": b"",
        "another name": second, "wrong answers": forged(first, turned),
        "other images": forged(first, lambda held: held.update({"image 0": held["image 1"].clone()})),
    }[how]  # fmt: skip
    one.write_bytes(bad)
    made.clear()
    again = run(cell("undefended"), tmp_path / "again", store)
    assert made == [3] or made == [2], "one batch was made again, the other was read"
    assert told(again) == told(right) and one.read_bytes()[32:] != bad[32:]


def test_what_was_used_longest_ago_goes_first(made: list[int], tmp_path: Path) -> None:
    store = KeptImages(tmp_path / "store")
    run(cell(), tmp_path, store)
    old, new = store.entries()
    size = store.size
    run(cell("undefended"), tmp_path, store)  # both are read, in the order of the batches
    assert store.entries() == [old, new]
    small = KeptImages(tmp_path / "store", limit=size)
    run(cell(seed=1), tmp_path, small)
    left = small.entries()
    assert old not in left and small.size <= size and left
    tiny = KeptImages(tmp_path / "store", limit=1)
    run(cell(seed=2), tmp_path, tiny)
    assert len(tiny.entries()) == 1, "what was just made stays"


def test_the_command_shows_and_deletes(made: list[int], tmp_path: Path) -> None:
    KeptImages().clear()
    run(cell(), tmp_path, KeptImages())
    assert "2 batches" in CliRunner().invoke(app, ["data", "images"]).output
    assert "deleted 2 batches" in CliRunner().invoke(app, ["data", "images", "--delete"]).output
    assert KeptImages().entries() == []
