import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.cell_pages import cell_link, page_of
from vlm_gauntlet.leaderboard.site import MARKER, build_site, environment
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome

from .factory import MADE, fired, outcome, retrieved

TRANSFER, PGD = "pgd-10-transfer-linf-1-255", "pgd-10-white-box-linf-1-255"
APGD, ADAPTIVE = "apgd-ce-white-box-linf-1-255", "pgd-20-adaptive-linf-1-255"
SCRIPT = "evil:<script>alert(1)</script>&\"'"
VOID = {"meta", "link", "br", "img", "hr", "input"}


def board() -> list[Outcome]:
    masked = fired("dead-gradient")
    return [
        outcome("0" * 8, PGD, method="undefended"),
        outcome("1" * 8, "pgd-10-white-box-linf-0", method="undefended"),
        outcome("11110000", PGD),
        outcome("11000000", APGD),
        outcome("11111100", TRANSFER, method="ttc", passes=5),
        outcome("11111000", PGD, method="ttc", indicators=[masked], passes=5),
        outcome("10000000", ADAPTIVE, method="ttc", passes=5),
        outcome("11111110", PGD, method="clipure_cos+as_coded", indicators=[masked]),
        outcome("11111111", TRANSFER, method="my_pkg.mod:Mine"),
        outcome("1111", PGD, method="aom"),
        outcome("11111111", APGD, method="aom"),
        outcome("11111111", PGD, method=SCRIPT, dataset="a/../<b>"),
        outcome("1" * 8, "clean", method="tecoa", dataset="other"),
    ]


def found_again() -> list[RetrievalOutcome]:
    """Retrieval: of methods with and without a page of their own, in two tables."""
    return [
        retrieved(method="undefended"),
        retrieved(),
        retrieved(attack="sep", attacked=(0, 0, 4, 7)),
        retrieved(clean=(11, 12), attacked=(0, 30), method="only_here", backbone="miniclip-cnn"),
        retrieved(method=SCRIPT, attack="<i>", dataset="a/../<b>"),
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("board") / "site"
    return build_site(board(), out, retrieval=found_again(), made=MADE).parent


class Page(HTMLParser):
    """Checks nesting; collects ids, links, resources and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.resources: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if identity := found.get("id"):
            self.ids.append(identity)
        if tag == "a":
            self.links.append(found["href"] or "")
        self.resources += [value or "" for key, value in attrs if key == "src" or (tag == "link" and key == "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


@cache
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}


def test_every_page_is_well_formed(site: Path) -> None:
    found = pages(site)
    reported = {"claims", "papers", "audit.html", "cells", "attacks", "protocols", "backbones", "datasets"}
    assert len([p for p in found if not reported & {*p.parts}]) == 1 + 7 + 9 + 2
    assert {"shapes.html", "other.html", "cifar10.html"} < {p.name for p in found if p.parent.name == "datasets"}
    assert len([p for p in found if "claims" in p.parts]) > 50
    assert len([p for p in found if "cells" in p.parts]) == len({page_of(o.cell) for o in board()})
    for path, page in found.items():
        assert len(page.ids) == len(set(page.ids)), path
        labels = [v for _, a in page.tags for k in ("aria-labelledby",) for v in (a.get(k) or "").split()]
        assert set(labels) <= set(page.ids), path
        assert ("html", {"lang": "en"}) in page.tags
        assert [t for t, _ in page.tags].count("h1") == 1


def test_internal_links_lead_somewhere(site: Path) -> None:
    for path, page in pages(site).items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file() and target.is_relative_to(site), f"{path.name}: {link}"
            if parts.fragment:
                assert parts.fragment in pages(site)[target].ids, f"{path.name}: {link}"


def test_every_page_leads_to_retrieval(site: Path) -> None:
    for path, page in pages(site).items():
        assert site / "retrieval.html" in {
            (path.parent / unquote(urlsplit(link).path)).resolve() for link in page.links
        }


def test_nothing_is_loaded_from_elsewhere_and_one_local_script_runs(site: Path) -> None:
    for path, page in pages(site).items():
        assert all(not urlsplit(r).scheme and not r.startswith("//") for r in page.resources), path
        assert not [t for t, _ in page.tags if t in ("iframe", "object", "style", "img")], path
        (script,) = [a for t, a in page.tags if t == "script"]
        assert (path.parent / (script["src"] or "")).resolve() == site / "site.js", path
        (policy,) = [a["content"] or "" for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
        assert not [k for _, a in page.tags for k in a if k.startswith("on") or k == "style"], path
    script = (site / "site.js").read_text()
    assert "http" not in script and not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(|fetch\(", script)
    assert "http" not in (site / "style.css").read_text() and "@import" not in (site / "style.css").read_text()


def test_tables_are_accessible(site: Path) -> None:
    for path, page in pages(site).items():
        tags = [t for t, _ in page.tags]
        assert tags.count("table") == tags.count("caption"), path
        assert all(a.get("scope") in ("col", "row", "rowgroup") for t, a in page.tags if t == "th"), path
        boxes = [a for t, a in page.tags if t == "div" and a.get("class") == "scroll"]
        assert len(boxes) == tags.count("table"), path
        assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in boxes), path


def test_escaping_is_really_on(site: Path) -> None:
    assert environment().from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"
    texts = [p.read_text() for p in site.rglob("*.html")]
    assert any("&lt;script&gt;alert(1)" in t for t in texts)
    assert all(t.count("<script") == 1 for t in texts), "that of the site, which is the same on every page"


def test_file_names_are_safe_and_distinct(site: Path) -> None:
    names = [p.name for folder in ("methods", "datasets") for p in (site / folder).iterdir()]
    assert all(re.fullmatch(r"[A-Za-z0-9_=+-]+\.html", name) for name in names)
    assert len(list((site / "methods").iterdir())) == len({o.cell.method for o in board()})


def row_of(site: Path, method: str) -> str:
    text = (site / "datasets" / "shapes.html").read_text()
    return next(r for r in re.findall(r"<tr.*?</tr>", text, re.S) if f'class="sub">{method}' in r)


def test_marks_are_words_as_well_as_colours(site: Path) -> None:
    assert "masked" in row_of(site, "clipure_cos") and 'class="unranked"' in row_of(site, "clipure_cos")
    assert "transfer only" in row_of(site, "my_pkg.mod:Mine") and "not ranked" in row_of(site, "my_pkg.mod:Mine")
    answered = row_of(site, "ttc")
    assert "· control" in row_of(site, "undefended") and "5 + 0" in answered
    assert "◌" not in answered and "dead-gradient" in answered and "12.5" in answered
    assert "--limit" in row_of(site, "aom")


def test_method_page_tells_everything(site: Path) -> None:
    text = (site / "methods" / "tecoa.html").read_text()
    for o in (o for o in board() if o.cell.method == "tecoa"):
        assert f'href="../{cell_link(o)}"' in text
        own = (site / page_of(o.cell)).read_text()
        assert f"gauntlet run --method tecoa --backbone tiny --dataset {o.cell.dataset} " in own
        for part in (o.key, o.bits_digest, o.cell.protocol.digest, o.cell.protocol.title.replace("'", "&#39;")):
            assert part in own
    assert "Zero-Shot Adversarial Robustness" in text
    deviating = (site / "methods" / "clipure_cos+as_coded.html").read_text()
    assert "Where paper and code differ" in deviating and "(what the official code does)" in deviating
    assert "not registered" in (site / "methods" / next(
        p.name for p in (site / "methods").iterdir() if p.name.startswith("my_pkg"))).read_text()  # fmt: skip


def test_method_page_tells_costs_of_defence_and_attack_apart(site: Path) -> None:
    text = (site / "methods" / "ttc.html").read_text()
    card = method("ttc").card
    assert card.cost and card.attack_cost
    for cost in (card.cost, card.attack_cost):
        assert f"<dd>{cost.forward} forward and {cost.backward} backward passes an image" in text
    for timing in card.timings:
        told = f"{timing.defence_ms:g} ms an image to predict, {timing.attack_ms:g} ms for an attacker’s gradient"
        assert f"<dt>Time on {timing.backbone}</dt><dd>{told}; {timing.device}, " in text
    stranger = next(p for p in (site / "methods").iterdir() if p.name.startswith("my_pkg")).read_text()
    assert " ms an image" not in stranger


def test_raw_outcomes_are_beside(site: Path) -> None:
    for o in board():
        assert Outcome.model_validate_json((site / "outcomes" / f"{o.key}.json").read_bytes()) == o
    assert (
        len(json.loads((site / "results.json").read_text())) == len((site / "results.csv").read_text().splitlines()) - 1
    )


def test_same_outcomes_same_bytes(site: Path, tmp_path: Path) -> None:
    shuffled = list(reversed(found_again()))
    again = build_site(list(reversed(board())), tmp_path / "again", retrieval=shuffled, made=MADE).parent
    assert {p.relative_to(site): p.read_bytes() for p in site.rglob("*") if p.is_file()} == {
        p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()
    }


def test_no_outcomes_no_board(tmp_path: Path) -> None:
    with pytest.raises(GauntletError, match="pytest suites/"):
        build_site([], tmp_path / "site")
    assert list(tmp_path.iterdir()) == []


def test_controls_alone_are_a_board(tmp_path: Path) -> None:
    Page(text := build_site([outcome("11", "pgd-10-white-box-linf-0")], tmp_path / "site").read_text())
    assert "Only controls so far" in text


def test_the_chart_is_an_element_of_the_page(site: Path) -> None:
    text = (site / "index.html").read_text()
    (drawn,) = re.findall(r'<svg[^>]*class="chart".*?</svg>', text, re.S)
    assert "undefended (1)" in drawn and "ttc (5)" in drawn and "clipure_cos" not in drawn
    assert not re.search(r"#[0-9a-f]{6}\b|style=|<\?xml|<metadata|href=\"http", drawn)
    assert set(re.findall(r"url\(#([^)]+)\)", drawn)) <= set(re.findall(r'id="([^"]+)"', drawn))


def test_names_in_a_chart_are_escaped(tmp_path: Path) -> None:
    knowing = outcome("10", "pgd-20-adaptive-linf-1-255", method="<b>&$x$")
    text = build_site([knowing, outcome("11")], tmp_path / "site").read_text()
    assert "&lt;b&gt;&amp;$x$ (1)" in text and "<b>&" not in text


@pytest.mark.parametrize("backbone, small", [("miniclip-vit", True), ("ViT-B-32", False)])
def test_the_banner_says_what_was_not_run(tmp_path: Path, backbone: str, small: bool) -> None:
    text = build_site([outcome("10", backbone=backbone)], tmp_path / "site").read_text()
    assert 'id="direction-h"' in (tmp_path / "site" / "claims" / "index.html").read_text()
    link, badge = 'href="claims/index.html#direction-h"', "toy backbone: direction, not size"
    for said in (link, badge, "not those of the papers", "No cell on a full-size CLIP was run", 'id="board-toy"'):
        assert (said in text) is small


def test_a_site_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "site"
    out.mkdir()
    build_site([outcome("10", method="gone")], out)
    build_site([outcome("10")], out)
    assert [p.name for p in (out / "methods").iterdir()] == ["tecoa.html"]
    assert (out / MARKER).is_file() and [p.name for p in tmp_path.iterdir()] == ["site"]


def test_a_name_in_a_record_runs_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    build_site([outcome("10", method=f"{trap}:Mine")], tmp_path / "site")
    assert not (tmp_path / "sprung").exists()


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.tex").write_text("years of work")
    for target in (out, out / "chapter.tex"):
        with pytest.raises(GauntletError, match="nothing was changed"):
            build_site([outcome("10")], target)
    assert [p.name for p in out.iterdir()] == ["chapter.tex"]


def test_a_failed_build_leaves_the_old_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "site"
    before = build_site([outcome("10")], out).read_bytes()

    def fails(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("vlm_gauntlet.leaderboard.site.to_latex", fails)
    with pytest.raises(GauntletError, match="disk full"):
        build_site([outcome("11")], out)
    assert (out / "index.html").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["site"]


def test_many_draws_and_a_new_maker_are_shown(tmp_path: Path) -> None:
    made = outcome("99", draws=12, clean="99")
    told = made.model_copy(update={"provenance": made.provenance.model_copy(update={"maker": "authors"})})
    out = build_site([told], tmp_path / "site").parent
    assert "authors; not verified" in (out / "datasets" / "shapes.html").read_text()
    assert "run by the method&#39;s authors" in (out / "cells" / "tecoa" / "tiny" / "shapes.html").read_text()
