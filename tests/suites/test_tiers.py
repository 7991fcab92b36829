"""Methods enter tiers by what their cards say; tier and protocol files work from anywhere."""

from fractions import Fraction
from pathlib import Path

import pytest

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods.card import Card, Cost, Variant
from vlm_gauntlet.methods.registry import methods
from vlm_gauntlet.suites import tiers
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.runnable import protocols_named
from vlm_gauntlet.suites.tiers import Tier, tier


def test_who_runs_where() -> None:
    fast, mini, nightly, full = (set(tier(name).methods) for name in tiers.TIERS)
    assert fast == {"undefended", "rn", "ttc", "aom", "clipure_cos", "clipure_cos+as_coded", "tecoa"}
    assert {"ttc@tecoa", "cola", "tte"} <= mini and not mini & {"hd", "tpt", "r_tpt", "tapt", "clipure_cos+as_coded"}
    variants = {"ttc@tecoa", "et3@tecoa", "clipure_cos+as_coded", "dbd+strength=one"}
    tuned = {"clipure_cos+step=tuned", "anti_adversary+step_size=tuned", "cola+smallest_crop=tuned"}
    released = {name for name in nightly if "+released=" in name}
    assert {"fare+released=eps1", "tecoa+released=official", "tga_zsr+released=authors"} <= released
    assert nightly == full == set(methods()) | variants | tuned | released
    assert {"clipure_cos+step=tuned", "et3"} <= mini
    later = {"mac", "dbd", "dbd+strength=one", "et3@tecoa", "anti_adversary+step_size=tuned", "t_vss"}
    assert not mini & (later | {"cola+smallest_crop=tuned"})


def test_randomised_methods_have_a_limit_of_their_own() -> None:
    mini = tier("mini")
    drawing = ["rn", "ttc", "ttc@tecoa", "aom", "clipure_diff", "cola", "resize_pad"]
    assert mini.limits == dict.fromkeys(drawing, 8)


def test_curves_are_of_every_method_of_mini_by_attackers_that_run_at_every_radius() -> None:
    curves, mini = tier("curves"), tier("mini")
    assert curves.methods == mini.methods and curves.limits == mini.limits and curves.limit == mini.limit
    tried: dict[str, set[Fraction]] = {}
    for name in curves.protocols:
        threat = protocol(name).threat
        if threat.norm != "none":
            tried.setdefault(name.partition("-linf-")[0], set()).add(threat.eps)
    grid = {Fraction(numerator, 510) for numerator in (1, 2, 4, 8, 16)}
    assert len(tried) >= 3 and all(radii == grid for radii in tried.values())


def test_every_attack_on_images_of_long_runs_is_beside_the_others_and_not_in_the_short_tiers() -> None:
    long = {protocol(name).attack.name for name in tier("attackers").protocols}
    assert {"pma", "odi-pgd", "odi-apgd", "a3", "apgd-pm", "fmn", "apgd-ce", "adaptive-ensemble"} <= long
    short = {protocol(name).attack.name for tier_name in ("fast", "mini") for name in tier(tier_name).protocols}
    assert not short & {"pma", "odi-pgd", "odi-apgd", "a3"}


def test_full_is_nightly_on_more_samples() -> None:
    nightly, full = tier("nightly"), tier("full")
    differ = {k for k, v in full.model_dump().items() if v != getattr(nightly, k)}
    assert differ == {"name", "limit", "batch_size", "effort"}


def test_who_takes_many_passes_gets_fewer_samples_and_never_too_few() -> None:
    limits = tier("nightly").limits
    assert not limits.keys() & {"undefended", "ttc", "tecoa"}
    assert all(tiers.FEWEST <= limit < 500 for limit in limits.values())
    made = tier("nightly").model_copy(update={"effort": 100, "limit": 50})
    costs = {m: methods()[m].card.attack_cost for m in ("undefended", "ttc", "hd")}
    assert all(c is not None for c in costs.values())
    assert [made.limits.get(m, 50) for m in costs] == [
        min(50, max(tiers.FEWEST, 100 // (c.forward + c.backward))) for c in costs.values() if c
    ]
    assert tier("fast").effort is tier("mini").effort is None  # their outcomes are frozen


@pytest.mark.parametrize(
    ("cost", "card", "rule", "enters"),
    [
        (Cost(forward=6, backward=6), {}, {"passes": 12}, ["new"]),
        (Cost(forward=7, backward=6), {}, {"passes": 12}, []),
        (None, {}, {}, []),
        (Cost(forward=1, backward=1), {}, {"exemplary": True}, []),
        (Cost(forward=1, backward=1), {"exemplary": True}, {"exemplary": True}, ["new"]),
        (Cost(forward=1, backward=1), {"variants": (Variant(name="+slow", gpu=True),)}, {}, ["new"]),
        (Cost(forward=1, backward=1), {"variants": (Variant(name="+slow", gpu=True),)}, {"gpu": True},
         ["new", "new+slow"]),
        (Cost(forward=1, backward=1), {"variants": (Variant(name="@tecoa"),)}, {}, ["new", "new@tecoa"]),
        (Cost(forward=1, backward=1), {"weights": {"miniclip-cnn": "x"}}, {"backbone": "miniclip-vit"}, []),
        (Cost(forward=1, backward=1), {"weights": {"miniclip-cnn": "x"}}, {"backbone": "miniclip-cnn"}, ["new"]),
        (Cost(forward=1, backward=1), {"weights": {"miniclip-cnn": "x"}}, {"backbone": "open_clip:x/t"}, ["new"]),
        (Cost(forward=9, backward=9), {}, {"named": ("other",), "passes": 1}, ["other"]),
    ],
)  # fmt: skip
def test_a_card_decides(
    cost: Cost | None,
    card: dict[str, object],
    rule: dict[str, object],
    enters: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: Card = methods()["rn"].card.model_copy(update={"id": "new", "attack_cost": cost, "exemplary": False, **card})
    monkeypatch.setattr(tiers, "_cards", lambda: [made])
    chosen = tier("nightly").model_copy(update={"gpu": False, **rule})
    assert list(chosen.methods) == enters


def test_a_tier_and_a_protocol_from_a_file_elsewhere(tmp_path: Path) -> None:
    mine, recipe = tmp_path / "mine.toml", tmp_path / "long.toml"
    recipe.write_text('title = "long"\nbase = "pgd-20"\neps = ["1/255", "4/255"]\n[attack]\nsteps = 200\n')
    mine.write_text(f'base = "fast"\nnamed = ["rn"]\nlimit = 3\nprotocols = ["clean", {str(recipe)!r}]\n')
    chosen = tier(str(mine))
    assert (chosen.name, chosen.limit, chosen.backbone) == ("mine", 3, "miniclip-vit")
    cells = plan(chosen.methods, chosen.backbone, ["digits"], chosen.protocols, limit=chosen.limit)
    assert [c.protocol.id for c in cells] == ["clean", "long-adaptive-linf-1-255", "long-adaptive-linf-4-255"]
    assert [p.attack.parameters["steps"] for p in protocols_named(str(recipe), "digits")] == [200, 200]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "fast"\nlimit = 0\n', "limit"),
        ('base = "fast"\nlimits = { rn = 3 }\n', "limits"),
        ('base = "slow"\n', "is none of"),
        ("]]", "mine.toml"),
    ],
)
def test_a_bad_tier_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(GauntletError, match=message) as error:
        tier(str(path))
    assert str(path) in str(error.value)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    for ask in (tier, lambda name: protocols_named(name, "digits")):
        with pytest.raises(GauntletError, match=r"gone\.toml"):
            ask(str(tmp_path / "gone.toml"))


def test_every_tier_file_validates() -> None:
    assert [isinstance(tier(name), Tier) for name in (*tiers.TIERS, "curves", "attackers")] == [True] * 6
    assert not tiers.parts().unusable
