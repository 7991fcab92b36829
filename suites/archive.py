"""Archives of attacked images, beside the outcomes: who has one looks at what was attacked, without attacking again.

`archive/<key>.safetensors` holds the images as `archive_codec.py` writes them, `archive/<key>.json` its digest and
that of the images. Both are files that anybody can write: what they hold is compared with the data set's own images.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vlm_gauntlet.attacks.balls import outside
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.errors import GauntletError, reading
from vlm_gauntlet.fixtures.files import read_plain, sha256, write_atomically, writing
from vlm_gauntlet.fixtures.protocols import NO_ATTACK, Protocol, ThreatModel
from vlm_gauntlet.fixtures.records import Cost, Name, Outcome
from vlm_gauntlet.methods.victims import Recorder

from .archive_codec import decode, encode
from .batch import Made
from .cells import CellPlan

FOLDER = "archive"  # inside a folder of outcomes
ROOM = "make room or choose another --outcomes; without --archive no images are kept"


class ArchiveError(GauntletError):
    """An archive that is torn, or of other images than the outcome speaks of."""


class ArchiveRecord(BaseModel):
    """What an archive should be."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    key: Name
    bits_digest: str = Field(description="of the outcome that the images gave")
    size: int = Field(ge=1, description="bytes of the file")
    sha256: str = Field(description="of the file")
    images_sha256: str = Field(description="of the attacked images' float32 bytes, in the outcome's order")


def holds_images(protocol: Protocol) -> bool:
    """Whether there is something to keep: of an attack on text, prompts are searched again."""
    return protocol.attack.name != NO_ATTACK and protocol.threat.modality == "image"


class Archive:
    """The archives of a folder of outcomes.

    Args:
        outcomes: that folder.
    """

    def __init__(self, outcomes: Path) -> None:
        self.folder = outcomes / FOLDER

    def path(self, key: str) -> Path:
        """Where the images of a cell lie."""
        return self.folder / f"{key}.safetensors"

    def add(self, key: str, index: int, batch: Batch, attacked: Tensor) -> None:
        """Keeps the attacked images of one batch until the cell is finished.

        Raises:
            GauntletError: the disk is full, the folder cannot be written, or the batch before was not kept.
        """
        if index == 0:  # what a run of another batch size left
            shutil.rmtree(self._part(key, 0).parent, ignore_errors=True)
        elif not self._part(key, index - 1).is_file():
            raise self._not_kept(key, index - 1)
        attacked = attacked.cpu()
        held = {
            str(i): _bytes(encode(one, clean))
            for i, (one, clean) in enumerate(zip(attacked, batch.images, strict=True))
        }
        held["digests"] = _bytes(b"".join(map(_digest, attacked)))
        with writing(self._part(key, index), fix=ROOM):
            write_atomically(self._part(key, index), save(held))

    def check(self, key: str, index: int) -> None:
        """Raises GauntletError unless the images of a batch that an earlier run finished are kept."""
        if not (self._part(key, index).is_file() or self.path(key).is_file()):
            raise self._not_kept(key, index)

    def finish(self, outcome: Outcome) -> None:
        """Makes one archive of all batches of a cell, and its record."""
        parts = self.folder / f"{outcome.key}.parts"
        if not parts.is_dir():  # made before a kill
            return
        held: dict[str, Tensor] = {}
        digests = b""
        for path in sorted(parts.glob("*.safetensors")):
            part = load(path.read_bytes())
            digests += bytes(part.pop("digests").tolist())
            start = len(held)
            held |= {str(start + int(i)): part[i] for i in sorted(part, key=int)}
        data = save(held)
        record = ArchiveRecord(
            key=outcome.key, bits_digest=outcome.bits_digest, size=len(data), sha256=sha256(data),
            images_sha256=sha256(digests),
        )  # fmt: skip
        with writing(self.path(outcome.key), fix=ROOM):
            write_atomically(self.path(outcome.key), data)
            write_atomically(self.folder / f"{outcome.key}.json", (record.model_dump_json(indent=1) + "\n").encode())
            shutil.rmtree(parts)

    def read(self, outcome: Outcome) -> "ArchivedImages | None":
        """The images of an outcome; None where none were kept.

        Raises:
            ArchiveError: the file is cut, is not the one of its record, or is of another outcome.
        """
        path, beside = self.path(outcome.key), self.folder / f"{outcome.key}.json"
        if not (path.is_file() or beside.is_file()):
            return None
        with reading("an archive's record", beside, expected="what `gauntlet run --archive` writes", fix=_FIX):
            record = ArchiveRecord.model_validate_json(read_plain(beside), strict=True)
        if (record.key, record.bits_digest) != (outcome.key, outcome.bits_digest):
            raise _error("an archive of another outcome, or of other bits", beside)
        if not path.is_file() or path.stat().st_size != record.size:
            raise _error(f"an archive that is cut or missing: {record.size} bytes were written", path)
        with reading("an archive", path, expected="a file of its own", fix=_FIX):
            data = read_plain(path, record.size)
        if sha256(data) != record.sha256:
            raise _error("an archive with another digest than its record", path)
        try:
            held = load(data)
        except SafetensorError as error:
            raise _error(f"an archive that is no safetensors file: {error}", path) from None
        if held.keys() != {str(i) for i in range(outcome.n)} or any(t.dtype != torch.uint8 for t in held.values()):
            raise _error(f"an archive of {len(held)} tensors for {outcome.n} images", path)
        images = {s.id: bytes(held[str(i)].numpy()) for i, s in enumerate(outcome.samples)}
        return ArchivedImages(path, record, images, outcome.cell.protocol.threat)

    def _not_kept(self, key: str, index: int) -> GauntletError:
        return GauntletError(
            "a partial log of a run that kept no images", expected="the images of each finished batch",
            where=str(self._part(key, index)), fix="go on without --archive, or remove the cell's partial log",
        )  # fmt: skip

    def _part(self, key: str, index: int) -> Path:
        return self.folder / f"{key}.parts" / f"{index:08}.safetensors"


def keeper_of(folder: Path, protocol: Protocol, *, wanted: bool) -> Archive | None:
    """Who keeps the attacked images of a cell in a folder of outcomes; nobody, unless it is wanted and has some."""
    return Archive(folder) if wanted and holds_images(protocol) else None


@dataclass(frozen=True)
class ArchivedImages:
    """The attacked images of an outcome, by sample id.

    Args:
        path: the file.
        record: what it should be.
        images: the bytes of each.
        threat: what an attack was allowed.
    """

    path: Path
    record: ArchiveRecord
    images: dict[str, bytes]
    threat: ThreatModel

    def attacked(self, batch: Batch) -> Tensor:
        """The attacked images [B, C, H, W] of a batch of clean ones.

        Raises:
            ArchiveError: one of them is missing, leaves the ball or [0, 1], or cannot be decoded.
        """
        try:
            found = torch.stack(
                [decode(self.images[i], clean) for i, clean in zip(batch.ids, batch.images, strict=True)]
            )
        except KeyError as error:
            raise _error(f"no image of sample {error}", self.path) from None
        except ValueError as error:
            raise _error(str(error), self.path) from None
        eps = self.threat.eps
        out = outside(found, batch.images, norm=self.threat.norm, eps=float(eps))
        if strange := [i for i, left in zip(batch.ids, out.tolist(), strict=True) if left]:
            raise _error(
                f"{len(strange)} images outside the {self.threat.norm} ball of {eps}, such as {strange[0]}", self.path
            )
        return found

    def check(self, plan: CellPlan) -> None:
        """Looks at all of them.

        Raises:
            ArchiveError: see `attacked`; or the images are not those of which the record has the digest.
        """
        seen = sha256(b"".join(_digest(one) for batch in plan.batches() for one in self.attacked(batch)))
        if seen != self.record.images_sha256:
            raise _error(
                "images that decode to others than were kept: the clean images here differ in their bits", self.path
            )

    def made(self, batch: Batch) -> Made:
        """A batch as if it had been attacked."""
        nothing = Cost(forward=0, backward=0, seconds=0.0)
        return Made(
            images=self.attacked(batch), prompts=None, telemetry={}, cost=nothing, notes=(), recorder=Recorder()
        )  # fmt: skip


_FIX = "ask for the archive again, or attack again: gauntlet verify --recompute"


def _error(came: str, path: Path) -> ArchiveError:
    return ArchiveError(came, expected="the attacked images of this outcome", where=str(path), fix=_FIX)


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy().astype("<f4", copy=False).tobytes()).digest()
