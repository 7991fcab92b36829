"""Pages of data sets, attacks, protocols, backbones and kinds of defence: what they say is what the records hold."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.attacks.protocols import protocols
from vlm_gauntlet.attacks.registry import attacks, default_of, parameters, settable
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.natural_sets import natural_sets
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.fixtures.reported import reported_protocols
from vlm_gauntlet.fixtures.taxonomies import taxonomies
from vlm_gauntlet.leaderboard import places
from vlm_gauntlet.leaderboard.attack_facts import attack_facts, documented, in_words, with_links
from vlm_gauntlet.leaderboard.backbone_pages import backbone_facts, clean_of
from vlm_gauntlet.leaderboard.dataset_pages import claims_by_set, known_set
from vlm_gauntlet.leaderboard.protocol_pages import fields, ran_by_page, reporters
from vlm_gauntlet.leaderboard.reported_tables import tables
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.taxonomy_page import placed, repository
from vlm_gauntlet.leaderboard.verdicts import Verdict
from vlm_gauntlet.methods.claims import claims
from vlm_gauntlet.methods.listed import parts

from .factory import MADE, outcome

PGD, APGD = "pgd-10-white-box-linf-1-255", "apgd-ce-white-box-linf-1-255"
CLIP = "open_clip:ViT-B-32-quickgelu/openai"


def board() -> list[Outcome]:
    place = {"backbone": CLIP, "dataset": "cifar10"}
    return [
        outcome("11110000", PGD, **place),  # type: ignore[arg-type]
        outcome("11000000", APGD, **place),  # type: ignore[arg-type]
        outcome("10000000", PGD, method="undefended", **place),  # type: ignore[arg-type]
        outcome("1111111100000000", "clean", method="undefended", clean="1111111100000000", **place),  # type: ignore[arg-type]
        outcome("11", PGD, method="somebody:Else", dataset="a <b> set", backbone="my own"),
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(board(), tmp_path_factory.mktemp("reference") / "site", made=MADE).parent


def section(text: str, name: str) -> str:
    """The text of the section that this heading labels, without its marks."""
    (found,) = re.findall(rf'<section[^>]*aria-labelledby="{name}">(.*?)</section>', text, re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found))


def test_every_name_has_its_page_and_every_protocol_its_place(site: Path) -> None:
    texts: dict[str, str] = {}
    names = {*protocols(), *(c.protocol for c in claims()), *reported_protocols()}
    for place in map(places.protocol_page, sorted(names)):
        page, _, anchor = place.partition("#")
        text = texts.setdefault(page, (site / page).read_text())
        assert f'id="{anchor}"' in text, place
    sets = {*natural_sets(), *known_datasets().dataset, "digits", "a <b> set"}
    for place in [*map(places.dataset_page, sets), *map(places.attack_page, attacks())]:
        assert (site / place).is_file()
    for name in ("miniclip-vit", "miniclip-cnn", CLIP, "my own"):
        assert (site / places.backbone_page(name)).is_file()


def test_a_protocol_nobody_knows_has_a_place_and_makes_no_link_elsewhere() -> None:
    assert places.protocol_page("<made up>").startswith("protocols/elsewhere.html#")
    assert places.named_protocol_page("<made up>") == "" and places.named_protocol_page(PGD).endswith(f"#{PGD}")
    assert places.reported_set_page("ttc-16") == "reference.html#list-ttc-16"
    assert places.reported_set_page("nothing of the kind") == "" == places.reported_backbone_page("ResNet-18")
    assert places.reported_backbone_page("ViT-B/32") == places.backbone_page(CLIP)


def test_each_parameter_of_each_attack_stands_with_its_default() -> None:
    for name, kind in attacks().items():
        facts = attack_facts(name)
        assert {one.name: one.default for one in facts.parameters} == {
            key: in_words(default_of(kind, key)) for key in settable(kind)
        }
        assert facts.title == kind.info.title and facts.does
    silent = {one.name for name in attacks() for one in attack_facts(name).parameters if not one.says and not one.fixed}
    assert silent <= {"step_size"}, "say in the attack's docstring what it is"
    (restarts,) = [one for one in attack_facts("square").parameters if one.name == "restarts"]
    assert restarts.fixed and restarts.default == "1" and restarts.takes == "1"


def test_documentation_is_read_from_what_an_attack_is_derived_from() -> None:
    kind = attacks()["cw-pgd"]
    assert "steps" not in (kind.__doc__ or "") and documented(kind)["steps"] == "gradient steps of each restart."
    assert attack_facts("nobody:Knows").known is False and attack_facts("nobody:Knows").parameters == ()


@given(st.lists(st.sampled_from(["Croce 2020, ", "arXiv:2003.01690", "; ", "arXiv 1802.00420", "<b>", "arXiv:1"])))
def test_links_lose_no_letter(words: list[str]) -> None:
    found = with_links("".join(words))
    assert "".join(piece.text for piece in found) == "".join(words)
    assert all(piece.url == f"https://arxiv.org/abs/{piece.text[-10:]}" for piece in found if piece.url)
    joined = "".join(words)
    assert sum(bool(piece.url) for piece in found) == len(re.findall(r"arXiv[: ]\d{4}\.\d{4,5}", joined))


def test_an_attack_names_whom_it_broke_best(site: Path) -> None:
    pgd, apgd = ((site / f"attacks/{name}.html").read_text() for name in ("pgd", "apgd-ce"))
    assert "tecoa" in section(apgd, "best") and "25.0" in section(apgd, "best")
    assert "tecoa" not in section(pgd, "best") and "undefended" in section(pgd, "best")
    assert '<dt>Rows that it was run on</dt><dd><span class="value">3</span>' in pgd
    assert '<dt>Best attacker known for</dt><dd><span class="value">1</span>' in pgd
    assert "No cell of this board was attacked with it" in (site / "attacks/rays.html").read_text()


def test_a_protocol_has_every_field_and_every_cell(site: Path) -> None:
    text = (site / "protocols/pgd-10.html").read_text()
    told = dict((name, value) for name, value, _ in fields(protocols()[PGD]))
    for name in parameters(protocols()[PGD].attack):
        assert name in told and f"<code>{name}</code>" in section_html(text, "fields")
    assert told["step_size"] == "1/4 × ε" and told["random_start"] == "yes" and told["prompts"] == "dataset"
    cells = section(text, "cells")
    assert cells.count("★ best known") == 1 and "undefended" in cells and "somebody:Else" in cells
    assert protocols()[PGD].digest in text
    assert "12.5" in cells, "one of eight is left"
    reported = (site / "protocols/reported/tecoa.html").read_text()
    assert "the source does not say: pgd.steps" in reported and "steps <span" in reported


def section_html(text: str, name: str) -> str:
    return re.findall(rf'<section[^>]*aria-labelledby="{name}">(.*?)</section>', text, re.S)[0]


def test_an_outcome_stands_once_even_where_it_counts_for_two_rows() -> None:
    text = outcome("1100", "text-char-1-white-box")
    both = outcome("1000", "sga-char-1-white-box-linf-1-255")
    found = [one for theirs in ran_by_page(rows([text, both])).values() for one in theirs]
    assert Counter(one.outcome.key for one in found) == {text.key: 1, both.key: 1}


def test_who_reports_by_a_protocol_differs_in_no_field_of_its_attack() -> None:
    found = reporters()
    assert [p.id for p in found["apgd-t-white-box-linf-2-255"]] == ["fare-apgd-linf-2-255"]
    assert PGD not in found, "no source states every field of it: an unknown one matches nothing"


def test_a_data_set_tells_where_it_comes_from(site: Path) -> None:
    text = (site / "datasets/cifar10.html").read_text()
    known = natural_sets()["cifar10"]
    for said in (known.revision, known.licence, "10,000 pictures, 10 classes", "gauntlet data get cifar10", "ttc-16"):
        assert said in text
    assert "Every method on it" in text and "Every method on it" not in (site / "datasets/dtd.html").read_text()
    assert "outcomes alone" in (site / places.dataset_page("a <b> set")).read_text()
    digits = known_set("digits")
    assert (digits.samples, digits.classes, digits.kind) == (500, 10, "embedded")
    assert known_set("caltech101_coop").reported == "caltech101" and known_set("a/b").title == "a/b"


def test_what_is_known_of_a_data_set_is_the_same_whatever_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wds" / "stl10" / "test").mkdir(parents=True)
    before = known_set("stl10")
    monkeypatch.setenv("GAUNTLET_DATA", str(tmp_path))
    known_set.cache_clear()
    assert known_set("stl10") == before and before.kind == "pinned"


def test_every_claim_counts_on_one_page_of_its_kind() -> None:
    judged = {c.id: Verdict(c.id, "not run", "") for c in claims()}
    by_set = claims_by_set()
    assert sum(map(len, by_set.values())) == len(claims())
    assert {c.protocol for c in by_set["caltech101_coop"]} & {c.protocol for c in by_set["caltech101"]} == set()
    for theirs in by_set.values():
        found = tables(theirs, judged)
        assert sum(one.claims for one in found) == len(theirs) == sum(n for one in found for _, n in one.words)


def test_tables_with_tested_numbers_come_first() -> None:
    some = [c for c in claims() if c.source == "tga-zsr"][:1] + [c for c in claims() if c.source == "agc"][:2]
    judged = {c.id: Verdict(c.id, "reproduced" if c.source == "tga-zsr" else "not run", "") for c in some}
    assert [one.source for one in tables(some, judged)] == ["tga-zsr", "agc"]


def test_the_clean_number_of_a_backbone_is_that_of_most_samples(site: Path) -> None:
    many, few = outcome("1100", "clean", method="undefended", clean="1100"), outcome("1", method="undefended")
    (row,) = clean_of(rows([many, few, outcome("1" * 9)]))
    assert row.clean.n == 4 and row.clean.value == 0.5
    text = (site / places.backbone_page(CLIP)).read_text()
    assert "ViT-B/32" in text and "eps1" in section(text, "tuned") and "cifar10" in section(text, "clean")
    facts = backbone_facts("miniclip-vit")
    assert facts.digest in (site / "backbones/miniclip-vit.html").read_text() and facts.pixels == 32
    assert backbone_facts("open_clip:ViT-B-32/random").kind == "stand-in" != backbone_facts("my own").kind


def test_every_defence_is_sorted_and_every_word_of_a_survey_stands(site: Path) -> None:
    found = placed(["tecoa"], taxonomies())
    assert sorted(one.card.id for those in found.values() for one in those) == sorted(parts().usable)
    by_id = {one.card.id: one for those in found.values() for one in those}
    assert by_id["tecoa"].page == "methods/tecoa.html" and by_id["ttc"].page == "claims/ttc.html"
    assert by_id["ttc"].challenges == ("generalisation against robustness", "efficiency", "simplicity")
    assert "overfitting" in by_id["pmg_aft"].challenges, "both surveys speak"
    text = (site / "taxonomy.html").read_text()
    for survey in taxonomies():
        assert {row.method for row in survey.row} <= {*parts().usable, *(c.method for c in claims())}
        assert len({row.name for row in survey.row}) == len(survey.row)
        assert all(row.name in text for row in survey.row) and survey.url in text


@pytest.mark.parametrize(
    ("code", "url"),
    [
        ("openai/CLIP", "https://github.com/openai/CLIP"),
        ("TreeLLi/APT @ c2e99e09", "https://github.com/TreeLLi/APT/tree/c2e99e09"),
        ("a/b @ 793fbff, ttc_numsteps = 0", "https://github.com/a/b/tree/793fbff"),
        ("none", ""),
        ("unknown; constants as evaluated in fra31/evaluating @ 51d266d", ""),
        ("javascript:alert(1)//a/b", ""),
    ],
)
def test_code_is_linked_where_the_card_begins_with_a_repository(code: str, url: str) -> None:
    assert repository(code) == url


def test_readers_meet_the_pages_where_they_meet_the_names(site: Path) -> None:
    front, method = (site / "index.html").read_text(), (site / "methods/tecoa.html").read_text()
    for link in ("reference.html", "taxonomy.html", places.backbone_page(CLIP)):
        assert f'href="{link}' in front
    for link in (places.protocol_page(APGD), places.backbone_page(CLIP), "datasets/cifar10.html", "taxonomy.html#"):
        assert f'href="../{link}' in method
    claimed = (site / "claims/ttc.html").read_text()
    for link in ("protocols/reported/survey.html#", "datasets/cifar10.html", places.backbone_page(CLIP)):
        assert f'href="../{link}' in claimed
    assert 'href="../../protocols/reported/doc.html#' in (site / "papers/doc/table-1.html").read_text()
