"""How far an attack turns features, with training against it and without (MMCoA), and what their purifying risks."""

import torch.nn.functional as F

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.methods.registry import method

from .finding import Figure, Finding, mean
from .scene import Scene


def closer(scene: Scene) -> Figure:
    """Cosine of clean and attacked features under TeCoA's tower minus under the undefended one, each attacked itself.

    Raises:
        UnavailableError: no checkpoint on this backbone.
    """

    def cosines(tower: Backbone) -> list[float]:
        attacked = scene.attacked if tower is scene.backbone else scene.attacked_on(tower)
        clean, moved = (scene.features(images, tower.encode_image) for images in (scene.images, attacked))
        found: list[float] = F.cosine_similarity(clean, moved).tolist()
        return found

    trained = cosines(method("tecoa").build(scene.backbone).tuned_backbone)
    return mean([t - u for t, u in zip(trained, cosines(scene.backbone), strict=True)])


FINDINGS = (
    Finding(
        "features-stay", "Adversarial training keeps the features of attacked images near those of clean ones",
        "MMCoA (Zhou et al.), figure 9", "cosine of clean and attacked features under TeCoA minus under CLIP", 0.0,
        True, closer,
    ),
    Finding(
        "latent-risk", "Purifying features carries less risk than purifying pixels", "CLIPure (ICLR 2025)",
        "risk of purification of features minus that of pixels", 0.0, False,
        why_not="the risk in pixels needs a score model of images, and none is embedded",
    ),
)  # fmt: skip
