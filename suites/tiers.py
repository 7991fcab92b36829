"""Tiers: which methods, data sets and protocols run together, from `fixtures/data/tiers/*.toml`."""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from vlm_gauntlet import fixtures
from vlm_gauntlet.fixtures.errors import reading, unknown_name

TIERS = ("fast", "mini", "nightly", "full")


class Tier(BaseModel):
    """One matrix. `methods` may carry deviations (`clipure_cos+as_coded`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    backbone: str
    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    protocols: tuple[str, ...]
    limit: int = Field(ge=1)
    limits: dict[str, int] = Field(default={}, description="in place of limit for single methods, by name")
    batch_size: int = Field(ge=1)
    seed: int = 0
    control_protocol: str = Field(description="under this white-box protocol the undefended model must break")
    adaptive_protocol: str = Field(description="under this one a gradient-masking dummy must break")
    gpu: bool = False
    network: bool = False


@cache
def tier(name: str) -> Tier:
    """The tier with this name."""
    if name not in TIERS:
        raise unknown_name("tier", name, TIERS, "--tier")
    path = Path(fixtures.__file__).parent / "data" / "tiers" / f"{name}.toml"
    with reading("tier file", path, expected="the fields of Tier", fix="compare with fixtures/data/tiers/fast.toml"):
        return Tier.model_validate({"name": name, **tomllib.loads(path.read_text())})
