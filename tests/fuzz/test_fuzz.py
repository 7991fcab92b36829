"""Whatever lies in a file, a parser gives what stands there or one clear error. `make fuzz` feeds 100,000 inputs."""

from pathlib import Path

import pytest
import torch

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.packing import unpack

from .mutations import as_bytes
from .run import fuzz
from .targets import Target, targets

FEW = 8  # the same ones in each run; `make fuzz` draws others


@pytest.mark.parametrize("name", targets())
def test_a_good_file_is_read(name: str, tmp_path: Path) -> None:
    target = targets()[name]
    for seed in target.seeds:
        target.read(target.form(seed), tmp_path)


@pytest.mark.parametrize("name", targets())
def test_only_typed_errors_come_out(name: str) -> None:
    assert fuzz(targets()[name], FEW, again=True).total() >= FEW


def test_a_parser_that_crashes_is_found_out() -> None:
    def careless(data: bytes, folder: Path) -> None:
        if b"," not in data:
            raise GauntletError("no comma", expected="one", where="here", fix="add one")
        int(data.partition(b",")[0])

    with pytest.raises(ValueError, match="invalid literal"):
        fuzz(Target("careless", [b"12,13"], as_bytes, careless), 300, again=True)


@pytest.mark.parametrize("scales", [1, 3, 4])
def test_a_matrix_takes_one_scale_a_row(scales: int) -> None:
    with pytest.raises(ValueError, match="scales"):
        unpack({"m.int8": torch.ones(2, 3, dtype=torch.int8), "m.scale": torch.ones(scales)})
