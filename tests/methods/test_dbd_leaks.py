"""DBD as a control: the real method under the real attack on a model of two numbers gives away the label, by its name.

The model's feature is an angle: brightness, which every view keeps, plus a fine checkerboard, which crops, blurs and
noise erase and which is all that a small attack moves. Pictures are plain grey, half of them on the wrong side.
"""

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone, Passes
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.leaderboard.rows import Row, rows
from vlm_gauntlet.methods.dbd.method import DBD

from ..leaderboard.factory import outcome

SIDE, EPS, N = 16, 1 / 255, 20
KEYS = tuple(range(N))
CHECKS = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2 * 2.0 - 1
PROMPTS = PromptSet.from_templates(["bright", "dark"], ["a {c} picture"])
NAMES = ("pgd-10-transfer-linf-1-255", "pgd-10-pseudo-transfer-linf-1-255")


class Angle(Backbone):
    """Feature (cos a, sin a); class 0 lies at 90 degrees, class 1 at -90."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.image_size, self.passes = SIDE, Passes()

    @property
    def logit_scale(self) -> Tensor:
        return torch.tensor(10.0)

    def encode_image(self, images: Tensor) -> Tensor:
        brightness, checks = images.mean((1, 2, 3)) - 0.5, (images * CHECKS).mean((1, 2, 3))
        angle = 2 * brightness + 60 * checks / (1 + 1000 * images.var((1, 2, 3)))  # noise drowns the checks
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    def text_features(self, prompts: PromptSet) -> Tensor:
        return torch.tensor([[0.0, 1.0], [0.0, -1.0]])


def judged(strength: str) -> Row:
    """The row of DBD: all pictures bright in truth, half taken for dark; transferred away from truth, and from own."""
    backbone = Angle()
    side = torch.linspace(0.01, 0.02, N // 2)
    grey = 0.5 + torch.cat([-side, side])[:, None, None, None].expand(-1, 3, SIDE, SIDE)
    truth, own = torch.zeros(N, dtype=torch.long), backbone(grey, PROMPTS).argmax(1)
    defence = DBD(backbone, {"strength": strength})
    plain = Plain(lambda images: backbone(images, PROMPTS))

    def right(images: Tensor) -> str:
        return "".join(str(int(r)) for r in defence(images, PROMPTS, draws=Draws(KEYS, 1)).argmax(1) == truth)

    clean = "".join(str(int(r)) for r in own == truth)
    attacked = [PGD("linf", EPS, random_start=False)(plain, grey, labels, KEYS).images for labels in (truth, own)]
    made = [outcome(right(x), p, clean=clean, method="dbd") for x, p in zip(attacked, NAMES, strict=True)]
    (row,) = rows([*made, outcome(clean, "pgd-10-white-box-linf-1-255", clean=clean, method="dbd")])
    return row


@pytest.mark.parametrize(("strength", "leaks"), [("two-stream", True), ("one", False)])
def test_only_the_overshoot_leaks_the_label(strength: str, leaks: bool) -> None:
    row = judged(strength)
    red = [flag.name for flag in row.flags if flag.masking]
    assert ("label-leak" in red) == leaks
    truth, pseudo = (next(o for o in row.outcomes if o.cell.protocol.id == name) for name in NAMES)
    assert (truth.attacked_accuracy > 0.9 and pseudo.attacked_accuracy < 0.6) == leaks
