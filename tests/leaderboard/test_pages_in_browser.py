"""The pages in a real browser: the additions of the script, the policy, and what axe finds on every kind of page."""

import os
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.leaderboard.formatting import file_name
from vlm_gauntlet.leaderboard.places import backbone_page
from vlm_gauntlet.leaderboard.site import build_site

from .factory import MADE, fired, outcome, retrieved
from .test_site import SCRIPT

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LACKING = [
    *(["no chromium"] if BROWSER is None else []),
    *(f"no package {name}" for name in ("playwright", "axe_playwright_python") if find_spec(name) is None),
]
if LACKING and os.environ.get("CI") != "true":
    pytest.skip(f"{', '.join(LACKING)} on this machine", allow_module_level=True)

CLIP = "open_clip:ViT-B-32-quickgelu/openai"
TRANSFER, PGD, ADAPTIVE = (f"pgd-{a}-linf-1-255" for a in ("10-transfer", "10-white-box", "20-adaptive"))
STANDS = {"undefended": 0, "tecoa": 12, "fare": 9, "ttc": 3, "c_avp": 11, SCRIPT: 16}
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
CELLS = f"cells/ttc/{file_name(CLIP)}/stl10.html"
# One page of each kind; claims of a method with few.
KINDS = (
    "index.html", "suite-ttc-16.html", "nights.html",
    "methods/ttc.html", "methods/undefended.html", "datasets/stl10.html",
    "datasets/a_data_set_of_many_words.html", "claims/index.html", "claims/apt_v.html", "audit.html", "optimality.html",
    "series.html", "findings.html", "cheating.html", "submit.html", "retrieval.html",
    "papers/doc/table-1.html", "reproduction.html",
    CELLS,
    "reference.html", "taxonomy.html", "datasets/cifar10.html", "datasets/digits.html", "attacks/pgd.html",
    "attacks/rays.html", "protocols/pgd-10.html", "protocols/clean.html", "protocols/reported/ttc.html",
    "backbones/miniclip-vit.html", backbone_page(CLIP),
)  # fmt: skip

COLOURED = (
    "index.html",
    "methods/ttc.html",
    "papers/doc/table-1.html",
    "reproduction.html",
    CELLS,
    "protocols/reported/ttc.html",
)  # every colour there is


def leaderboard() -> list[Any]:
    made = []
    for method, left in STANDS.items():
        for dataset in ("cifar10", "stl10"):
            bits = "1" * left + "0" * (20 - left)
            place = {"method": method, "backbone": CLIP, "dataset": dataset, "passes": 5 if method == "ttc" else 1}
            masked = [fired("dead-gradient")] if method == "c_avp" else []
            made.append(outcome(bits, PGD, indicators=masked, **place))  # type: ignore[arg-type]
            made.append(outcome("1" * 16 + "0" * 4, TRANSFER, **place))  # type: ignore[arg-type]
            if method not in ("undefended", "c_avp"):
                made.append(outcome(bits, ADAPTIVE, **place))  # type: ignore[arg-type]
    toys = [outcome("1100", backbone="miniclip-vit", method=m) for m in ("undefended", "tecoa")]
    zero = outcome("1" * 4, "pgd-10-white-box-linf-0", backbone="miniclip-vit")
    curve = [outcome("1100", f"pgd-10-white-box-linf-{e}-255", backbone="miniclip-cnn") for e in (1, 4, 8)]
    long = outcome("1" * 8, method="a_package.with.a_long.path:AndALongerClassName", dataset="a_data_set_of_many_words")
    return [*made, *toys, zero, *curve, long]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found, tonight = [retrieved(method="undefended"), retrieved()], leaderboard()
    before = [*tonight, outcome("1" * 20, ADAPTIVE, method="ttc", backbone=CLIP, dataset="stl10")]
    before = [o for o in before if o.cell.method == "ttc" and o.robust_accuracy in (0.15, 1.0)]
    out = tmp_path_factory.mktemp("pages") / "site"
    return build_site(tonight, out, retrieval=found, made=MADE, previous=Evidence(sound=before)).parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert not LACKING, f"CI must have these: {LACKING}"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=[*QUIET])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, site: Path) -> Iterator[Any]:
    """The front page in a window of its own; nothing may be said on its console, and nothing asked elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    shown, said, asked = context.new_page(), [], []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto((site / "index.html").as_uri())
    yield shown
    context.close()
    assert said == []
    assert all(url.startswith(site.as_uri()) for url in asked) and asked


def names(page: Any, board: str = "#board-clip", *, body: int = 0) -> list[str]:
    rows = page.locator(f"{board} tbody").nth(body).locator("tr[data-k]:visible")
    return [row.get_attribute("data-k") for row in rows.all()]


def field(page: Any, name: str) -> Any:
    return page.locator(f'#tools label [name="{"q" if name == "search" else name}"]')


def head(page: Any, name: str) -> Any:
    return page.locator("#board-clip thead th").filter(has_text=name).first


def test_sorting_follows_the_pattern_and_works_by_keyboard(page: Any) -> None:
    ranked = [SCRIPT, "tecoa", "fare", "ttc", "undefended", "c_avp"]
    assert names(page) == ranked, "as built: by worst case, what does not rank last"
    button = head(page, "Worst case").locator("button")
    button.focus()
    page.keyboard.press("Enter")
    assert head(page, "Worst case").get_attribute("aria-sort") == "descending"
    assert names(page) == [SCRIPT, "tecoa", "c_avp", "fare", "ttc", "undefended"]
    page.keyboard.press("Space")
    assert head(page, "Worst case").get_attribute("aria-sort") == "ascending" and names(page)[0] == "undefended"
    head(page, "Method").locator("button").click()
    assert page.locator("#board-clip [aria-sort]").count() == 1 and names(page)[-1] == "ttc"
    head(page, "Claimed").locator("button").click()
    assert names(page)[-1] in (SCRIPT, "c_avp"), "what has no number is last"
    page.get_by_role("button", name="reset").click()
    assert names(page) == ranked and page.locator("[aria-sort]").count() == 0


def test_search_and_facets_leave_what_fits(page: Any) -> None:
    field(page, "search").fill("TECOA")
    assert names(page) == ["tecoa"] and page.locator("#shown").inner_text() == "5 of 12 rows"
    assert page.locator("#board-toy tr[data-k]:visible").count() == 4
    field(page, "backbone").select_option(CLIP)
    assert (
        page.locator("#shown").inner_text() == "1 of 12 rows" and page.locator("#board-toy tbody:visible").count() == 0
    )
    page.get_by_role("button", name="reset").click()
    field(page, "paradigm").select_option("training-free")
    assert names(page) == ["ttc"]
    field(page, "state").select_option("◌ masked")
    assert names(page) == [] and page.locator("#shown").inner_text() == "0 of 12 rows"
    field(page, "paradigm").select_option("")
    assert names(page) == ["c_avp"]
    field(page, "state").select_option("")
    field(page, "data set").select_option("stl10")
    sets = page.locator("details.sets").first
    assert sets.get_attribute("open") is not None
    assert sets.locator("thead th:visible").all_inner_texts() == ["Method", "stl10"]


def test_a_permalink_brings_the_same_table(page: Any, site: Path) -> None:
    field(page, "search").fill("fare")
    head(page, "Clean").locator("button").click()
    field(page, "year").select_option("2024")
    link = page.evaluate("location.href")
    assert "q=fare" in link and "sort=Clean" in link and "year=2024" in link
    page.goto("about:blank")
    page.goto(link)
    assert names(page) == ["fare"] and field(page, "search").input_value() == "fare"
    assert head(page, "Clean").get_attribute("aria-sort") == "descending"
    page.goto(
        (site / "index.html").as_uri() + "#q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&sort=constructor&paradigm=no"
    )
    assert names(page) == [] and page.locator("#tables img").count() == 0
    page.goto("about:blank")
    page.goto((site / "index.html").as_uri() + "#controls")
    assert len(names(page)) == 6, "an anchor is no state"


def test_two_to_four_methods_side_by_side(page: Any) -> None:
    boxes = page.locator("#board-clip input.pick")
    boxes.nth(0).check()
    assert page.locator("#compared").is_hidden()
    boxes.nth(1).check()
    side = page.locator("#compared table")
    assert side.locator("thead th a").all_inner_texts() == [SCRIPT, "tecoa"]
    facts = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in side.locator("tbody tr").all()
    }
    assert facts["cifar10: worst case (clean)"] == ["80.0 (100.0)", "60.0 (100.0)"]
    assert facts["Worst case"][1].startswith("60.0 [") and facts["State"] == ["✓ ranked"] * 2
    for place in (2, 3):
        boxes.nth(place).check()
    assert side.locator("thead th a").count() == 4 and boxes.nth(4).is_disabled()
    link = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(link)
    assert page.locator("#compared thead th a").count() == 4 and page.locator("#compared script").count() == 0


def test_anchors_open_single_data_sets_without_a_script(browser: Any, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((site / "index.html").as_uri())
    assert plain.locator("#tools").is_hidden() and plain.locator("table.board button").count() == 0
    plain.locator("#board-clip a", has_text="single data sets").first.click()
    assert plain.locator("table.sets").first.is_visible()
    assert plain.locator("table.board tr[data-k]:visible").count() == 12
    context.close()


def test_another_suite_is_a_link_that_keeps_the_view(page: Any, browser: Any, site: Path) -> None:
    field(page, "search").fill("fare")
    link = page.locator("#suites a", has_text="ttc-16")
    assert link.get_attribute("href").endswith("/suite-ttc-16.html#q=fare")
    link.click()
    page.wait_for_url("**/suite-ttc-16.html*")
    assert names(page) == ["fare"] and field(page, "search").input_value() == "fare"
    missing = page.locator("#board-clip .absent:visible")
    missing.locator("summary").click()
    assert "not run: caltech101, caltech256, cifar100" in missing.inner_text()
    assert page.locator("#suites [aria-current]").inner_text().startswith("ttc-16")
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((site / "index.html").as_uri())
    plain.locator("#suites a", has_text="ttc-16").click()
    assert plain.locator("#board-clip tr[data-k]").count() == 6
    context.close()


def test_the_navigation_is_one_line_and_its_menu_works_by_keyboard(page: Any) -> None:
    tops = page.eval_on_selector_all(
        "header a, header summary",
        "all => all.filter(a => a.checkVisibility()).map(a => a.getBoundingClientRect().bottom)",
    )
    assert len(tops) > 8 and max(tops) - min(tops) < 8
    page.locator(".menu summary").focus()
    page.keyboard.press("Enter")
    assert page.locator(".menu a").first.is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Optimality of attackers"
    page.keyboard.press("Escape")
    assert page.locator(".menu a").first.is_hidden()
    assert page.evaluate("document.activeElement.textContent") == "More"


# Clicks of somebody who comes with a question, from the front page.
def test_whether_a_printed_number_holds_is_three_clicks_away(page: Any) -> None:
    page.locator("#board-clip a", has_text="129 claims").click()
    page.wait_for_url("**/claims/ttc.html")
    line = page.locator("tbody tr").filter(has_text="ImageNet robust").filter(has_text="13.07").first
    assert line.locator(".chip").inner_text().strip() != "" and line.locator(".why .sub").first.inner_text() != ""


def test_the_best_cheap_defence_takes_one_choice(page: Any) -> None:
    field(page, "threat").select_option("L∞, ε = 1/255")
    column = next(
        i for i, h in enumerate(page.locator("#board-clip thead th").all_inner_texts()) if h.startswith("Cost")
    )
    rows = page.locator("#board-clip tr[data-k]:visible").all()
    found = [
        (row.get_attribute("data-k"), float(row.locator("th, td").nth(column).inner_text().rstrip("×"))) for row in rows
    ]
    assert next(name for name, passes in found if passes < 3) == SCRIPT and ("ttc", 5.0) in found


def test_what_fell_last_night_is_said_at_once_and_told_in_one_click(page: Any) -> None:
    link = page.locator(".night a[href*=nights]")
    assert link.inner_text().startswith("ttc-") and "100.0 to 15.0" in link.inner_text()
    link.click()
    page.wait_for_url("**/nights.html*")
    assert page.locator("section[aria-labelledby=changed] tbody th").first.inner_text().startswith("ttc-")


def test_the_bibtex_of_a_cell_is_three_clicks_away(page: Any) -> None:
    page.locator("#board-clip a", has_text="TTC").first.click()
    page.wait_for_url("**/methods/ttc.html")
    page.locator('a[href*="cells/ttc/"]:visible').first.click()
    page.wait_for_url("**/cells/ttc/**")
    page.locator("details.cell summary").first.click()
    assert page.locator('pre[aria-label^="BibTeX of "]').first.inner_text().startswith("@misc")


def test_bibtex_is_copied(page: Any, site: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto((site / "methods" / "ttc.html").as_uri())
    box = page.locator('pre[aria-label="BibTeX of the paper"]')
    button = box.locator("xpath=preceding-sibling::button")
    button.click()
    button.filter(has_text=re.compile("Copied|Selected")).wait_for()
    assert button.inner_text() in ("Copied", "Selected: press Ctrl+C")
    assert box.inner_text().startswith("@") and "2025" in box.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, site: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    shown, axe, found = context.new_page(), Axe(), {}
    rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
    for kind in COLOURED if scheme == "dark" else KINDS:
        shown.goto((site / kind).as_uri())
        shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        for broken in axe.run(shown, options=rules).response["violations"]:
            found[kind, broken["id"]] = [node["target"] for node in broken["nodes"]][:3]
    context.close()
    assert found == {}


@pytest.mark.parametrize("width", [390, 1280])
def test_no_column_is_cut_off_without_a_hint(browser: Any, site: Path, width: int) -> None:
    """The page itself never scrolls sideways, its details opened; a table that does lies in a box that says so."""
    context = browser.new_context(viewport={"width": width, "height": 800})
    shown = context.new_page()
    for kind in KINDS:
        shown.goto((site / kind).as_uri())
        shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        shown.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth"), kind
        silent = shown.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1"
            " && box.checkVisibility() && !box.classList.contains('more')).length"
        )
        assert silent == 0, kind
    context.close()


def test_a_printed_page_is_ink_on_paper_with_every_column(browser: Any, site: Path) -> None:
    """On A4 across, 273 mm between the margins, and from a screen that is dark."""
    context = browser.new_context(viewport={"width": 1032, "height": 800}, color_scheme="dark")
    shown = context.new_page()
    shown.emulate_media(media="print", color_scheme="dark")
    for kind in KINDS:
        shown.goto((site / kind).as_uri())
        shown.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth"), kind
        style = "(({ color, backgroundColor }) => [color, backgroundColor])(getComputedStyle(document.documentElement))"
        assert shown.evaluate(style) == ["rgb(28, 27, 25)", "rgb(255, 255, 255)"], kind
        assert shown.locator(".hint:visible, nav:visible, button:visible:not(thead button), .pick:visible").count() == 0
    context.close()
