"""The stored claims equal the papers' texts, cell by cell, where the texts are on this machine."""

from collections.abc import Callable

import pytest

from vlm_gauntlet.fixtures.reported import reported_protocols
from vlm_gauntlet.methods.claims import claims

from .seeds import Cells, mmcoa_tables, survey_table_ii


def stored(source: str) -> Cells:
    return {(c.table, c.row, c.column): c.value for c in claims() if c.source == source}


@pytest.mark.parametrize(
    ("source", "read", "count"),
    [("survey-2601.12443", survey_table_ii, 7 * 9 * 2), ("mmcoa", mmcoa_tables, 652)],
)
def test_every_cell_is_stored_as_printed(source: str, read: Callable[[], Cells], count: int) -> None:
    try:
        printed = read()
    except FileNotFoundError as missing:
        pytest.skip(f"the paper's text is not on this machine: {missing}")
    assert len(printed) == count
    assert stored(source) == printed


def test_there_are_enough_of_them() -> None:
    assert len(claims()) >= 900
    assert {"paper", "code", "re-reported", "third-party"} == {c.tag for c in claims()}


def test_every_family_of_the_field_has_its_protocols() -> None:
    families = {p.family for p in reported_protocols().values()}
    wanted = {
        "tecoa",
        "pmg-aft",
        "fare",
        "tga-zsr",
        "laat",
        "mmcoa",
        "ttc",
        "clipure",
        "r-tpt",
        "tapt",
        "apt",
        "advpt",
        "survey",
    }
    assert wanted <= families
    for field in ("attack_resolution", "precision", "prompts", "preprocessing", "samples"):
        told = {getattr(p, field) for p in reported_protocols().values() if p.family in wanted} - {"unknown"}
        assert len(told) >= 2, f"no two families differ in {field}"
