"""The folder of outcomes of the matrix: its cells, and the batches of the cells in flight."""

from pydantic import ConfigDict, Field

from vlm_gauntlet.fixtures.records import Cost, Outcome, Sample

from .late_folder import LateBatch, LateFolder


class BatchResult(LateBatch):
    """What one batch of a cell gave: the unit that a kill can cost. Floats survive JSON, NaN and infinity included."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    samples: tuple[Sample, ...]
    telemetry: dict[str, tuple[float, ...]]
    defence_cost: Cost
    attack_cost: Cost
    notes: tuple[str, ...]
    files: dict[str, str] = Field(default={})


class Journal(LateFolder[Outcome, BatchResult]):
    """Outcomes in a folder."""

    record, batch, name, schema = Outcome, BatchResult, "an outcome", "gauntlet schema"
