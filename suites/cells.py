"""The cells of a run: the matrix method x data set x protocol, planned before anything heavy is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Batch, Dataset, dataset
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.records import Cell
from vlm_gauntlet.methods.own_backbone import check_untouched, own_backbone
from vlm_gauntlet.methods.registry import Method, method

from .batch import Evaluation
from .described import Described, described
from .keys import attack_code, cell_code
from .runnable import protocols_named
from .sources import sources


@dataclass(frozen=True)
class CellPlan:
    """A cell before anything heavy was loaded."""

    method: Method | Described
    backbone_name: str
    dataset_name: str
    protocol: Protocol
    limit: int
    seed: int
    device: str
    batch_size: int

    @property
    def id(self) -> str:
        """Stable, readable, selectable by `-k`."""
        return f"{self.method.label}-{self.backbone_name}-{self.dataset_name}-{self.protocol.id}"

    @property
    def missing_part(self) -> str:
        """The part that the attack needs and the defence lacks, such as `unrolled`; empty where it has it."""
        attack = build(self.protocol)
        needs = attack.needs if attack else ()
        return next((part for part in needs if not self.method.offers(part)), "")

    def batches(self) -> Iterator[Batch]:
        """The samples in batches, at the resolution that the protocol attacks."""
        data, protocol = dataset(self.dataset_name), self.protocol
        native = protocol.threat.attack_resolution == "native"  # then the backbone alone resizes
        return data.batches(
            limit=self.limit, batch_size=self.batch_size,
            size=data.native_size if native else load_backbone(self.backbone_name, self.device).image_size,
            preprocessing="resize-crop" if native else protocol.evaluation.preprocessing,
        )  # fmt: skip

    def notes(self) -> tuple[str, ...]:
        """What is unusual about the data set, and how many samples of each class the limit takes."""
        data, native = dataset(self.dataset_name), self.protocol.threat.attack_resolution == "native"
        return data.checked().notes_for(self.limit, native=data.native_size if native else 0)

    def load(self) -> "LoadedCell":
        """Loads backbone and data set, builds the defence.

        Raises:
            UnavailableError: weights, data or the words of an attack on text are not on this machine.
            GauntletError: the data set would give a wrong number: see `Dataset.checked`.
            ContractError: a defence from outside changed the backbone that it was given.
        """
        chosen = self.method
        if isinstance(chosen, Described):
            raise GauntletError(
                f"{chosen.name} was to be imported into this process", expected="a process of its own",
                where="suites/cells.py", fix="run the cell by `running.run_cell`",
            )  # fmt: skip
        backbone, data = load_backbone(self.backbone_name, self.device), dataset(self.dataset_name)
        if data.retrieval:
            raise GauntletError(
                f"{data.name!r} is a retrieval set", expected="a classification set", where="--dataset",
                fix="choose another data set",
            )  # fmt: skip
        data.checked()
        own = own_backbone(chosen, backbone)
        defence = chosen.build(own).to(self.device)
        check_untouched(chosen, own, backbone)
        attack, prompts = build(self.protocol), data.prompted(self.protocol.evaluation.prompts)
        models = sources(defence, backbone) if attack is not None and attack.transfers else {}
        coupled = defence.batch_coupled or (attack is not None and attack.couples_batch)
        cell = Cell(
            method=chosen.label, method_digest=chosen.built_digest(defence, own), backbone=backbone.name,
            backbone_digest=backbone.digest, dataset=data.name, dataset_digest=data.digest,
            prompts_digest=prompts.digest, protocol=self.protocol,
            text_source_digest=attack.source_digest if attack else "", seed=self.seed, limit=self.limit,
            batch_size=self.batch_size if coupled else None, 
            code_digest=cell_code(chosen, backbone.name),
            attack_digest=attack_code(self.protocol, models, backbone),
        )  # fmt: skip
        undefended = method("undefended").build(backbone)
        return LoadedCell(cell, data, Evaluation(defence, undefended, prompts, self.protocol, self.seed, models))


@dataclass(frozen=True)
class LoadedCell:
    """A cell with what it stands on.

    Args:
        cell: what its key is made of.
        data: the samples.
        evaluation: the defence and what attacks it.
    """

    cell: Cell
    data: Dataset
    evaluation: Evaluation


def plan(
    methods: Sequence[str],
    backbone: str,
    datasets: Sequence[str],
    protocols: Sequence[str],
    *,
    limit: int,
    limits: Mapping[str, int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int = 32,
) -> list[CellPlan]:
    """The matrix method x data set x protocol, sorted by id, without the cells whose attack the method has no part for.

    Args:
        methods, datasets, protocols: the three sides, by name.
        backbone: what all defences stand on.
        limit: n samples of each data set, the first of its fixed permutation.
        limits: other limits for single methods, by name.
        seed, device, batch_size: of every cell.

    Raises:
        GauntletError: an unknown method or protocol, with near misses; or no cell is left.
    """
    asked = [
        CellPlan(described(m), backbone, d, p, (limits or {}).get(m, limit), seed, device, batch_size)
        for m in methods
        for d in datasets
        for name in protocols
        for p in protocols_named(name, d)
    ]
    made = [cell for cell in asked if not cell.missing_part]
    if asked and not made:
        raise GauntletError(
            f"{asked[0].id}: the defence has no {asked[0].missing_part}", expected="a protocol that its parts allow",
            where="--protocol", fix=f"write {asked[0].missing_part}() in the defence, or choose another protocol",
        )  # fmt: skip
    return sorted(made, key=lambda p: p.id)
