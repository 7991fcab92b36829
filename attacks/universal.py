"""Universal perturbations: one for all images, made elsewhere; the defence is asked for nothing.

X-Transfer (Huang et al. 2025, arXiv 2505.05528) publishes some for CLIPs. How they are scaled to another radius and
resized to other images is as in its package, xtransferbench 0.1.2. The embedded one is made by `training/universal.py`.
"""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from vlm_gauntlet import fixtures
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.files import sha256

from .balls import project
from .base import STRICT, Attack, AttackInfo, Number, Run

FOLDER = Path(next(iter(fixtures.__path__))) / "data" / "perturbations"
WHERE_FROM = (
    "X-Transfer's are files called model.safetensors in the hub's repositories hanxunh/xtransfer_<naive, base, mid or "
    "large>_linf_eps12_non_targeted"
)


@dataclass(config=STRICT)
class Universal(Attack):
    """Adds a perturbation from a file to every image.

    Args:
        file: safetensors with one tensor, [3, H, W] or [1, 3, H, W]: an absolute path, or a name in
            `fixtures/data/perturbations`.
        sha256: its digest.
        made_for: the radius that it was made for; at another it is scaled in proportion.
    """

    info = AttackInfo(
        "universal",
        "One perturbation for all images, from a file: transfer without a query or a gradient",
        "Huang et al. 2025, arXiv:2505.05528; Moosavi-Dezfooli et al. 2017, arXiv:1610.08401",
        ("linf",),
    )

    file: str = ""
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    made_for: Annotated[Number, Field(gt=0)] = Fraction(12, 255)

    @model_validator(mode="after")
    def _given(self) -> "Universal":
        if not (self.file and self.sha256):
            raise ValueError(
                f"file = {self.file!r} with sha256 = {self.sha256!r}: name a file and its SHA-256; {WHERE_FROM}"
            )
        return self

    @property
    def source_digest(self) -> str:
        """See Attack: of the file, once it has been read.

        Raises:
            GauntletError: see `perturbation`.
        """
        self.perturbation()
        return self.sha256

    def perturbation(self) -> Tensor:
        """The file's tensor [3, H, W].

        Raises:
            UnavailableError: the file is not on this machine.
            GauntletError: another digest, no safetensors, or no finite picture in it.
        """
        path = FOLDER / self.file  # an absolute path stays what it is
        expected = f"safetensors with one finite tensor [3, H, W] and SHA-256 {self.sha256}"
        if not path.is_file():
            raise UnavailableError(f"no perturbation {path.name}", expected=expected, where=str(path), fix=WHERE_FROM)
        data, came = path.read_bytes(), "no safetensors"
        if (digest := sha256(data)) != self.sha256:
            came = f"SHA-256 {digest}"
        else:
            with suppress(SafetensorError):
                tensors = load(data)
                came = f"tensors of shapes {[tuple(tensor.shape) for tensor in tensors.values()]}"
                first = next(iter(tensors.values()), torch.empty(0)).float()
                found = first.squeeze(0) if first.dim() == 4 else first
                if len(tensors) == 1 and found.dim() == 3 and len(found) == 3 and found.isfinite().all():
                    return found
        raise GauntletError(
            f"a perturbation with {came}", expected=expected, where=str(path), fix=f"fetch it again; {WHERE_FROM}"
        )

    def perturb(self, run: Run) -> Tensor:
        """See Attack: scaled, resized, added, clipped to the ball."""
        found = self.perturbation().to(run.images.device)[None] * (self.eps / float(self.made_for))
        size = run.images.shape[-2:]
        if found.shape[-2:] != size:
            run.notes.append(f"universal: resized from {tuple(found.shape[-2:])} to {tuple(size)}, which weakens it")
            found = F.interpolate(found, size, mode="bilinear", align_corners=False)
        return project(run.images + found, run.images, norm=self.norm, eps=self.eps)
