"""Images with captions: budgets of both sides, no image sees another, and who is attacked against whom."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.balls import outside
from vlm_gauntlet.attacks.multimodal.ascent import PairAscent
from vlm_gauntlet.attacks.multimodal.dra import DRA
from vlm_gauntlet.attacks.multimodal.paired import Paired
from vlm_gauntlet.attacks.multimodal.pairs import AttackedPairs, attack_pairs
from vlm_gauntlet.attacks.multimodal.recipes import RECIPES, recipe
from vlm_gauntlet.attacks.text.objectives import away_from_image
from vlm_gauntlet.attacks.text.reader import TextTower
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.search import attack_sentence
from vlm_gauntlet.attacks.text.sources.characters import Characters
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError

EPS = 8 / 255
RULES = WordSwap(source="characters", candidates=4)
CAPTIONS = (("a brown dog runs", "dog on grass"), ("a red ship",), ("two cups and a tree", "cups", "a table with cups"))
KEYS = (1, 2, 3)


@pytest.fixture(scope="module")
def tower(tiny_backbone: Backbone) -> Backbone:
    """float64, so that rounding plays no part."""
    return copy.deepcopy(tiny_backbone).double()


def run(
    asked: str | PairAscent, tower: Backbone, images: Tensor, rows: list[int], rules: WordSwap = RULES
) -> AttackedPairs:
    index = torch.tensor(rows)
    attack = replace(recipe(asked).make(EPS) if isinstance(asked, str) else asked, steps=2)
    return attack_pairs(
        attack, tower, images[index], [CAPTIONS[i] for i in rows], index, tuple(KEYS[i] for i in rows),
        decide=lambda features: features[:, :3], rules=rules, source=Characters(),
    )  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_both_budgets_are_kept_and_no_image_sees_another(name: str, tower: Backbone, images: Tensor) -> None:
    done = run(name, tower, images, [0, 1, 2])
    assert not outside(done.result.images, images[:3], norm="linf", eps=EPS).any()
    assert [len(group) for group in done.captions] == [2, 1, 3]
    changed = [s for group in done.sentences for s in group if s.positions]
    assert changed and all(len(s.positions) == 1 and s.objective_after > s.objective_before for s in changed)
    for i in (2, 0):
        alone = run(name, tower, images, [i])
        assert torch.equal(alone.result.images[0], done.result.images[i])
        assert alone.captions == done.captions[i : i + 1]


def test_sep_and_co_attack_share_the_text_and_not_the_image(tower: Backbone, images: Tensor) -> None:
    sep, co = run("sep", tower, images, [0, 1, 2]), run("co-attack", tower, images, [0, 1, 2])
    assert sep.captions == co.captions
    assert not torch.equal(sep.result.images, co.result.images)


def test_sga_attacks_the_original_captions_against_the_attacked_image(tower: Backbone, images: Tensor) -> None:
    done = run("sga", tower, images, [0, 1, 2])
    victim = Paired(tower, images, lambda features: features)
    with torch.no_grad():
        aim = away_from_image(victim.features(done.result.images)[2])
    wanted = [attack_sentence(c, TextTower(tower), Characters(), RULES, objective=aim) for c in CAPTIONS[2]]
    assert done.sentences[2] == tuple(wanted)


def test_dra_aims_the_text_at_a_mean_of_three_images(tower: Backbone, images: Tensor) -> None:
    done = run("dra", tower, images, [0, 1, 2])
    victim, before = Paired(tower, images, lambda features: features), done.result.previous
    assert before is not None and not torch.equal(before, done.result.images)
    with torch.no_grad():
        clean, last, earlier = (victim.features(seen)[2] for seen in (images[:3], done.result.images, before))
    aim = away_from_image(0.6 * clean + 0.2 * last + 0.2 * earlier)
    for text, told in zip(CAPTIONS[2], done.sentences[2], strict=True):
        wanted = attack_sentence(text, TextTower(tower), Characters(), RULES, objective=aim)
        assert told.after == wanted.after
        assert told.objective_after == pytest.approx(wanted.objective_after, abs=1e-12)


def test_dra_without_its_two_ideas_is_sga(tower: Backbone, images: Tensor) -> None:
    plain = DRA("linf", EPS, combinations=0, text_weights=(0, 1, 0))
    one, other = run("sga", tower, images, [0, 1, 2]), run(plain, tower, images, [0, 1, 2])
    assert torch.equal(one.result.images, other.result.images) and one.sentences == other.sentences


def test_the_guides_are_the_attacked_captions(tower: Backbone, images: Tensor) -> None:
    """More freedom in the text gives another image, though the image's own budget stays."""
    seen = {name: run(name, tower, images, [0, 1, 2]).result.images for name in RECIPES}
    loose = {name: run(name, tower, images, [0, 1, 2], RULES.model_copy(update={"budget": 2})) for name in RECIPES}
    assert {name for name in RECIPES if torch.equal(seen[name], loose[name].result.images)} == {"sep"}


def test_an_unknown_attack_is_named_with_near_misses() -> None:
    with pytest.raises(GauntletError, match="did you mean co-attack"):
        recipe("coattack")
