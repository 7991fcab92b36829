"""Archived images are those of the run to the last bit, and a forged archive is one clear error."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import load, save

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites import verify
from vlm_gauntlet.suites.archive import Archive, ArchiveError, holds_images, keeper_of
from vlm_gauntlet.suites.archive_codec import decode, encode
from vlm_gauntlet.suites.attacking import Here
from vlm_gauntlet.suites.batch import Made
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.known_here import KnownHere
from vlm_gauntlet.suites.running import run_cell

HERE = KnownHere()
N = 4
ATTACK = "pgd-10-white-box-linf-4-255"
(CELL,) = plan(["undefended"], "miniclip-vit", ["fashion_mnist"], [ATTACK], limit=N, batch_size=3)

PIXELS = arrays(np.float32, (3, 4, 5), elements=st.floats(0, 1, width=32))
ANY = arrays(np.float32, (3, 4, 5), elements=st.floats(width=32))


@settings(max_examples=60, deadline=None)
@given(PIXELS, st.one_of(PIXELS, ANY))
def test_what_is_decoded_is_what_was_encoded(clean: np.ndarray, attacked: np.ndarray) -> None:
    before, after = torch.from_numpy(clean), torch.from_numpy(attacked)
    again = decode(encode(after, before), before)
    assert again.numpy().tobytes() == after.numpy().tobytes() and again.shape == after.shape


def test_an_attack_takes_little_room() -> None:
    draws = torch.Generator().manual_seed(0)
    clean = torch.rand(3, 64, 64, generator=draws)
    after = (clean + torch.randint(-4, 5, clean.shape, generator=draws) / 255).clamp(0, 1)
    assert len(encode(after, clean)) < 0.3 * 4 * clean.numel(), "of natural noise; a float32 file has 4 bytes a value"


@pytest.mark.parametrize("broken", [lambda b: b[:-3], lambda b: b + b"x", lambda b: b"", lambda b: b"\0" * 40])
def test_torn_bytes_are_no_image(broken: Callable[[bytes], bytes]) -> None:
    clean = torch.full((3, 8, 8), 0.25)
    with pytest.raises(ValueError, match=r"decompressible|bytes of an image"):
        decode(broken(encode(clean + 0.01, clean)), clean)
    with pytest.raises(ValueError, match="bytes of an image"):
        decode(encode(clean, clean), clean[:, :4])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, list[torch.Tensor]]:
    """A folder with an outcome and its archive, and what the attack really made."""
    folder, seen = tmp_path_factory.mktemp("o"), []

    class Watching(Archive):
        def add(self, key: str, index: int, batch: Batch, attacked: torch.Tensor) -> None:
            seen.append(attacked.clone())
            super().add(key, index, batch, attacked)

    return folder, run_cell(CELL, Journal(folder), keeper=Watching(folder)), seen


@pytest.fixture
def copied(kept: tuple[Path, Outcome, list[torch.Tensor]], tmp_path: Path) -> tuple[Archive, Outcome]:
    shutil.copytree(kept[0] / "archive", tmp_path / "archive")
    return Archive(tmp_path), kept[1]


def test_the_images_are_those_of_the_run(kept: tuple[Path, Outcome, list[torch.Tensor]], tmp_path: Path) -> None:
    folder, outcome, made = kept
    images = Archive(folder).read(outcome)
    assert images is not None and len(made) == 2
    again = [images.attacked(batch) for batch in CELL.batches()]
    assert all(torch.equal(one, other) for one, other in zip(again, made, strict=True))
    assert sorted(p.suffix for p in (folder / "archive").iterdir()) == [".json", ".safetensors"]
    plain = run_cell(CELL, Journal(tmp_path))
    assert (plain.key, plain.bits_digest) == (outcome.key, outcome.bits_digest) and not (tmp_path / "archive").exists()
    assert Archive(tmp_path).read(plain) is None


def test_samples_are_verified_from_it_without_an_attack(
    kept: tuple[Path, Outcome, list[torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Made:
        raise AssertionError("attacked")

    monkeypatch.setattr(Here, "attack", never)
    folder, outcome, _ = kept
    looked = verify.verify(outcome, HERE, samples=2, seed=1, kept=Archive(folder).read(outcome))
    assert looked.words == "verified 2 of 4 from the archive" and looked.source == "archive"
    samples = tuple(replace(s, attacked=1 - s.attacked) for s in outcome.samples)
    forged = outcome.model_copy(update={"samples": samples})
    _rerecord(Archive(folder), outcome, bits_digest=forged.bits_digest)
    try:
        differs = verify.verify(forged, HERE, samples=2, seed=1, kept=Archive(folder).read(forged))
    finally:
        _rerecord(Archive(folder), outcome, bits_digest=outcome.bits_digest)
    assert differs.words == "differs: 2 of 2 scored from the archive"
    assert {d.field for d in differs.differences if d.sample} == {"attacked"}


def test_the_code_of_the_attack_may_be_another(kept: tuple[Path, Outcome, list[torch.Tensor]]) -> None:
    folder, outcome, _ = kept
    cell = outcome.cell.model_copy(update={"attack_digest": "f" * 64})
    older = outcome.model_copy(update={"cell": cell, "key": cell.key})
    images = Archive(folder).read(outcome)
    assert verify.verify(older, HERE, samples=1, kept=images).result == "verified"
    with pytest.raises(verify.CannotVerifyError, match="code of the attack"):
        verify.verify(older, HERE, samples=1)


def _rerecord(archive: Archive, outcome: Outcome, **fields: object) -> None:
    path = archive.folder / f"{outcome.key}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def _rewrite(archive: Archive, outcome: Outcome, data: bytes) -> None:
    """A forger can count: size and digest of the record fit the file."""
    archive.path(outcome.key).write_bytes(data)
    _rerecord(archive, outcome, size=len(data), sha256=sha256(data))


def _replaced(archive: Archive, outcome: Outcome, change: Callable[[Batch], torch.Tensor]) -> None:
    (batch,) = replace(CELL, batch_size=N).batches()
    codes = [encode(one, clean) for one, clean in zip(change(batch), batch.images, strict=True)]
    _rewrite(archive, outcome, save({str(i): torch.tensor([*code], dtype=torch.uint8) for i, code in enumerate(codes)}))


def _beyond(batch: Batch) -> torch.Tensor:
    return (batch.images + 0.05).clamp(0, 1)


def _cut(archive: Archive, outcome: Outcome) -> None:
    path = archive.path(outcome.key)
    path.write_bytes(path.read_bytes()[:-9])


def _flipped(archive: Archive, outcome: Outcome) -> None:
    path = archive.path(outcome.key)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def _fewer(archive: Archive, outcome: Outcome) -> None:
    held = load(archive.path(outcome.key).read_bytes())
    _rewrite(archive, outcome, save({name: held[name] for name in sorted(held)[1:]}))


def _torn(archive: Archive, outcome: Outcome) -> None:
    held = load(archive.path(outcome.key).read_bytes())
    _rewrite(archive, outcome, save(held | {"0": held["0"][:-5].clone()}))


FORGERIES: dict[str, tuple[Callable[[Archive, Outcome], None], str]] = {
    "a file that was cut": (_cut, "cut or missing"),
    "no file": (lambda a, o: a.path(o.key).unlink(), "cut or missing"),
    "one bit turned": (_flipped, "another digest"),
    "no safetensors": (lambda a, o: _rewrite(a, o, b"\x80\x04pickle"), "no safetensors file"),
    "an image missing": (_fewer, "3 tensors for 4 images"),
    "an image cut": (_torn, "not the bytes of an image|not decompressible"),
    "beyond the ball": (lambda a, o: _replaced(a, o, _beyond), "outside the linf ball of 4/255"),
    "beyond the range": (lambda a, o: _replaced(a, o, lambda b: b.images + 3 / 255), "images outside the linf ball"),
    "not a number": (lambda a, o: _replaced(a, o, lambda b: b.images * torch.nan), "images outside the linf ball"),
    "images of others": (lambda a, o: _replaced(a, o, lambda b: b.images.flip(0)), "outside the linf ball"),
    "clean images, the old digest": (lambda a, o: _replaced(a, o, lambda b: b.images), "decode to others"),
    "of other bits": (lambda a, o: _rerecord(a, o, bits_digest="0"), "another outcome, or of other bits"),
    "of another key": (lambda a, o: _rerecord(a, o, key="0"), "another outcome, or of other bits"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_archive_is_one_clear_error(name: str, copied: tuple[Archive, Outcome]) -> None:
    forge, said = FORGERIES[name]
    forge(*copied)
    archive, outcome = copied
    with pytest.raises(ArchiveError, match=said) as error:
        verify.verify(outcome, HERE, samples=1, seed=0, kept=archive.read(outcome))
    assert str(archive.folder) in error.value.where and "--recompute" in error.value.fix


def test_weak_images_with_all_digests_do_not_give_the_bits(copied: tuple[Archive, Outcome]) -> None:
    archive, outcome = copied
    _replaced(archive, outcome, lambda batch: batch.images)
    (batch,) = replace(CELL, batch_size=N).batches()
    whole = b"".join(hashlib.sha256(image.numpy().tobytes()).digest() for image in batch.images)
    _rerecord(archive, outcome, images_sha256=sha256(whole))
    found = verify.verify(outcome, HERE, samples=N, kept=archive.read(outcome))
    fell = {s.id for s in outcome.samples if s.clean and not s.attacked}
    assert fell and {d.sample for d in found.differences} == fell


def test_a_record_that_is_torn_is_named(copied: tuple[Archive, Outcome]) -> None:
    archive, outcome = copied
    (archive.folder / f"{outcome.key}.json").write_text("{")
    with pytest.raises(GauntletError, match="an archive's record"):
        archive.read(outcome)


class Killed(Exception):
    """As a kill ends a run."""


def _killed(cell: CellPlan, folder: Path, keeper: Archive | None) -> None:
    def kill(*_: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        run_cell(cell, Journal(folder), progress=kill, keeper=keeper)


def test_a_killed_run_goes_on_to_the_same_archive(
    kept: tuple[Path, Outcome, list[torch.Tensor]], tmp_path: Path
) -> None:
    _killed(CELL, tmp_path, Archive(tmp_path))
    outcome = run_cell(CELL, Journal(tmp_path), keeper=Archive(tmp_path))
    one, other = (Archive(folder).path(outcome.key).read_bytes() for folder in (kept[0], tmp_path))
    assert one == other


def test_a_run_that_kept_nothing_cannot_go_on_as_one_that_does(tmp_path: Path) -> None:
    _killed(CELL, tmp_path, None)
    with pytest.raises(GauntletError, match="kept no images"):
        run_cell(CELL, Journal(tmp_path), keeper=Archive(tmp_path))
    assert run_cell(CELL, Journal(tmp_path)).n == N


def test_what_an_earlier_run_left_is_not_mixed_in(
    kept: tuple[Path, Outcome, list[torch.Tensor]], tmp_path: Path
) -> None:
    """Batches of another size, whose log is gone; and a whole archive beside a log of a run that kept nothing."""
    _killed(replace(CELL, batch_size=1), tmp_path, Archive(tmp_path))
    next(tmp_path.glob("*.partial.jsonl")).unlink()
    outcome = run_cell(CELL, Journal(tmp_path), keeper=Archive(tmp_path))
    assert Archive(tmp_path).path(outcome.key).read_bytes() == Archive(kept[0]).path(outcome.key).read_bytes()
    (tmp_path / f"{outcome.key}.json").unlink()
    _killed(CELL, tmp_path, None)
    with pytest.raises(GauntletError, match="kept no images"):
        run_cell(CELL, Journal(tmp_path), keeper=Archive(tmp_path))


def test_only_attacked_images_are_kept() -> None:
    assert [holds_images(protocol(name)) for name in (ATTACK, "clean")] == [True, False]
    kept = {(n, w): keeper_of(Path("o"), protocol(n), wanted=w) for n in (ATTACK, "clean") for w in (True, False)}
    assert [place for place, keeper in kept.items() if keeper is not None] == [(ATTACK, True)]
