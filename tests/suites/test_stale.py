"""Finished cells that are not taken again are counted: those that differ by code or method alone."""

from pathlib import Path

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.fixtures.records import Cell
from vlm_gauntlet.suites.stale import made_by_other_code

CELL = Cell(
    method="ttc", method_digest="m", backbone="b", backbone_digest="b", dataset="d", dataset_digest="d",
    prompts_digest="p", protocol=protocol("clean"), seed=0, limit=3, code_digest="c",
)  # fmt: skip


def put(folder: Path, name: str, **changes: object) -> None:
    cell = CELL.model_copy(update=changes)
    (folder / f"{name}.json").write_text('{"cell": ' + cell.model_dump_json() + "}")


def test_other_code_and_other_methods_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "this")
    assert made_by_other_code(tmp_path, [CELL]) == 0
    put(tmp_path, "code", code_digest="x")
    put(tmp_path, "method", method_digest="x")
    assert made_by_other_code(tmp_path, [CELL]) == 2


def test_other_cells_and_broken_files_are_not(tmp_path: Path) -> None:
    changes = {"method": "x", "backbone": "x", "dataset": "x", "seed": 9, "limit": 9,
               "protocol": protocol("pgd-10-white-box-linf-8-255")}  # fmt: skip
    for name, value in changes.items():
        put(tmp_path, name, code_digest="x", **{name: value})
    for name, text in {"cut": '{"cell": {"meth', "list": "[1]", "other": '{"cell": {"protocol": 1}}'}.items():
        (tmp_path / f"{name}.json").write_text(text)
    assert made_by_other_code(tmp_path, [CELL]) == 0
    assert made_by_other_code(tmp_path / "nowhere", [CELL]) == 0
