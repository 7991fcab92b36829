"""What noise does to clean and to attacked images: TTC's false stability, its reversal, and AOM's premise."""

import torch
from torch import Tensor

from .finding import Figure, Finding, mean, share
from .scene import Scene

SIGMA = 0.1  # AOM's
LOOKS = 5  # noisy copies of an image
STRONG = 8  # times eps: noise under which the order is said to turn


def drift(scene: Scene, images: Tensor, reach: float) -> Tensor:
    """Relative drift of the feature under uniform noise of +-reach [N], TTC's tau; the same noise for every set."""
    still = scene.features(images)
    noisy = scene.features((images + scene.draws().uniform(images, -reach, reach)).clamp(0, 1))
    moved: Tensor = torch.linalg.vector_norm(noisy - still, dim=1) / torch.linalg.vector_norm(still, dim=1)
    return moved


def stabler(scene: Scene, reach: float) -> Figure:
    """Share of samples whose attacked image drifts less than the clean one."""
    return share((drift(scene, scene.attacked, reach) < drift(scene, scene.images, reach)).tolist())


def gained(scene: Scene) -> Figure:
    """Accuracy on attacked images with Gaussian noise minus that without, a mean over samples."""
    images = scene.attacked
    noisy = [scene.right(images + SIGMA * scene.draws(call).normal(images)).float() for call in range(LOOKS)]
    return mean((torch.stack(noisy).mean(0) - scene.right(images).float()).tolist())


FINDINGS = (
    Finding(
        "false-stability", "The feature of an adversarial image moves less under small noise than the clean image's",
        "TTC (Xing et al., CVPR 2025), section 3", "share of samples whose attacked image drifts less, noise of ±eps",
        0.5, True, lambda scene: stabler(scene, scene.eps),
    ),
    Finding(
        "stability-reversed", "Under stronger noise the order turns: adversarial images are the less stable ones",
        "Malik, Naseer, Khan (arXiv 2606.03730)",
        f"share of samples whose attacked image drifts less, noise of ±{STRONG} eps", 0.5, False,
        lambda scene: stabler(scene, STRONG * scene.eps),
    ),
    Finding(
        "noise-helps", "Gaussian noise raises the accuracy on adversarial images",
        "AOM (Tong et al., CVPR 2025)", f"accuracy on attacked images with noise of sigma = {SIGMA} minus without",
        0.0, True, gained,
    ),
)  # fmt: skip
