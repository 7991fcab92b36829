"""Every command beside broken parts, in processes of their own: each part is named, and all else works."""

import json
from pathlib import Path
from typing import Any

import pytest

from .farm import ROOT, plant, run, write

CELL = ("--dataset", "digits", "--protocol", "clean", "--limit", "2")
COMMANDS = {
    "methods": ("methods",),
    "methods --json": ("methods", "--json"),
    "attacks": ("attacks",),
    "datasets": ("datasets",),
    "protocols": ("protocols",),
    "the broken one": ("check", "x"),
    "nearly its name": ("check", "xx"),
    "tier": ("run", "--tier", "fast", *CELL),
    "another": ("run", "--method", "rn", *CELL),
    "its protocol": ("run", "--method", "rn", "--protocol", "mmcoa-clean"),
    "board": ("board", "--out", "site", "--text"),
    "claims": ("claims",),
    "its claims": ("claims", "--method", "hd"),
    "its source": ("claims", "--source", "mmcoa"),
    "audit": ("claims", "audit", "--json"),
    "verdicts": ("claims", "verdicts", "--method", "aom"),
    "mini verdicts": ("claims", "verdicts", "--mini", "--method", "rn"),
    "doctor": ("doctor",),
}
SCRIPT = """
import json, sys
from typer.testing import CliRunner
from vlm_gauntlet.cli.main import app
found = {}
for name, arguments in json.loads(sys.argv[1]).items():
    result = CliRunner().invoke(app, arguments, prog_name="gauntlet")
    found[name] = [result.exit_code, result.stdout, result.stderr]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One broken part of each kind, among them a method of the fast tier."""
    root = plant(tmp_path_factory.mktemp("tree"))
    methods = "vlm_gauntlet/methods"
    write(root, f"{methods}/x/card.toml", 'id = "x"\nname = "Half"\n')
    write(root, f"{methods}/ttc/method.py", "raise SystemExit(3)\n")
    write(root, f"{methods}/hd/claims.csv", "half,a\n")
    write(root, f"{methods}/tte/mini_claims.csv", "half,a\n")
    write(root, f"{methods}/tecoa/trainings.csv", "half,a\n")
    write(root, "vlm_gauntlet/fixtures/data/sources/mmcoa.toml", "title = ")
    write(root, "vlm_gauntlet/fixtures/data/reported/mmcoa.toml", "[protocol.mmcoa-clean]\ntitle = ")
    write(root, "other-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    write(root, "other-1.0.dist-info/entry_points.txt", "[vlm_gauntlet.methods]\nrn = elsewhere:RN\n")
    return root


@pytest.fixture(scope="module")
def said(tree: Path) -> dict[str, tuple[int, str, str]]:
    """What each command says: exit status, stdout, stderr."""
    made = run(tree, "-c", SCRIPT, json.dumps(COMMANDS))
    assert made.returncode == 0, made.stderr
    answers: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return {name: (code, out, err) for name, (code, out, err) in answers.items()}


def test_nothing_crashes_and_what_is_incomplete_is_not_green(said: dict[str, tuple[int, str, str]]) -> None:
    asked_for = {"the broken one", "nearly its name", "its protocol", "its claims", "its source"}
    incomplete = {"tier", "audit", "verdicts", "mini verdicts", "doctor"}
    assert {name: code for name, (code, _, _) in said.items()} == {
        name: 2 if name in asked_for else 1 if name in incomplete else 0 for name in COMMANDS
    }
    assert "Traceback" not in str(said) and "pydantic" not in str(said)


def test_the_broken_one_is_one_clear_error_where_it_is_asked_for(said: dict[str, tuple[int, str, str]]) -> None:
    lines = said["the broken one"][2].splitlines()
    assert lines[0] == "error: card that does not validate: 9 problems" and lines[1] == "    paper: is missing"
    assert [line.split(":")[0].strip() for line in lines[-3:]] == ["expected", "where", "fix"]
    assert "did you mean x?" in said["nearly its name"][2]
    for name, file in (("its protocol", "reported/mmcoa.toml"), ("its source", "sources/mmcoa.toml"),
                       ("its claims", "hd/claims.csv")):  # fmt: skip
        assert file in said[name][2] and "left out" not in said[name][2], "one error, and nothing beside it"


def test_elsewhere_it_is_listed_once(said: dict[str, tuple[int, str, str]]) -> None:
    listed = said["methods"][1]
    for line in ("unusable: x: card that does not", "unusable: ttc: 0 defences in method", "unusable: rn (entry point"):
        assert listed.count(line) == 1
    assert said["methods"][2] == ""
    records = {r["id"]: r for r in json.loads(said["methods --json"][1])}
    assert records["rn"]["unusable"] == ""
    assert "rename the entry point" in records["rn (entry point elsewhere:RN of other)"]["unusable"]
    assert records["x"]["name"] is None and "9 problems" in records["x"]["unusable"]
    for name in ("tier", "another", "board"):
        err = said[name][2]
        for lost in ("method 'x'", "method 'ttc'", "method 'rn (entry point"):
            assert err.count(f"left out: {lost}") == 1, name
    assert "not run: ttc, which the tier asks for" in said["tier"][1] and "6 outcomes" in said["tier"][1]
    for lost in ("source 'mmcoa'", "family of reported protocols 'mmcoa'", "claims file 'hd'"):
        for name in ("audit", "verdicts", "claims", "board"):
            assert said[name][2].count(f"left out: {lost}") == 1, (name, lost)
    assert "left out: trainings sheet 'tecoa'" in said["verdicts"][2]
    assert "left out: mini claims file 'tte'" in said["mini verdicts"][2]
    assert "incomplete: 4 parts" in said["verdicts"][2] and "incomplete: 1 parts" in said["mini verdicts"][2]


def test_the_doctor_names_them_all_and_the_pages_say_so(tree: Path, said: dict[str, tuple[int, str, str]]) -> None:
    report = said["doctor"][1]
    for where in ("x/card.toml", "ttc/method.py, line 1", "elsewhere:RN", "hd/claims.csv", "tte/mini_claims.csv",
                  "tecoa/trainings.csv", "sources/mmcoa.toml", "reported/mmcoa.toml"):  # fmt: skip
        assert report.count(f"{where}") >= 1, where
    assert "8 cannot be used" in report and "tecoa on miniclip-vit" in report
    for page in ("index.html", "audit.html", "claims/index.html"):
        text = (tree / "site" / page).read_text()
        assert "Incomplete" in text and "<code>hd</code>" in text and "entry point" not in text
        assert str(tree) not in text, "no path of this machine on a page"


def test_the_suites_collect_and_fail_for_what_is_ours(tree: Path) -> None:
    made = run(tree, "-m", "pytest", "vlm_gauntlet/suites", "-m", "fast", "-n", "0", "-q", "-rf", "--tb=no", "-k",
               "test_parts or (test_method_conforms and (ttc or rn)) or (test_cell and rn and clean)")  # fmt: skip
    failed = sorted(line.partition("[")[2].partition("]")[0] for line in made.stdout.splitlines() if "FAILED" in line)
    assert failed == ["fixtures.reported", "fixtures.sources", "leaderboard.trainings", "methods.claims",
                      "methods.registry", "suites.mini_claims", "ttc"], made.stdout  # fmt: skip
    assert " 8 passed" in made.stdout, (
        "rn conforms, its two clean cells run, and attacks, protocols, tiers, responses and what is installed are whole"
    )


def test_the_project_itself_was_not_touched() -> None:
    assert (ROOT / "methods" / "ttc" / "method.py").read_text().startswith('"""TTC')
    assert not (ROOT / "methods" / "x").exists()
