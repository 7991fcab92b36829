"""What a training costs, as `gauntlet train --measure` prints it and a method's `measured.toml` keeps it."""

import json
from datetime import date

from pydantic import BaseModel, ConfigDict, Field


class TrainingCost(BaseModel):
    """Of one checkpoint. It tells of a training and makes nothing of it: no digest reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: str = Field(description="name of its pin")
    device: str = Field(description="what computed, in words")
    steps: int = Field(ge=1, description="of all phases")
    seconds: float = Field(
        gt=0, description="all steps at the time of a few of each phase, and what came before the first of them"
    )
    parameters: int = Field(ge=1, description="numbers that some phase trains")
    measured: date

    def toml(self) -> str:
        """Lines to paste into `measured.toml`."""
        told = self.model_dump(mode="json", exclude={"measured"})
        lines = (f"{key} = {json.dumps(value)}" for key, value in told.items())
        return "\n".join(["[[trainings]]", *lines, f"measured = {self.measured}"])
