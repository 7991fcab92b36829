"""Many views of one image, and which of them the model is sure of: what test-time prompt tuning looks at.

View 0 is the image itself, the others are random resized crops, half of them mirrored (TPT, R-TPT, TAPT).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws

from .augmix import Mixes, draw_mixes

VIEWS = 64
SCALE, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10  # assumed: the defaults of torchvision's RandomResizedCrop
FIXED_POINT = 2**22  # PIL resizes 8-bit pictures with weights in whole parts of this
AT_ONCE = 64  # views in the image encoder at a time: bounds the memory


@dataclass(frozen=True)
class Views:
    """The views drawn for a batch; each sample's from its own stream, so its neighbours do not matter.

    Args:
        boxes: [B, N - 1, 4] top, left, height, width of the crops, in whole pixels.
        mirrored: [B, N - 1] bool.
        mixes: what AugMix does to the crops, if anything.
        eight_bit: crops are rounded to 8 bits, as PIL does it, before AugMix sees them.
    """

    boxes: Tensor
    mirrored: Tensor
    mixes: Mixes | None = None
    eight_bit: bool = False

    def __getitem__(self, samples: slice) -> "Views":
        return self._part(samples, slice(None))

    def first(self, count: int) -> "Views":
        """The first `count` views of each sample, the image included."""
        return self._part(slice(None), slice(count - 1))

    def _part(self, samples: slice, crops: slice) -> "Views":
        mixes = None if self.mixes is None else self.mixes.part(samples, crops)
        return Views(self.boxes[samples, crops], self.mirrored[samples, crops], mixes, self.eight_bit)

    @property
    def count(self) -> int:
        """N, the image included."""
        return 1 + self.boxes.shape[1]

    def render(self, images: Tensor, size: int) -> Tensor:
        """Images [B, 3, H, W] in [0,1] -> views [B, N, 3, size, size], differentiable.

        A crop is resized by two matrices, one for its rows and one for its columns: the linear filter of
        torchvision (antialiased where it shrinks), for all views at once.
        """
        batch, channels, height, width = images.shape
        boxes = self.boxes.double() if self.eight_bit else self.boxes  # in which PIL's whole numbers are exact
        top, left, rows, columns = (side[..., None] for side in boxes.unbind(-1))
        down = _linear_filter(top, rows, height, size)
        across = _linear_filter(left, columns, width, size)
        across = torch.where(self.mirrored[..., None, None], across.flip(-2), across)
        if self.eight_bit:
            down, across = ((weights * FIXED_POINT + 0.5).floor() / FIXED_POINT for weights in (down, across))
            narrower = _rounded((255 * images).double().flatten(1, 2)[:, None] @ across.mT)  # [B, N - 1, 3 H, size]
            crops = _rounded(down[:, :, None] @ narrower.view(batch, -1, channels, height, size)).float() / 255
        else:
            flat = images.transpose(1, 2).reshape(batch, height, channels * width)
            shorter = (down.flatten(1, 2) @ flat).view(-1, size * channels, width)
            crops = (shorter @ across.flatten(0, 1).mT).view(batch, -1, size, channels, size).transpose(2, 3)
        if self.mixes is not None:
            crops = self.mixes.apply(crops)
        if (height, width) != (size, size):  # as the backbone itself does
            images = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False)
        return torch.cat([images[:, None], crops], dim=1)


def draw_views(
    images: Tensor, draws: Draws, count: int = VIEWS, *, augmix: bool = False, eight_bit: bool = False
) -> Views:
    """Draws random resized crops and flips for images [B, 3, H, W], as torchvision does, and AugMix if asked for.

    Of ten proposals the first that fits the image counts; where none does, the whole image (cut to the ratio).
    """
    height, width = images.shape[-2:]
    like = images.new_empty(len(images), count - 1, TRIES, 5)
    share, ratio, down, across, mirror = draws.uniform(like, 0.0, 1.0).unbind(-1)
    area = height * width * (SCALE[0] + share * (SCALE[1] - SCALE[0]))
    shape = torch.exp(math.log(RATIO[0]) + ratio * (math.log(RATIO[1]) - math.log(RATIO[0])))
    rows, columns = (area / shape).sqrt().round(), (area * shape).sqrt().round()
    fits = (rows >= 1) & (columns >= 1) & (rows <= height) & (columns <= width)
    chosen = fits.int().argmax(-1, keepdim=True)
    rows, columns, down, across = (side.gather(-1, chosen).squeeze(-1) for side in (rows, columns, down, across))
    top = torch.minimum((down * (height - rows + 1)).floor(), height - rows)  # float32 may round up to the end
    left = torch.minimum((across * (width - columns + 1)).floor(), width - columns)
    whole = _whole_image(height, width)
    found = fits.any(-1, keepdim=True)
    boxes = torch.where(found, torch.stack([top, left, rows, columns], -1), whole.to(like))
    mixes = draw_mixes(images, draws, count - 1) if augmix else None
    return Views(boxes, mirror[..., 0] < 0.5, mixes, eight_bit)


def view_features(backbone: Backbone, images: Tensor, views: Views, through: int | None = None) -> Tensor:
    """Unit features [B, N, D] of all views, a few samples at a time.

    Args:
        backbone: whose image encoder looks.
        images: [B, 3, H, W]; where they ask for a gradient, its graph is recomputed backwards, not kept.
        views: of these images.
        through: how many views, the image first, the gradient goes through; to autograd the rest are constants. The
            crops among them stand for all crops: their gradient is scaled up, so that its expectation is the full one.
    """

    def encode(images: Tensor, views: Views) -> Tensor:
        features = backbone.encode_image(views.render(images, backbone.image_size).flatten(0, 1))
        return F.normalize(features.float(), dim=-1).view(len(images), views.count, -1)

    def parts_of(count: int) -> list[slice]:
        step = max(1, AT_ONCE // count)
        return [slice(i, i + step) for i in range(0, len(images), step)]

    with torch.no_grad():
        values = torch.cat([encode(images[part], views[part]) for part in parts_of(views.count)])
    if not (torch.is_grad_enabled() and images.requires_grad):
        return values
    count = min(through or views.count, views.count)
    share = values.new_full((count, 1), (views.count - 1) / max(1, count - 1))
    share[0] = 1

    def again(images: Tensor, part: slice) -> Tensor:
        return share * encode(images, views.first(count)[part])

    apply: Callable[..., Tensor] = _Recomputed.apply
    found = [apply(images[p], values[p], partial(again, part=p)) for p in parts_of(count)]
    return torch.cat(found)


class _Recomputed(torch.autograd.Function):
    """Values that were computed without a graph, with the gradient of what computes them again backwards.

    So they do not depend on whether somebody asks for a gradient, and nobody computes them a third time, as a
    checkpoint beside them would. May be differentiated twice.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, values: Tensor, again: Callable[[Tensor], Tensor]) -> Tensor:
        """Images [B, 3, H, W] and their values [B, N, D]; `again` gives the first of these N."""
        ctx.save_for_backward(images)
        ctx.again = again
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Of the images; with a graph of its own where a second derivative is asked for."""
        (images,), twice = ctx.saved_tensors, torch.is_grad_enabled()
        with torch.enable_grad():
            images = images if twice else images.detach().requires_grad_()
            values = ctx.again(images)
            (gradient,) = torch.autograd.grad(values, images, gradients[0][:, : values.shape[1]], create_graph=twice)
        return gradient, None, None


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of softmax(logits) over the last dimension: [..., K] -> [...]."""
    log = logits.log_softmax(-1)
    return -(log.exp() * log).sum(-1)


def most_certain(logits: Tensor, share: float) -> Tensor:
    """Logits [B, N, K] of the views -> indices [B, int(share N)], at least one, of the lowest entropies."""
    keep = max(1, int(share * logits.shape[1]))
    return entropy(logits.detach()).topk(keep, dim=1, largest=False).indices


def pick(values: Tensor, index: Tensor) -> Tensor:
    """Values [B, N, ...] of the views at index [B, n] -> [B, n, ...]."""
    return values[torch.arange(len(values), device=values.device)[:, None], index]


def _linear_filter(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """Weights [..., size, pixels] that resize the stretch [start, start + length) of a line of pixels to `size`.

    A triangle of the width of a pixel, source or target, whichever is larger; cut at the crop's border.
    """
    middles = torch.arange(pixels, device=start.device) + 0.5
    scale = (length / size)[..., None]
    targets = start[..., None] + (torch.arange(size, device=start.device)[:, None] + 0.5) * scale
    weights = (1 - (middles - targets).abs() / scale.clamp_min(1)).clamp_min(0)
    inside = (middles > start[..., None]) & (middles < (start + length)[..., None])
    weights = weights * inside
    return weights / weights.sum(-1, keepdim=True)


def _rounded(values: Tensor) -> Tensor:
    """To whole numbers, halves upwards, as PIL rounds after each of its two passes; to an attacker the identity."""
    return (values.detach() + 0.5).floor() + (values - values.detach())  # adds an exact zero: whole numbers stay whole


def _whole_image(height: int, width: int) -> Tensor:
    """The centred box [4] that torchvision falls back on: the image, cut where it is too long or too high."""
    columns = min(width, round(height * RATIO[1]))
    rows = min(height, round(width / RATIO[0]))
    return torch.tensor([(height - rows) // 2, (width - columns) // 2, rows, columns])
