"""PMA, output-diversified starts and A3 on an embedded backbone, beside the attacks that they build on."""

import pytest

from vlm_gauntlet.attacks.a3 import A3
from vlm_gauntlet.attacks.autoattack import APGDCE, APGDPM
from vlm_gauntlet.attacks.gradients import GradientAttack
from vlm_gauntlet.attacks.odi import ODIAPGD, ODIPGD
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.pma import PMA
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.victims import BoundDefence


@pytest.mark.parametrize(
    ("attack", "base"),
    [(PMA("linf", 4 / 255, steps=6), APGDPM("linf", 4 / 255, steps=12)),
     (ODIPGD("linf", 4 / 255, 12, selection="any-iterate"), PGD("linf", 4 / 255, 14, selection="any-iterate")),
     (ODIAPGD("linf", 4 / 255, 6), APGDCE("linf", 4 / 255, 8)),
     (A3("linf", 4 / 255, rounds=2), PGD("linf", 4 / 255, 30, loss="pm", selection="any-iterate"))],
    ids=lambda a: a.info.name,
)  # fmt: skip
def test_on_a_real_model_it_leaves_no_more_than_its_base_of_the_same_budget(
    attack: GradientAttack, base: GradientAttack
) -> None:
    """miniclip-vit undefended, where a few of 8 fall: a part that goes the wrong way leaves them."""
    data, keys = dataset("fashion_mnist"), tuple(range(8))
    defence = method("undefended").build(load_backbone("miniclip-vit", "cpu"))
    batch = next(iter(data.batches(limit=8, batch_size=8, size=32)))
    left = [
        int((~each(BoundDefence(defence, data.prompts, keys), batch.images, batch.labels, keys).success).sum())
        for each in (attack, base)
    ]
    assert attack.total_steps <= base.total_steps and 0 < left[0] <= left[1] < 7
