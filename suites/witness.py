"""Scores a cell in a process of its own: it never saw the attack, and neither labels nor sample ids are in its reach.

A defence that remembers, that reads labels from whoever calls it, or that behaves for the attacker, is alone here.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from torch import Tensor

from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import ContractError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.records import Cost
from vlm_gauntlet.methods.late_files import LateFiles
from vlm_gauntlet.methods.registry import method

from .apart import Apart, Limits
from .confined import open_no_data
from .scoring import Answers, InProcess

Plain = tuple[Tensor, Tensor, tuple[int, int, float]]


class Stand:
    """What lives in the witness's process.

    Args:
        name: of the method, as `methods.registry.method` knows it.
        backbone: name of the backbone.
        device: torch device.
        digest: of the built method, which must be the same here.
    """

    def __init__(self, name: str, backbone: str, device: str, digest: str) -> None:
        open_no_data()
        chosen, loaded = method(name), load_backbone(backbone, device)
        self.files = LateFiles(chosen)
        with self.files.hearing():
            defence = chosen.build(loaded).to(device)
        if digest and (built := chosen.built_digest(defence, loaded)) != digest:
            raise ContractError(
                f"{name} built afresh has the digest {built[:12]}, not {digest[:12]}",
                expected="the same parameters, buffers and data each time that it is built", where=f"method {name}",
                fix="build it from the backbone and its files alone: no clock, no unseeded draw, no shared weights",
            )  # fmt: skip
        self.scorer, self.device = InProcess(defence), device

    def score(self, images: Tensor, prompts: PromptSet, keys: Sequence[int], calls: Sequence[int]) -> Plain:
        """See Scorer; as plain values."""
        with self.files.hearing():
            found = self.scorer.score(images.to(self.device), prompts, keys, calls)
        cost = (found.cost.forward, found.cost.backward, found.cost.seconds)
        return found.classes.cpu(), found.logits.float().cpu(), cost

    def read(self) -> dict[str, str]:
        """See `attacking.Attacker`."""
        return self.files.found()


class Witness:
    """A Scorer in a process of its own; use it in a `with`.

    Args:
        name, backbone, device, digest: see Stand.
        limits: for one batch.
    """

    def __init__(
        self, name: str, backbone: str, device: str, *, digest: str = "", limits: Limits | None = None
    ) -> None:
        self._apart = Apart(Stand, name, backbone, device, digest, what=f"scoring {name}", limits=limits)
        self._device = device

    def score(self, images: Tensor, prompts: PromptSet, keys: Sequence[int], calls: Sequence[int]) -> Answers:
        """See Scorer."""
        classes, logits, (forward, backward, seconds) = self._apart.ask(
            "score", images.detach().cpu(), prompts, tuple(keys), tuple(calls)
        )
        cost = Cost(forward=int(forward), backward=int(backward), seconds=float(seconds))
        return Answers(classes.to(self._device), logits.to(self._device), cost)

    def read(self) -> dict[str, str]:
        """See `attacking.Attacker`."""
        return dict(self._apart.ask("read"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._apart.close()
