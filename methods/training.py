"""What `gauntlet train` asks of a method's `train` module, and how the result is named and pinned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Dataset
from vlm_gauntlet.fixtures.files import sha256

from .checkpoints import Pin, pin_text


@dataclass(frozen=True)
class Order:
    """One training, as asked for.

    Args:
        method: id of the method.
        backbone: name of the model to start from.
        data: webdataset folder with a `train` split.
        out: folder for the result.
        epochs: default: the recipe's.
        deviations: those of the method that change its training.
        progress: whether to show a bar.
        report: what is said of the result goes there.
    """

    method: str
    backbone: str
    data: Path
    out: Path
    epochs: int | None = None
    seed: int = 0
    device: str = "cpu"
    deviations: Mapping[str, str] = field(default_factory=dict)
    progress: bool = True
    report: Callable[[str], None] = print

    def load(self) -> tuple[Backbone, Dataset]:
        """The model to start from, and the pictures to train on."""
        return load_backbone(self.backbone, self.device), Dataset(self.data.name, self.data, split="train")

    @property
    def path(self) -> Path:
        """Where the result goes: `<backbone>+<deviations>.safetensors`."""
        return self.out / f"{self.backbone}{self._switches}.safetensors"

    @property
    def command(self) -> str:
        """What makes the result again."""
        named = f"{self.method}{self._switches}"
        return f"gauntlet train {named} --backbone {self.backbone} --data {self.data.name} --seed {self.seed}"

    @property
    def _switches(self) -> str:
        return "".join(sorted(f"+{name}={choice}" for name, choice in self.deviations.items()))

    def pinned(self, base: Backbone) -> Path:
        """Reports the pin of the result for `methods/<id>/checkpoints.toml`; returns where the result lies."""
        content = self.path.read_bytes()
        pin = Pin(
            sha256=sha256(content), size=len(content), base=base.digest, command=self.command, trained_on=self.data.name
        )
        self.report(pin_text(self.path.stem, pin))
        return self.path
