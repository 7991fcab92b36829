"""Constants that we assumed: the card names them, a switch that replaces one takes it away, the site shows the rest."""

import html
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.methods.card import read_card
from vlm_gauntlet.methods.registry import method, methods

from ..leaderboard.factory import MADE, outcome

CARD = Path(__file__).parents[2] / "methods" / "clipure_cos"
PGD = "pgd-10-white-box-linf-1-255"


def copied(folder: Path, old: str, new: str) -> Path:
    """CLIPure-Cos' card with one change."""
    (folder / "clipure_cos").mkdir()
    for name in ("card.toml", "deviations.toml"):
        text = (CARD / name).read_text(encoding="utf-8")
        (folder / "clipure_cos" / name).write_text(text.replace(old, new), encoding="utf-8")
    return folder / "clipure_cos"


@pytest.mark.parametrize(
    ("name", "assumed"),
    [
        ("clipure_cos", {"step": 0.1}),
        ("clipure_cos+norm=batch", {"step": 0.1}),
        ("clipure_cos+step=tuned", {}),
        ("clipure_cos+step=paper-intent", {"step": 0.1}),
        ("clipure_cos+as_coded", {}),
    ],
)
def test_a_constant_is_assumed_until_a_switch_replaces_it(name: str, assumed: dict[str, float]) -> None:
    assert {n: a.value for n, a in method(name).card.assumed.items()} == assumed


def test_a_switch_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path, 'switch = "step"', 'switch = "stride"')
    with pytest.raises(GauntletError, match="no deviation 'stride'"):
        read_card(folder)


def test_a_constant_without_a_reason_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GauntletError, match="why"):
        read_card(copied(tmp_path, "\nwhy = ", "\n# why = "))


@pytest.mark.parametrize(
    ("name", "attribute", "expected"),
    [
        ("clipure_cos", "step", 0.1), ("clipure_cos+step=tuned", "step", 0.03), ("clipure_cos+step=0.3", "step", 0.3),
        ("clipure_cos+step=as_coded", "step", 30.0),
        ("anti_adversary", "step_size", 0.15), ("anti_adversary+step_size=tuned", "step_size", 0.004),
        ("cola", "smallest_crop", 0.08), ("cola+smallest_crop=tuned", "smallest_crop", 0.75),
    ],
)  # fmt: skip
def test_the_choice_is_what_the_defence_computes_with(
    name: str, attribute: str, expected: float, tiny_backbone: object
) -> None:
    assert getattr(method(name).build(tiny_backbone), attribute) == expected  # type: ignore[arg-type]


def test_a_tuned_constant_says_what_measured_it() -> None:
    """The command, its set, and that the set is in no tier's table of the same backbone."""
    tuned = [d for kind in methods().values() for d in kind.card.deviations if "tuned" in d.choices]
    assert {d.name for d in tuned} == {"step", "step_size", "smallest_crop"}
    for deviation in tuned:
        assert "Tuned by: gauntlet run --protocol clean" in deviation.source
        assert "undefended" in deviation.differs


def test_row_and_page_say_what_is_assumed(tmp_path: Path) -> None:
    made = [outcome("1100", PGD, method=m) for m in ("clipure_cos", "clipure_cos+step=tuned", "undefended")]
    site = build_site(made, tmp_path / "site", made=MADE).parent
    index = " ".join(html.unescape((site / "index.html").read_text(encoding="utf-8")).split())
    assert index.count("assumed by us: step 0.1") == 1
    pages = {p.name: " ".join(p.read_text(encoding="utf-8").split()) for p in (site / "methods").iterdir()}
    said = {name for name, text in pages.items() if "assumed by us:" in text}
    assert said == {"clipure_cos.html"} and "with it the cosine climbs" in pages["clipure_cos.html"]
