"""A failed check masks the row of its defence, a warning stands beside it, and one of other code says nothing."""

from pathlib import Path

import pytest

from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.check_records import CheckRecord, keep, kept
from vlm_gauntlet.suites.conformance.report import Finding, Report, Status

from .factory import outcome


def record(status: Status, code: str = "code") -> dict[tuple[str, str], CheckRecord]:
    findings = (("check_order_independence", "pass", ""), ("check_mode_kept", status, "seen"))
    return {("tecoa", "tiny"): CheckRecord(method="tecoa", backbone="tiny", code_digest=code, findings=findings)}


@pytest.mark.parametrize(
    ("status", "code", "state", "flags"),
    [
        ("fail", "code", "masked", ["check-failed"]), ("warn", "code", "valid", ["check-warned"]),
        ("pass", "code", "valid", []), ("skip", "code", "valid", []), ("fail", "other", "valid", []),
    ],
)  # fmt: skip
def test_what_a_check_found_reaches_the_row(status: Status, code: str, state: str, flags: list[str]) -> None:
    (row,) = Evidence(sound=[outcome("1110")], checks=record(status, code)).rows()
    assert row.state == state and [f.name for f in row.flags] == flags
    assert [f.meaning for f in row.flags] == ["check_mode_kept"] * len(flags)
    assert [f.name for f in row.masked_by] == [name for name in flags if name == "check-failed"]


def test_a_report_is_kept_beside_the_outcomes_and_a_broken_one_is_named(tmp_path: Path) -> None:
    chosen = method("undefended")
    report = Report("undefended", "miniclip-vit", "noise", (Finding("check_mode_kept", "fail", "x" * 5000),), 1.0)
    keep(tmp_path, chosen, report)
    keep(tmp_path, chosen, report)
    (path,) = (tmp_path / "checks").iterdir()
    found, broken = kept(tmp_path)
    assert found["undefended", "miniclip-vit"].named("fail") == ["check_mode_kept"] and not broken
    path.write_text("{")
    found, broken = kept(tmp_path)
    assert not found and str(path) in str(broken[0])
