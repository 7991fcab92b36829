"""Who attacks a cell: this process for the house's own defences, one of its own for a defence from outside.

Code from outside may hang, eat memory, end the process or change what it finds: it costs its own cell only. Images
transferred from the undefended model are made where its code was never imported.
"""

from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Protocol, Self

from torch import Tensor

from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.records import Cell, Cost
from vlm_gauntlet.fixtures.untouched import Untouched
from vlm_gauntlet.methods.late_files import LateFiles
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.victims import Call, Recorder

from .apart import Apart, Limits
from .batch import Asked, Made, attack_batch
from .cells import CellPlan, LoadedCell

OUTSIDE = Limits(seconds=900, memory=16 * 2**30, files=False)


class Attacker(Protocol):
    """Makes the adversarial images of a cell."""

    @property
    def cell(self) -> Cell:
        """What is run."""

    @property
    def asked(self) -> Asked:
        """How the defence is scored."""

    def attack(self, batch: Batch) -> Made:
        """What the attack makes of a batch."""

    def read(self) -> dict[str, str]:
        """Files that the defence has read so far and that the cell's digests do not hold, with their SHA-256."""


@dataclass(frozen=True)
class Here:
    """An attacker in this process."""

    loaded: LoadedCell

    @property
    def cell(self) -> Cell:
        """See Attacker."""
        return self.loaded.cell

    @property
    def asked(self) -> Asked:
        """See Attacker."""
        return self.loaded.evaluation.asked

    def attack(self, batch: Batch) -> Made:
        """See Attacker."""
        return attack_batch(self.loaded.evaluation, batch)

    def read(self) -> dict[str, str]:
        """None: a defence here is one of this project."""
        return {}


class Elsewhere:
    """An attacker in a process of its own; use it in a `with`.

    Args:
        plan: the cell.
        limits: of one batch.
    """

    def __init__(self, plan: CellPlan, limits: Limits = OUTSIDE) -> None:
        settings = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name != "method"}
        what = f"the attack on {plan.method.name}"
        self._apart = Apart(Stand, plan.method.name, settings, what=what, limits=limits)
        cell, asked, names, groups = self._apart.ask("told")
        self._cell, self._asked = Cell.model_validate_json(cell), Asked(prompts=_prompts(names, groups), **asked)
        if plan.protocol.threat.knowledge == "transfer":  # made on the undefended model, where the defence never was
            self._apart.close()
            self._apart = Apart(Stand, "undefended", settings, what=what, limits=limits)

    @property
    def cell(self) -> Cell:
        """See Attacker."""
        return self._cell

    @property
    def asked(self) -> Asked:
        """See Attacker."""
        return self._asked

    def attack(self, batch: Batch) -> Made:
        """See Attacker."""
        found = self._apart.ask("attack", batch.ids, batch.images, batch.labels)
        recorder = Recorder()
        for images, names, groups, keys, call, logits in found["calls"]:
            recorder.kept.append(Call(images, _prompts(names, groups), Draws(tuple(keys), call), logits))
        forward, backward, seconds = found["cost"]
        return Made(
            images=found["images"], prompts=_prompts(*found["prompts"]) if found["prompts"] else None,
            telemetry=found["telemetry"], cost=Cost(forward=forward, backward=backward, seconds=seconds),
            notes=tuple(found["notes"]), recorder=recorder,
        )  # fmt: skip

    def read(self) -> dict[str, str]:
        """See Attacker."""
        return dict(self._apart.ask("read"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._apart.close()


class Stand:
    """What lives in the attacking process: the loaded cell; its answers are tensors and plain values.

    Args:
        name: of the method.
        settings: the other fields of the plan.
    """

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name, self.untouched = name, Untouched()
        plan = CellPlan(method=(chosen := method(name)), **settings)
        load_backbone(plan.backbone_name, plan.device)  # first, so that its files are not taken for the defence's
        self.files = LateFiles(chosen)
        with self.files.hearing():
            self.loaded = plan.load()

    def told(self) -> tuple[str, dict[str, Any], list[str], list[list[str]]]:
        """The cell, and how its defence is asked."""
        asked = self.loaded.evaluation.asked
        plain = {f.name: getattr(asked, f.name) for f in fields(asked) if f.name != "prompts"}
        return self.loaded.cell.model_dump_json(), plain, *_plain(asked.prompts)

    def attack(self, ids: tuple[str, ...], images: Tensor, labels: Tensor) -> dict[str, Any]:
        """See Attacker."""
        with self.files.hearing():
            made = attack_batch(self.loaded.evaluation, Batch(ids, images, labels))
        self.untouched.check(self.name)
        return {
            "images": None if made.images is None else made.images.cpu(),
            "prompts": _plain(made.prompts) if made.prompts else None,
            "telemetry": {name: values.detach().cpu() for name, values in made.telemetry.items()},
            "cost": (made.cost.forward, made.cost.backward, made.cost.seconds),
            "notes": [*made.notes],
            "calls": [
                (c.images.cpu(), *_plain(c.prompts), [*c.draws.keys], c.draws.call, c.logits.cpu())
                for c in made.recorder.calls
            ],
        }

    def read(self) -> dict[str, str]:
        """See Attacker."""
        return self.files.found()


def _plain(prompts: PromptSet) -> tuple[list[str], list[list[str]]]:
    return [*prompts.class_names], [[*group] for group in prompts.prompts]


def _prompts(names: list[str], groups: list[list[str]]) -> PromptSet:
    return PromptSet(tuple(names), tuple(tuple(group) for group in groups))
