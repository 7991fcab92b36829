"""The folder of outcomes of the matrix: its cells, and the batches of the cells in flight."""

from pydantic import BaseModel, ConfigDict

from vlm_gauntlet.fixtures.records import Cost, Outcome, Sample

from .record_folder import RecordFolder


class BatchResult(BaseModel):
    """What one batch of a cell gave: the unit that a kill can cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: tuple[Sample, ...]
    telemetry: dict[str, tuple[float, ...]]
    defence_cost: Cost
    attack_cost: Cost
    notes: tuple[str, ...]


class Journal(RecordFolder[Outcome, BatchResult]):
    """Outcomes in a folder."""

    record, batch, name, schema = Outcome, BatchResult, "an outcome", "gauntlet schema"
