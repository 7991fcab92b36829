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

from .apart import Apart
from .attacking import OUTSIDE
from .described import Described, described
from .keys import attack_code, cell_code, source_states, transferring_code
from .retrieval import retrieval_code
from .retrieval_records import RetrievalCell
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
        self._outside = {made.label: made for made in map(described, methods)}
        self._own_protocols = {p.id: p for name in protocols for p in protocols_named(name, "any")}
        self.method = cache(self._method)
        self.digests = cache(self._digests)
        self._samples = cache(self._samples)  # type: ignore[method-assign]  # a set that is not here is looked for once
        self.protocol = cache(self._protocol)

    def _method(self, label: str) -> Method | Described | None:
        """The method that an outcome's label means here; None where there is none."""
        if label in self._outside:
            return self._outside[label]
        if ":" in label:
            return None
        try:
            return described(label)
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

    def samples(self, name: str, limit: int) -> tuple[Dataset, dict[str, int]]:
        """A data set and the samples that a limit takes.

        Raises:
            UnavailableError: it is not on this machine.
            GauntletError: nobody knows it, or it cannot be read.
        """
        if isinstance(found := self._samples(name, limit), GauntletError):
            raise found.with_traceback(None)
        return found

    def _samples(self, name: str, limit: int) -> tuple[Dataset, dict[str, int]] | GauntletError:
        try:
            data = dataset(name)
            return data, expected_ids(data, limit)
        except GauntletError as error:
            return error

    def _digests(self, label: str, backbone: str, protocol: Protocol) -> dict[str, str | int | None]:
        """Fields of a cell as this code would fill them in; those that cannot be known here are left out."""
        chosen = self.method(label)
        if chosen is None:
            return {}
        attack = build(protocol)
        found: dict[str, str | int | None] = {"code_digest": self._told(label, "code", backbone)}
        if attack is None or not attack.transfers:
            found["attack_digest"] = attack_code(protocol, {}, None)
        with suppress(UnavailableError):
            found["text_source_digest"] = attack.source_digest if attack else ""
        if backbone in embedded():
            found |= self.loaded(label, backbone)
            if "attack_digest" not in found and "method_digest" in found:
                found["attack_digest"] = self._told(label, "attack", backbone, protocol)
        return found

    def loaded(self, label: str, backbone: str) -> dict[str, str | int | None]:
        """Digests of an embedded backbone and of a method on it; empty of a backbone that is not embedded."""
        if backbone not in embedded():
            return {}
        pins = tomllib.loads((embedded()[backbone] / "backbone.toml").read_text())
        found: dict[str, str | int | None] = {"backbone_digest": pins["sha256"]}
        with suppress(UnavailableError):  # a checkpoint that is not here
            if self.method(label) is not None:
                found["method_digest"] = self._told(label, "built", backbone)
        return found

    def retrieval_code(self, label: str, backbone: str, attack: str) -> str:
        """Digest of the code that a retrieval evaluation of a known method runs."""
        return self._told(label, "retrieval", backbone, attack)

    @cache  # noqa: B019 - one object a command
    def _told(self, label: str, what: str, *about: object) -> str:
        """A digest of a known method; of one from outside from a process of its own."""
        chosen = self.method(label)
        if isinstance(chosen, Described):
            with Apart(Digests, chosen.name, what=f"digests of {chosen.name}", limits=OUTSIDE) as there:
                return str(there.ask(what, *about))
        return str(getattr(self._digested(label), what)(*about))

    @cache  # noqa: B019 - one object a command
    def _digested(self, label: str) -> "Digests":
        return Digests(self.method(label) or label)  # type: ignore[arg-type]


class Digests:
    """Digests of a method, computed where its code may run.

    Args:
        chosen: it, or its name.
    """

    def __init__(self, chosen: Method | str) -> None:
        self.chosen = method(chosen) if isinstance(chosen, str) else chosen
        self._made: dict[str, tuple[str, tuple[str, ...]]] = {}

    def code(self, backbone: str) -> str:
        """Of the code of method and scoring."""
        return cell_code(self.chosen, backbone)

    def retrieval(self, backbone: str, attack: str) -> str:
        """Of the code of a retrieval evaluation."""
        return retrieval_code(self.chosen, backbone, attack)

    def built(self, backbone: str) -> str:
        """Of the method as built on a backbone."""
        return self._of_build(backbone)[0]

    def attack(self, backbone: str, protocol: Protocol) -> str:
        """Of the code of an attack that transfers images, and of what they are made on."""
        return transferring_code(protocol, self._of_build(backbone)[1])

    def _of_build(self, backbone: str) -> tuple[str, tuple[str, ...]]:
        """Digests of the built method and of what images are made on for it: one build tells them for all protocols."""
        if backbone not in self._made:
            tower = load_backbone(backbone)
            built = self.chosen.build(tower)
            digest = self.chosen.built_digest(built, tower)
            self._made[backbone] = digest, source_states(sources(built, tower), tower)
        return self._made[backbone]


def differing(cell: Cell | RetrievalCell, known: dict[str, str | int | None]) -> list[str]:
    """Names of the fields of a cell that are not what is known here."""
    return [name for name, value in known.items() if getattr(cell, name) != value]
