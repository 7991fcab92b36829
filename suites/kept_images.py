"""Images attacked on the undefended model, made once for all defences that they are shown to, and kept between runs.

What a transfer attack makes depends on the undefended model alone. An entry's name is a digest of all that it depends
on: code, weights, words, protocol, seed, device, and the very pictures of its batch. An entry that is torn, belongs to
another name, leaves the ball, or holds images that the undefended model answers otherwise, is made again.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from vlm_gauntlet.attacks.balls import outside
from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.device import device_name
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.files import read_plain, sha256, user_cache, write_atomically
from vlm_gauntlet.fixtures.records import Cell, Cost
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.victims import Recorder

from .archive_codec import decode, encode
from .batch import Evaluation, Made
from .device_record import system_of
from .keys import attack_code, cell_code
from .versions import versions_here

FOLDER, SUFFIX = "kept-images", ".safetensors"
LIMIT = 20 * 2**30  # bytes
NOTE = "attacked images were made for another cell of the undefended model's, and kept"


@dataclass
class KeptImages:
    """The store.

    Args:
        folder: default: in the user's cache.
        limit: bytes; what was read or written longest ago goes first.
    """

    folder: Path = field(default_factory=lambda: user_cache() / FOLDER)
    limit: int = LIMIT

    def once(self, cell: Cell, evaluation: Evaluation, batch: Batch, make: Callable[[], Made]) -> Made:
        """What the attack makes of a batch: kept by an earlier cell, else made and kept.

        A store that cannot be written costs nothing but time: the next cell makes its images again.
        """
        if not shared(evaluation):
            return make()
        name = name_of(cell, evaluation, batch)
        if (found := self._read(name, evaluation, batch)) is not None:
            return found
        made = make()
        if made.images is not None:
            with suppress(OSError):
                self._write(name, made, batch)
        return made

    def entries(self) -> list[Path]:
        """Whole files, the one that was used longest ago first."""
        found = self.folder.glob(f"*{SUFFIX}") if self.folder.is_dir() else ()
        return sorted((p for p in found if not p.name.startswith(".")), key=lambda p: (p.stat().st_mtime_ns, p.name))

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(path.stat().st_size for path in self.entries())

    def clear(self) -> int:
        """Deletes all entries; how many there were."""
        found = self.entries()
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def _write(self, name: str, made: Made, batch: Batch) -> None:
        assert made.images is not None
        pairs = enumerate(zip(made.images.cpu(), batch.images, strict=True))
        held = {f"image {i}": _bytes(encode(one, clean)) for i, (one, clean) in pairs}
        held |= {f"told {n}": values.detach().cpu().contiguous() for n, values in made.telemetry.items()}
        told = {"name": name, "cost": made.cost.model_dump(), "notes": made.notes,
                "images": sha256(made.images.cpu().contiguous().numpy().tobytes())}  # fmt: skip
        held["about"] = _bytes(json.dumps(told).encode())
        data = save(held)
        write_atomically(self._path(name), bytes.fromhex(sha256(data)) + data)
        self._make_room(keep=self._path(name))

    def _make_room(self, keep: Path) -> None:
        sizes = {path: path.stat().st_size for path in self.entries()}
        total = sum(sizes.values())
        for path, size in sizes.items():
            if total <= self.limit or path == keep:
                continue
            path.unlink(missing_ok=True)
            total -= size

    def _read(self, name: str, evaluation: Evaluation, batch: Batch) -> Made | None:
        """The entry of a name; None where there is none, and where it is not what was written under this name."""
        path = self._path(name)
        try:
            raw = read_plain(path)
            digest, data = raw[:32], raw[32:]
            if digest.hex() != sha256(data):
                return None
            held = load(data)
            told: dict[str, Any] = json.loads(bytes(held.pop("about").tolist()))
            images = torch.stack([decode(bytes(held[f"image {i}"].tolist()), c) for i, c in enumerate(batch.images)])
            if told["name"] != name or told["images"] != sha256(images.contiguous().numpy().tobytes()):
                return None
            cost, notes = Cost.model_validate(told["cost"]), (*map(str, told["notes"]), NOTE)
            device = evaluation.undefended.backbone.device
            telemetry = {n.removeprefix("told "): t.to(device) for n, t in held.items() if n.startswith("told ")}
            made = Made(images.to(device), None, telemetry, cost, notes, Recorder())
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError):
            return None
        if not _true(made, evaluation, batch):
            return None
        with suppress(OSError):
            os.utime(path)
        return made


def shared(evaluation: Evaluation) -> bool:
    """Whether what the attack makes depends on the undefended model alone, and is images.

    An attack that takes images from several models looks at the defence's own parts; where a defence has a backbone of
    its own, costs are counted there.
    """
    protocol, attack = evaluation.protocol, build(evaluation.protocol)
    if attack is None or attack.transfers or evaluation.sources or protocol.threat.modality != "image":
        return False
    same = evaluation.defence.backbone.passes is evaluation.undefended.backbone.passes
    return same and protocol.threat.knowledge == "transfer"


def name_of(cell: Cell, evaluation: Evaluation, batch: Batch) -> str:
    """Digest of all that the attacked images of a batch depend on, the defence not among it."""
    undefended = method("undefended")
    device = str(evaluation.undefended.backbone.device)
    parts = {
        "code": cell_code(undefended, cell.backbone), "attack": attack_code(cell.protocol, {}, None),
        "backbone": [cell.backbone, cell.backbone_digest], "prompts": cell.prompts_digest,
        "data": [cell.dataset, cell.dataset_digest], "protocol": cell.protocol.digest, "seed": cell.seed,
        "ids": batch.ids, "labels": batch.labels.tolist(),
        "pictures": sha256(batch.images.contiguous().numpy().tobytes()),
        "device": device_name(device), "versions": dict(versions_here()), "system": dict(system_of(device)),
    }  # fmt: skip
    return sha256(json.dumps(parts, sort_keys=True).encode())


def _true(made: Made, evaluation: Evaluation, batch: Batch) -> bool:
    """Whether images lie where the attack may leave them, and fool the undefended model as their entry says."""
    threat, device = evaluation.protocol.threat, evaluation.undefended.backbone.device
    assert made.images is not None
    clean, labels = batch.images.to(device), batch.labels.to(device)
    if bool(outside(made.images, clean, norm=threat.norm, eps=float(threat.eps)).any()):
        return False
    said = made.telemetry.get("success")
    if said is None or said.shape != labels.shape:
        return False
    passes = evaluation.undefended.backbone.passes
    before = passes.forward
    with torch.no_grad():
        answers = evaluation.undefended(made.images, evaluation.prompts, draws=Draws((0,) * len(labels)))
    passes.forward = before  # a look, which no cost of the cell is
    return bool(((answers.argmax(1) != labels).float() == said).all())


def _bytes(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
