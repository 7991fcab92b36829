"""The losses that methods train with: values computed by hand, and their gradients in float64."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from vlm_gauntlet.methods.clipure_diff.losses import denoising
from vlm_gauntlet.methods.tapt.losses import prompted
from vlm_gauntlet.methods.tecoa.losses import text_guided
from vlm_gauntlet.training.miniclip.losses import to_captions, to_pictures

LABELS = torch.tensor([1, 0])


def some(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("loss", [text_guided, prompted])
def test_cross_entropy_over_class_texts(loss) -> None:
    """Logits (0, ln 3) and (ln 1, ln 1): probabilities 3/4 and 1/2 of the true classes."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    assert loss(logits, LABELS).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert gradcheck(lambda z: loss(z, LABELS), some(2, 3))


def test_denoising_is_a_mean_over_dimensions() -> None:
    error = denoising(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 1.0]]))
    assert error.tolist() == [2.5, 5.0]
    assert gradcheck(denoising, (some(2, 3), some(2, 3).detach() + 1))


def test_contrastive_terms_where_two_pictures_share_a_caption() -> None:
    """Three pictures, two captions. Rows: 3/4, 1/2, 1/2 of the own caption; columns: ln 3 against 0 and 0 gives 3/5
    and 1/5 in the second, thirds in the first."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0], [0.0, 0.0]])
    index = torch.tensor([1, 1, 0])
    rows = (math.log(4 / 3) + 2 * math.log(2)) / 3
    columns = (math.log(5 / 3) + math.log(5) + math.log(3)) / 3
    assert to_captions(logits, index).item() == pytest.approx(rows / 2)
    assert to_pictures(logits, index).item() == pytest.approx(columns / 2)
    for loss in (to_captions, to_pictures):
        assert gradcheck(lambda z, loss=loss: loss(z, index), some(3, 2))
