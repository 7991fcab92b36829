"""An author's answer: parsed strictly, shown as text beside the verdict, and without power over it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard.paper_pages import paths
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.verdicts import verdicts
from vlm_gauntlet.methods import responses
from vlm_gauntlet.methods.claims import claims

from .factory import outcome

ASKED = next(claim for claim in claims() if claim.method == "ttc" and claim.source == "doc")
FIELDS = {
    "claims": f'["{ASKED.id}"]', "author": '"A. <b>Author</b>"', "role": '"first author"', "date": "2026-01-31",
    "text": '"<script>alert(1)</script> holds with 10 restarts"',
}  # fmt: skip


def written(path: Path, **changed: str) -> Path:
    path.write_text("".join(f"{name} = {value}\n" for name, value in (FIELDS | changed).items() if value))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(responses, "FOLDER", tmp_path)
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    responses.parts.cache_clear()
    responses._by_claim.cache_clear()


@pytest.mark.parametrize(
    ("name", "value"),
    [("claims", '["no/such/claim"]'), ("claims", "[]"), ("author", '""'), ("author", ""), ("text", ""), ("date", "1"),
     ("date", '"2026-01-31"'), ("text", "3"), ("verdict", '"reproduced"')],
)  # fmt: skip
def test_what_is_not_a_response_is_refused(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(GauntletError):
        responses.read_response(written(tmp_path / "a.toml", **{name: value}))


def test_it_is_text_beside_the_verdict_and_changes_none(folder: Path) -> None:
    made = [outcome("1100", method="ttc")]
    before = verdicts(claims(), made)
    written(folder / "a.toml")
    assert [one.role for one in responses.responses_to(ASKED.id)] == ["first author"]
    assert verdicts(claims(), made) == before
    site = build_site(made, folder / "site").parent
    for page in ("claims/ttc.html", paths()[ASKED.source, ASKED.table]):
        text = (site / page).read_text()
        assert text.count("<script") == 1 and "&lt;script&gt;alert(1)" in text, page
        assert "A. &lt;b&gt;Author&lt;/b&gt;, first author, 2026-01-31" in text
    assert "1 response so far" in (site / "submit.html").read_text()


def test_a_broken_one_is_named_and_stops_nothing(folder: Path) -> None:
    written(folder / "torn.toml", date="")
    site = build_site([outcome("11")], folder / "site").parent
    assert "torn" in (site / "index.html").read_text() and "No response so far" in (site / "submit.html").read_text()


def test_the_example_of_the_page_is_a_response(folder: Path) -> None:
    text = (build_site([outcome("11")], folder / "site").parent / "submit.html").read_text()
    (example,) = re.findall(r'aria-label="A response" data-copy><code>(.*?)</code>', text, re.S)
    example = example.replace("&#34;", '"').replace("&#39;", "'").replace("&amp;", "&")
    (folder / "example.toml").write_text(example)
    assert responses.read_response(folder / "example.toml").author == "A. Author"
