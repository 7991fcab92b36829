"""Towers fed with ImageNet's mean and deviation instead of their own, as some official code does."""

import copy

import torch

from vlm_gauntlet.fixtures.backbone import Backbone

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalised_as_imagenet(backbone: Backbone) -> Backbone:
    """A copy that shares every weight with `backbone` and normalises with ImageNet's constants."""
    twin = copy.copy(backbone)
    twin._buffers = dict(backbone._buffers)
    twin.mean, twin.std = (torch.tensor(values).view(1, 3, 1, 1).to(backbone.mean) for values in (MEAN, STD))
    return twin
