"""Retrieval on the board: which outcomes count, what their numbers are, and where they are shown."""

import csv
import io
import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.cli.main import app
from vlm_gauntlet.leaderboard import retrieval_evidence
from vlm_gauntlet.leaderboard.retrieval import RetrievalRow, retrieval_tables
from vlm_gauntlet.leaderboard.retrieval_page import retrieval_latex, retrieval_text
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.statistics import wilson
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.recall import DEFINITIONS, KS
from vlm_gauntlet.suites.retrieval_records import RetrievalJournal, RetrievalOutcome

from .factory import outcome, retrieved


@pytest.fixture(autouse=True)
def no_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of claims have nothing to do with retrieval and take seconds; the whole site is tested elsewhere."""
    monkeypatch.setattr("vlm_gauntlet.leaderboard.site.write_claim_pages", lambda *_: None)


def only(*outcomes: RetrievalOutcome) -> RetrievalRow:
    ((row,),) = retrieval_tables(outcomes).values()
    return row


def test_numbers_are_those_of_the_ranks() -> None:
    to_text, to_image = only(retrieved(clean=(0, 0, 4, 7), attacked=(9, 0, 4, 12))).directions
    assert (to_text.name, to_text.n, to_image.name, to_image.n) == ("image to text", 4, "text to image", 8)
    one, five, ten = to_text.recalls
    assert (one.clean, one.attacked, one.drop, one.lost) == (wilson(2, 4), wilson(1, 4), 1 / 4, wilson(1, 2))
    assert (five.clean, five.attacked, five.drop, five.lost) == (wilson(3, 4), wilson(2, 4), 1 / 4, wilson(1, 3))
    assert (ten.clean, ten.attacked, ten.drop, ten.lost) == (wilson(4, 4), wilson(3, 4), 1 / 4, wilson(1, 4))
    assert to_image.recalls[1].lost == wilson(2, 6)


@pytest.mark.parametrize("n", [7, 49, 193])
def test_counts_survive_the_way_over_fractions(n: int) -> None:
    made = retrieved(clean=(0,) * n, attacked=tuple(11 * (i % 3 == 0) for i in range(n)))
    for way, ranks in zip(only(made).directions, (made.image_to_text, made.text_to_image), strict=True):
        for found in way.recalls:
            assert found.lost and found.lost.value == ranks.lost(found.k) and found.lost.n == ranks.n
            assert found.attacked.value == ranks.attacked_recall(found.k)


def test_nothing_right_before_has_no_loss() -> None:
    first = only(retrieved(clean=(1, 2), attacked=(0, 2))).directions[0].recalls[0]
    assert first.lost is None and first.drop == -1 / 2


def test_the_newest_code_counts_and_of_it_the_largest_limit() -> None:
    old = retrieved(clean=(0,) * 9, attacked=(1,) * 9, code="old", age_days=3)
    small, large = retrieved(clean=(0, 0), attacked=(0, 0)), retrieved(age_days=1)
    for order in ([old, small, large], [large, small, old]):
        row = only(*order)
        assert row.outcome == large and row.left_out == 2


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"attack": "sep"}, {"method": "undefended"}, {"text": WordSwap(source="characters", budget=2)}],
)
def test_another_setting_is_another_row(other: dict[str, object]) -> None:
    ((one, two),) = retrieval_tables([retrieved(), retrieved(**other)]).values()  # type: ignore[arg-type]
    assert one.left_out == two.left_out == 0 and one.outcome != two.outcome


def test_a_table_is_a_backbone_a_data_set_and_an_eps_with_the_control_first() -> None:
    made = [retrieved(method="aom"), retrieved(method="undefended"), retrieved(eps=Fraction(1, 255)),
            retrieved(backbone="other"), retrieved(dataset="others")]  # fmt: skip
    tables = retrieval_tables(made)
    assert len(tables) == 4
    assert [r.outcome.cell.method for r in tables["tiny", "captions", Fraction(2, 255)]] == ["undefended", "aom"]


def test_the_command_asks_for_the_same_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line makes of the printed command is the cell that was run."""
    made = retrieved(method="tecoa", text=WordSwap(source="masked-lm", index_shift="corrected", budget=3), seed=5)
    asked: list[object] = []

    def note(setting: object, *_: object, **__: object) -> RetrievalOutcome:
        asked.append(setting)
        return made

    monkeypatch.setattr("vlm_gauntlet.suites.retrieval.run_retrieval", note)
    row = only(made)
    program, *arguments = row.command.split()
    assert program == "gauntlet" and CliRunner().invoke(app, arguments).exit_code == 0
    (setting,) = asked
    fields = ("method", "backbone", "dataset", "attack", "eps", "text", "limit", "seed")
    assert all(getattr(setting, name) == getattr(made.cell, name) for name in fields)
    assert row.without_option == ()
    assert only(retrieved(text=WordSwap(source="characters", candidates=3))).without_option == ("candidates = 3",)


def test_the_page_shows_and_defines_everything(tmp_path: Path) -> None:
    made = [retrieved(), retrieved(method="elsewhere", attack="co-attack"), retrieved(code="old", age_days=2)]
    site = build_site([outcome("10")], tmp_path / "site", retrieval=made).parent
    text = (site / "retrieval.html").read_text()
    plain = " ".join(re.sub("<[^>]+>", " ", text).replace("&nbsp;", " ").replace("&#39;", "'").split())
    assert all(meaning in plain for meaning in DEFINITIONS.values())
    assert "white-box" in plain and "every image and every caption, also one wrong before" in plain
    assert all(f"R@{k} {part}" in plain for k in KS for part in ("clean", "attacked", "drop", "lost"))
    for part in ("50.0 [15.0, 85.0]", "4 images", "8 captions", "5 of 8 captions changed", "characters, 1 word"):
        assert part in plain
    assert made[0].key in plain and only(made[0]).command in plain and "1 outcome of other code" in plain
    assert 'href="methods/tecoa.html"' in text and "methods/elsewhere.html" not in text
    for o in made:
        kept = (site / "retrieval" / f"{o.key}.json").read_bytes()
        assert RetrievalOutcome.model_validate_json(kept) == o


def test_without_retrieval_no_page_speaks_of_it(tmp_path: Path) -> None:
    site = build_site([outcome("10")], tmp_path / "site").parent
    assert not list(site.glob("retrieval*")) and "retrieval" not in (site / "index.html").read_text().lower()


def test_retrieval_alone_is_a_board(tmp_path: Path) -> None:
    text = build_site([], tmp_path / "site", retrieval=[retrieved()]).read_text()
    assert "from 1 outcome." in text
    assert "No classification so far" in text and "Only controls so far" not in text


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    site = build_site([], tmp_path / "site", retrieval=[retrieved(), retrieved((1, 2), (0, 2), attack="sep")]).parent
    lines = list(csv.DictReader(io.StringIO((site / "retrieval.csv").read_text())))
    objects = json.loads((site / "retrieval.json").read_text())
    assert len(lines) == len(objects) == 2 * 2 * len(KS)
    for line, found in zip(lines, objects, strict=True):
        assert line == {key: "" if value is None else str(value) for key, value in found.items()}
    none = next(o for o in objects if o["attack"] == "sep" and o["k"] == 1)
    assert (none["lost"], none["lost_low"], none["drop"], none["eps"]) == (None, None, -0.5, "2/255")


def test_text_and_latex_tables() -> None:
    made = [retrieved(), retrieved((1, 2), (0, 2), attack="sep", dataset="a_set")]
    text = retrieval_text(made)
    assert "tiny · captions · L∞, ε = 2/255" in text and "50.0 → 25.0" in text and "text to image" in text
    assert all(meaning in text for meaning in DEFINITIONS.values())
    latex = retrieval_latex(made)
    assert latex.count(r"\begin{") == latex.count(r"\end{") == 4 and r"a\_set" in latex
    assert not set("→–∞ε") & set(latex)
    assert retrieval_text([]) == retrieval_latex([]) == ""


def test_the_command_reads_both_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval_evidence, "retrieval_doubts", lambda *_: [])  # of ranks that nobody ran

    def board(*more: str) -> str:
        run = CliRunner().invoke(app, ["board", "--outcomes", str(tmp_path / "o"), *more])
        return run.output if run.exit_code == 0 else f"failed: {run.output}"

    assert board("--text").startswith("failed: ")
    RetrievalJournal(tmp_path / "o").write(retrieved())
    assert "image-text retrieval" in board("--text") and "no outcomes" not in board("--text")
    Journal(tmp_path / "o").write(outcome("10", "clean"))
    assert "worst case" in board("--text") and "image-text retrieval" in board("--text")
    assert "2 outcomes ->" in board("--out", str(tmp_path / "site"))
    assert (tmp_path / "site" / "retrieval.html").is_file()
    alien = tmp_path / "o" / "retrieval" / "alien.json"
    alien.write_text(outcome("10").model_dump_json())
    told = board("--out", str(tmp_path / "site"))
    assert "set aside: alien.json: a retrieval outcome that does not validate" in told and "2 outcomes ->" in told
    assert (tmp_path / "site" / "retrieval.html").is_file()
