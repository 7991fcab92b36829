"""What this machine would write into a cell: samples, protocols, digests. An outcome's own words are compared with it.

Nothing is fetched, and no file is imported because a record names it: methods and protocols from outside are known only
where the caller names them.
"""

import tomllib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from vlm_gauntlet.attacks.protocols import protocols
from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.backbones import embedded, load_backbone
from vlm_gauntlet.fixtures.datasets import Dataset, dataset
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.records import Cell
from vlm_gauntlet.methods.registry import Method, method

from .keys import attack_code, cell_code
from .runnable import protocols_named
from .sources import sources


def expected_ids(data: Dataset, limit: int) -> dict[str, int]:
    """The samples that a limit takes of a data set, in the order in which a run takes them: id -> label."""
    return {sample.id: sample.label for sample in data.chosen(limit)}


class KnownHere:
    """Methods, protocols, data and digests of this machine; everything is looked up once.

    Args:
        methods: names of methods from outside (`mine.py:Mine`) that count as known.
        protocols: protocol files from outside that count as known.

    Raises:
        GauntletError: one of the names given here cannot be used.
    """

    def __init__(self, methods: Sequence[str] = (), protocols: Sequence[str] = ()) -> None:
        self._outside = {made.label: made for made in map(method, methods)}
        self._own_protocols = {p.id: p for name in protocols for p in protocols_named(name, "any")}
        self.method = cache(self._method)
        self.digests = cache(self._digests)
        self.samples = cache(self._samples)
        self.protocol = cache(self._protocol)

    def _method(self, label: str) -> Method | None:
        """The method that an outcome's label means here; None where there is none."""
        if label in self._outside:
            return self._outside[label]
        if ":" in label:
            return None
        try:
            return method(label)
        except GauntletError:
            return None

    def _protocol(self, name: str, dataset_name: str) -> Protocol | None:
        """What a protocol's id means here: of the house, of a reported number, or of a file that was named."""
        for known in (self._own_protocols, protocols()):
            if name in known:
                return known[name]
        try:
            reported = protocols_named(name.partition(":")[0], dataset_name) if not name.endswith(".toml") else []
        except GauntletError:
            return None
        return next((p for p in reported if p.id == name), None)

    def _samples(self, name: str, limit: int) -> tuple[Dataset, dict[str, int]]:
        """A data set and the samples that a limit takes.

        Raises:
            UnavailableError: it is not on this machine.
            GauntletError: nobody knows it, or it cannot be read.
        """
        data = dataset(name)
        return data, expected_ids(data, limit)

    def _digests(self, label: str, backbone: str, protocol: Protocol) -> dict[str, str | int | None]:
        """Fields of a cell as this code would fill them in; those that cannot be known here are left out."""
        chosen = self.method(label)
        if chosen is None:
            return {}
        attack = build(protocol)
        found: dict[str, str | int | None] = {"code_digest": cell_code(chosen, backbone)}
        if attack is None or not attack.transfers:
            found["attack_digest"] = attack_code(protocol, {}, None)
        with suppress(UnavailableError):
            found["text_source_digest"] = attack.source_digest if attack else ""
        if backbone in embedded():
            pins = tomllib.loads((embedded()[backbone] / "backbone.toml").read_text())
            found["backbone_digest"] = pins["sha256"]
            found |= self._built(label, backbone)
            if "attack_digest" not in found and "method_digest" in found:
                tower = load_backbone(backbone)
                found["attack_digest"] = attack_code(protocol, sources(chosen.build(tower), tower), tower)
        return found

    @cache  # noqa: B019 - one object a command
    def _built(self, label: str, backbone: str) -> dict[str, str | int | None]:
        chosen, tower = self.method(label), load_backbone(backbone)
        if chosen is None:
            return {}
        try:
            return {"method_digest": chosen.built_digest(chosen.build(tower), tower)}
        except UnavailableError:  # a checkpoint that is not here
            return {}


def differing(cell: Cell, known: dict[str, str | int | None]) -> list[str]:
    """Names of the fields of a cell that are not what is known here."""
    return [name for name, value in known.items() if getattr(cell, name) != value]
