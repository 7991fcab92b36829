"""What `gauntlet check` found of a defence, kept beside its outcomes: the board tells what failed or warned."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from vlm_gauntlet.fixtures.errors import GauntletError, reading
from vlm_gauntlet.fixtures.files import read_plain, sha256, write_atomically, writing
from vlm_gauntlet.fixtures.records import Name, Text
from vlm_gauntlet.methods.registry import Method

from .conformance.report import Report, Status
from .described import Described, code_of

FOLDER = "checks"


class CheckRecord(BaseModel):
    """The findings on one defence.

    Args:
        method, backbone: whose.
        code_digest: as in the cells that were run with the same code; of others it says nothing.
        findings: (check, status, sentence).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: Name
    backbone: Name
    code_digest: str
    findings: tuple[tuple[Name, Status, Text], ...] = Field(max_length=200)

    def named(self, status: Status) -> list[str]:
        """Names of the checks with this status."""
        return [check for check, found, _ in self.findings if found == status]


def keep(folder: Path, chosen: Method | Described, report: Report) -> None:
    """Writes a report beside the outcomes of its defence.

    Raises:
        GauntletError: the folder takes no file.
    """
    made = CheckRecord(
        method=chosen.label, backbone=report.backbone, code_digest=code_of(chosen, report.backbone),
        findings=tuple((f.check, f.status, f.sentence[:1000]) for f in report.findings),
    )  # fmt: skip
    path = folder / FOLDER / f"{sha256(f'{made.method} {made.backbone}'.encode())[:32]}.json"
    with writing(path, fix="give another --outcomes, or make room"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (made.model_dump_json(indent=1) + "\n").encode())


def kept(folder: Path) -> tuple[Mapping[tuple[str, str], CheckRecord], list[GauntletError]]:
    """The records of a folder by method and backbone, and what is wrong with the others."""
    found: dict[tuple[str, str], CheckRecord] = {}
    broken: list[GauntletError] = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            with reading("a record of a check", path, expected="what `gauntlet check` writes", fix="check again"):
                record = CheckRecord.model_validate_json(read_plain(path))
        except GauntletError as error:
            broken.append(error)
            continue
        found[record.method, record.backbone] = record
    return found, broken
