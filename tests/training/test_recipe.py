"""Recipes: rates against hand-computed values, inheritance, deviations, and one clear error for what does not fit."""

import tomllib
from fractions import Fraction
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods.card import read_card
from vlm_gauntlet.training.miniclip.train import RECIPE
from vlm_gauntlet.training.recipe import Recipe, Schedule, find_recipe, read_recipe

ROOT = Path(__file__).parents[2]
ALL = [*sorted((ROOT / "methods").glob("*/recipes/*.toml")), RECIPE]
SMALL = 'epochs = 2\nbatch_size = 4\noptimiser = { name = "sgd", learning_rate = 0.5 }\n'


@pytest.mark.parametrize("path", ALL, ids=lambda p: f"{p.parent.parent.name}-{p.stem}")
def test_every_recipe_validates(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.phases and recipe.digest == read_recipe(path).digest


@pytest.mark.parametrize("path", ALL[:-1], ids=lambda p: f"{p.parent.parent.name}-{p.stem}")
def test_what_a_recipe_makes_of_deviations_exists(path: Path) -> None:
    known = {f"{d.name}={choice}" for d in read_card(path.parents[1]).deviations for choice in d.choices}
    assert set(tomllib.loads(path.read_text()).get("when", {})) <= known


def test_rates_of_a_warm_up_and_a_cosine() -> None:
    """0.8 at the top, 4 of 12 steps of warm-up: a quarter more each, then 0.8 (1 + cos(pi k / 8)) / 2."""
    rates = [Schedule(name="cosine", warmup=4).rate(0.8, step, 12) for step in (0, 1, 3, 4, 8, 11)]
    assert rates == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.4, 0.4 * (1 - 0.9238795325)])


def test_rates_of_the_other_shapes() -> None:
    assert [Schedule(name="constant", warmup=2).rate(0.8, s, 9) for s in (0, 1, 2, 8)] == [0.4, 0.8, 0.8, 0.8]
    capped = [Schedule(name="capped-cosine", warmup=4).rate(0.8, s, 8) for s in (0, 1, 4, 7)]
    assert capped == pytest.approx([0.2, 0.4, 0.4, 0.4 * (1 - 0.9238795325)])
    assert Schedule(name="cosine").rate(0.8, 0, 5) == 0.8


def test_a_first_step_at_the_peak_is_the_only_one_that_differs() -> None:
    """A loop that sets the rate after each step runs its first at the optimiser's own; the others follow the line."""
    for name in ("constant", "cosine", "capped-cosine"):
        line, peak = (Schedule(name=name, warmup=4, first_step=first) for first in ("line", "peak"))
        assert line.rate(0.8, 0, 12) == 0.2 and peak.rate(0.8, 0, 12) == 0.8
        assert [line.rate(0.8, s, 12) for s in range(1, 12)] == [peak.rate(0.8, s, 12) for s in range(1, 12)]


def test_the_shipped_recipes_say_what_made_the_checkpoints() -> None:
    """The constants that stood in code when the shipped weights were trained."""
    tecoa = read_recipe(ROOT / "methods/tecoa/recipes/miniclip-vit.toml").phases[0]
    assert (tecoa.epochs, tecoa.batch_size, tecoa.schedule.warmup) == (10, 128, 50)
    assert (tecoa.optimiser.learning_rate, tecoa.optimiser.momentum, tecoa.optimiser.weight_decay) == (1e-2, 0.9, 0)
    assert float(tecoa.budget.eps) == float(tecoa.budget.step_size) == 16 / 255
    tapt = read_recipe(ROOT / "methods/tapt/recipes/miniclip-vit.toml")
    assert [(p.name, float(p.budget.eps), p.epochs, p.optimiser.learning_rate) for p in tapt.phases] == [
        ("robust", 8 / 255, 10, 0.1), ("clean", 0.0, 10, 0.1),
    ]  # fmt: skip
    assert tapt.shots == 16
    miniclip = read_recipe(RECIPE).phases[0]
    assert (miniclip.optimiser.betas, miniclip.optimiser.eps, miniclip.clip) == ((0.9, 0.98), 1e-6, 1.0)


def test_inheritance_and_deviations_change_what_they_name(tmp_path: Path) -> None:
    (tmp_path / "below.toml").write_text(
        SMALL + 'attack = { eps = "1/255", steps = 2, step_size = "1/255" }\n[when."a=b"]\nattack = { steps = 5 }\n'
    )
    (tmp_path / "above.toml").write_text('base = "below"\nepochs = 7\nattack = { eps = "4/255" }\n')
    (phase,) = read_recipe(tmp_path / "above.toml", {"a": "b", "other": "x"}).phases
    assert (phase.epochs, phase.batch_size) == (7, 4)
    assert (phase.budget.eps, phase.budget.steps, phase.budget.step_size) == (Fraction(4, 255), 5, Fraction(1, 255))
    assert read_recipe(tmp_path / "above.toml").phases[0].budget.steps == 2


def test_phases_have_what_stands_outside_them(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(
        SMALL + '[[phases]]\nname = "first"\n[[phases]]\nname = "second"\noptimiser = { learning_rate = 0.05 }\n'
    )
    recipe = read_recipe(tmp_path / "two.toml")
    assert [(p.name, p.optimiser.learning_rate, p.epochs) for p in recipe.phases] == [
        ("first", 0.5, 2), ("second", 0.05, 2),
    ]  # fmt: skip
    assert [p.epochs for p in recipe.lasting(epochs=9).phases] == [9, 9]
    assert recipe.lasting() == recipe and recipe.lasting(epochs=9).digest != recipe.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL.replace("epochs", "epoch"), "epoch"),
        (SMALL.replace("sgd", "sgdd"), "sgdd"),
        (SMALL + "attack = { eps = 0.01, steps = 2, step_size = '1/255' }", "exact fraction"),
        (SMALL + "steps = 9", "either epochs or steps"),
        (SMALL.replace("epochs = 2\n", ""), "either epochs or steps"),
        (SMALL + "batch_size = 4", "overwrite|duplicate|twice"),
        ('base = "nowhere"', "base 'nowhere' is none of bad"),
        ('base = "bad"', "inherits from itself"),
    ],
)
def test_a_bad_recipe_is_one_clear_error(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(GauntletError, match=said) as raised:
        read_recipe(tmp_path / "bad.toml")
    assert raised.value.where == str(tmp_path / "bad.toml")


def test_the_wanted_recipe_then_the_backbones_then_the_papers(tmp_path: Path) -> None:
    for name in ("reproduction", "tiny", "short"):
        (tmp_path / f"{name}.toml").write_text(SMALL)
    assert [find_recipe(tmp_path, *asked).stem for asked in ((None, "tiny"), (None, "ViT-B"), ("short", "tiny"))] == [
        "tiny", "reproduction", "short",
    ]  # fmt: skip
    assert find_recipe(tmp_path, "mine/own.toml", "tiny") == Path("mine/own.toml")
    with pytest.raises(GauntletError, match="did you mean short"):
        find_recipe(tmp_path, "shrt", "tiny")


def test_too_few_samples_are_an_error() -> None:
    recipe = Recipe(epochs=1, batch_size=4, optimiser={"name": "sgd", "learning_rate": 0.5})
    assert recipe.phases[0].length(9) == 2
    with pytest.raises(GauntletError, match="3 samples"):
        recipe.phases[0].length(3)


def test_an_attack_on_text_is_common_to_all_phases_or_missed(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        SMALL + 'text = { source = "characters", candidates = 3 }\n[[phases]]\nname = "a"\n[[phases]]\nname = "b"\n'
    )
    assert [p.text_rules.candidates for p in read_recipe(path).phases] == [3, 3]
    path.write_text(SMALL)
    (phase,) = read_recipe(path).phases
    with pytest.raises(GauntletError, match="without an attack on text"):
        _ = phase.text_rules
    path.write_text(SMALL + 'text = { source = "characters", index_shift = "as_coded" }\n')
    with pytest.raises(GauntletError, match="index_shift belongs to the source masked-lm"):
        read_recipe(path)
