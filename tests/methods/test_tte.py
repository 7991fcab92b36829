"""TTE: ten fixed views, logits averaged; the crops that its code means and those that it makes."""

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.tte.method import TTE


def test_logits_are_the_mean_over_the_views(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = TTE(tiny_backbone)
    views = defence.views(images)
    assert views.shape == (10, *images.shape)
    one_by_one = torch.stack([tiny_backbone(view, prompts) for view in views]).mean(0)
    assert torch.allclose(defence(images, prompts), one_by_one, atol=1e-4)


def test_the_views_are_what_they_are_called(tiny_backbone: Backbone, images: Tensor) -> None:
    views = TTE(tiny_backbone).views(images)
    assert torch.equal(views[0], images)
    assert torch.equal(views[5:], views[:5].flip(-1))
    whole = TTE(tiny_backbone, padding=0.0).views(images)
    assert all(torch.equal(view, images) for view in whole[:5]), "without padding a crop has nowhere to go"


def test_late_binding_makes_one_crop_of_four(tiny_backbone: Backbone, images: Tensor) -> None:
    meant, made = (TTE(tiny_backbone, {"crops": c}).views(images)[1:5] for c in ("independent", "late-binding"))
    assert len({tuple(v.flatten().tolist()) for v in meant}) > 1
    assert all(torch.equal(view, meant[-1]) for view in made)


@pytest.mark.parametrize(
    ("mirror", "row"),
    [("crop", [0, 8, 7, 6, 5, 4, 3, 2]), ("image", [7, 6, 5, 4, 3, 2, 1, 0])],
)
def test_a_crop_is_mirrored_or_the_mirrored_image_is_cropped(
    mirror: str, row: list[int], tiny_backbone: Backbone
) -> None:
    """The row 1..8, padded to 0 1 .. 8 0, cropped at 2: 2 .. 8 0. Its mirror image; or 0 8 .. 1 0 cropped at 2."""
    defence = TTE(tiny_backbone, {"mirror": mirror})
    defence.offsets = ((0.5, 0.99),)
    views = defence.views(torch.arange(1.0, 9.0).expand(1, 3, 8, 8))[:, 0, 0, 3]
    assert views.int().tolist() == [[*range(1, 9)], [2, 3, 4, 5, 6, 7, 8, 0], [*range(8, 0, -1)], row]


@pytest.mark.parametrize(("offsets", "last"), [("all", 8), ("last-left-out", 7)])
def test_the_code_never_draws_the_last_offset(offsets: str, last: int, tiny_backbone: Backbone) -> None:
    """4 pixels of padding around 32: nine places for a crop, of which numpy.random.randint(8) gives eight."""
    defence = TTE(tiny_backbone, {"offsets": offsets})
    assert sorted({defence._place(i / 1000, 4) for i in range(1001)}) == list(range(last + 1))
    assert defence._place(1.0, 0) == 0
    defence.offsets = ((1.0, 1.0),)
    corner = defence.views(torch.ones(1, 3, 32, 32))[1, 0, 0]
    assert corner.sum() == (32 - (last - 4)) ** 2 and corner[0, 0] == 1


def test_as_coded_is_one_crop_and_one_of_the_mirrored_image(tiny_backbone: Backbone, images: Tensor) -> None:
    defence = TTE(tiny_backbone, {d.name: d.as_coded for d in TTE.card.deviations})
    views, other = defence.views(images), defence.views(images.flip(-1))
    assert torch.equal(views[6:], views[6:7].expand(4, -1, -1, -1, -1))
    assert torch.equal(views[6], other[1]) and not torch.equal(views[6], views[1].flip(-1))


def test_every_place_of_a_crop_is_equally_likely(tiny_backbone: Backbone) -> None:
    """Places 0..4 at 16 px: a fifth of evenly spread offsets falls on each, the outermost ones too."""
    defence = TTE(tiny_backbone)
    defence.offsets = tuple(((i + 0.5) / 50, 0.0) for i in range(50))
    ramp = torch.arange(1.0, 17.0).view(1, 1, 16, 1).expand(1, 3, 16, 16)
    first_rows = defence.views(ramp)[1:51, 0, 0, :, -3]
    tops = [int((row == 0).sum()) if row[0] == 0 else -int(row[0] - 1) for row in first_rows]
    assert {place: tops.count(place) for place in (2, 1, 0, -1, -2)} == {2: 10, 1: 10, 0: 10, -1: 10, -2: 10}


@pytest.mark.parametrize("side", [16, 32])
def test_padding_is_an_eighth_of_the_side(tiny_backbone: Backbone, side: int) -> None:
    """4 of 32 pixels, as the code has it: a crop is shifted by at most that, and what comes in is zero."""
    defence = TTE(tiny_backbone)
    defence.offsets = ((0.0, 0.0), (1.0, 1.0))
    ones = torch.ones(1, 3, side, side)
    first, last = defence.views(ones)[1:3, 0, 0]
    room = side // 8
    assert int((first == 0).sum()) == int((last == 0).sum()) == side**2 - (side - room) ** 2
    assert first[:room].sum() == 0 and last[-room:].sum() == 0
