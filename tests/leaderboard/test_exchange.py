"""Exports in the field's formats: they parse, they say what the rows say, and names stay text."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.leaderboard import exchange
from vlm_gauntlet.leaderboard.deposit import write_deposit
from vlm_gauntlet.leaderboard.exports import to_latex
from vlm_gauntlet.leaderboard.rows import card_of, rows
from vlm_gauntlet.leaderboard.verdicts import Verdict
from vlm_gauntlet.methods.claims import claims

from .factory import fired, outcome

ADAPTIVE = "pgd-20-evasion-adaptive-linf-1-255"
EVIL = 'a: "b" # {x}\\textbf{y}\ue000'
OUTCOMES = [outcome("1100"), outcome("1000", ADAPTIVE, method="ttc"), outcome("11", method=EVIL)]


def test_badges_count_what_holds() -> None:
    asked = [c for c in claims() if c.method == "ttc"][:4]
    words = ("reproduced", "reproduced", "below claim", "not run")
    judged = {c.id: Verdict(c.id, word, "why") for c, word in zip(asked, words, strict=True)}  # type: ignore[arg-type]
    made = {name: json.loads(text) for name, text in exchange.badges(rows(OUTCOMES), judged, asked).items()}
    assert made["ttc-reproduced.json"] == {
        "schemaVersion": 1, "label": "reproduced", "message": "2/3", "color": "yellow",
    }  # fmt: skip
    assert made["ttc-adaptive.json"]["message"] == "25.0 %" and "tecoa-adaptive.json" not in made


def test_yaml_is_what_it_was_made_of() -> None:
    value = {"a": [{"b": {"c": EVIL}, "d": []}, {"e": [1, [2.5, None]]}], "f": {}, "g": "", "h": True}
    assert yaml.safe_load(exchange.yaml(value)) == value


def test_the_hub_and_codecheck_read_theirs() -> None:
    (entry,) = yaml.safe_load(exchange.eval_results(OUTCOMES)["ttc.yaml"])
    assert entry["value"] == 25.0 and entry["dataset"]["task_id"] == ADAPTIVE and entry["date"] == "2026-01-02"
    asked = [c for c in claims() if c.method == "ttc"][:2]
    judged = {asked[0].id: Verdict(asked[0].id, "reproduced", "R."), asked[1].id: Verdict(asked[1].id, "not run", "")}
    card = card_of("ttc")
    assert card is not None
    found = yaml.safe_load(exchange.codecheck(card, asked, judged))
    assert [line["comment"] for line in found["manifest"]] == [f"{asked[0].id}: {asked[0].value}; reproduced. R."]
    assert found["paper"]["title"] == card.paper and found["summary"] == "1 reproduced"


def test_codecheck_keeps_the_rules_that_a_program_can_keep() -> None:
    """Ids of `rules-2.0.yml` of codecheckers/register, for configuration 2.0."""
    asked = [c for c in claims() if c.method == "ttc"][:3]
    judged = {c.id: Verdict(c.id, "below claim", "B.") for c in asked}
    card = card_of("ttc")
    assert card is not None
    text = exchange.codecheck(card, asked, judged)
    (found,) = yaml.safe_load_all(text)  # CC-CFG-001
    assert text.startswith("---\n")  # 002
    assert len(found["manifest"]) == 3 and all(line["file"] and line["comment"] for line in found["manifest"])  # 004-7
    assert not any(line["file"].startswith("/") or ":" in line["file"] for line in found["manifest"])  # 006
    assert found["codechecker"] and all(one["name"] for one in found["codechecker"])  # 008, 009
    assert found["version"].endswith("/spec/config/2.0/") and found["summary"]  # 014, 015, 024
    assert found["paper"]["title"] and all(one["name"] for one in found["paper"]["authors"])  # 016 to 019
    assert found["paper"]["reference"].startswith("https://")  # 021, 027
    assert not any(word in text for word in ("FIXME", "TODO", "XXXXX"))  # 023
    assert not {"certificate", "report"} & found.keys() and "ORCID" not in text, "nobody signed anything"


def test_every_eval_ever_names_each_cell_and_its_file() -> None:
    made = exchange.every_eval_ever(OUTCOMES)
    assert len(made) == 3
    record = json.loads(made["ttc-tiny.json"])
    (result,) = record["evaluation_results"]
    assert result["score_details"]["score"] == 0.25 and result["score_details"]["uncertainty"]["num_samples"] == 4
    own = result["detailed_evaluation_results"]
    assert own["checksum"] == sha256((OUTCOMES[1].model_dump_json(indent=1) + "\n").encode()) and own["total_rows"] == 4
    assert record["source_metadata"]["evaluator_relationship"] == "other", "nobody says who ran it"


def test_the_best_that_ranks_is_bold_and_the_masked_bears_a_dagger() -> None:
    masked = outcome("1100", method="rn", indicators=[fired("dead-gradient")])
    lines = to_latex(rows([outcome("1100"), outcome("1000", method="fare+x=\ue000"), masked])).splitlines()
    bold = [line for line in lines if r"\textbf{" in line]
    assert len(bold) == 1 and bold[0].lstrip().startswith("tecoa") and r"\textbf{50.0" in bold[0]
    assert [line.split("&")[0].strip() for line in lines if "dagger" in line and "&" in line] == [r"rn$^\dagger$"]
    assert all(line.count("{") == line.count("}") for line in lines)


def test_a_deposit_checks_itself(tmp_path: Path) -> None:
    write_deposit(tmp_path / "archive", OUTCOMES[:2], {"results.csv": "a\n"})
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path / "archive", capture_output=True, check=False).returncode == 0
    listed = {line.split("  ")[1] for line in (tmp_path / "archive" / "SHA256SUMS").read_text().splitlines()}
    assert listed == {".zenodo.json", "results.csv", *(f"outcomes/{o.key}.json" for o in OUTCOMES[:2])}
    about = json.loads((tmp_path / "archive" / ".zenodo.json").read_text())
    assert about["publication_date"] == "2026-01-02" and about["upload_type"] == "dataset"
    (tmp_path / "archive" / "results.csv").write_text("b\n")
    assert subprocess.run(check, cwd=tmp_path / "archive", capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("arguments", [("results", "test"), ("export", "--to", "csv", "--outcomes")])
def test_what_cannot_rank_is_said(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text("{")
    (tmp_path / "theirs.json").write_text(OUTCOMES[0].model_dump_json())
    said = CliRunner().invoke(app, [*arguments, str(tmp_path)])
    assert said.exit_code == (1 if arguments[0] == "results" else 2)
    if arguments[0] == "results":
        assert "half.json" in said.stdout and "theirs.json" in said.stdout and "0 sound, 2 not" in said.stdout


def test_the_hub_s_own_package_reads_its_yaml() -> None:
    from huggingface_hub import parse_eval_result_entries

    found = parse_eval_result_entries(yaml.safe_load(exchange.eval_results(OUTCOMES)["ttc.yaml"]))
    assert [(one.dataset_id, one.task_id, one.value) for one in found] == [("shapes", ADAPTIVE, 25.0)]
