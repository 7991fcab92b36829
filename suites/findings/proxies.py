"""Whether a plain CLIP withstands images that were attacked on another plain CLIP: what HPT-GPD stands on."""

from vlm_gauntlet.fixtures.backbones import load_backbone

from .finding import Figure, Finding, share
from .scene import PLACES, Scene


def kept_by_proxy(scene: Scene) -> Figure:
    """Share of the images that the other embedded backbone knows which it still knows after the attack on this one."""
    (other,) = (place.backbone for place in PLACES if place.backbone != scene.place.backbone)
    proxy = load_backbone(other, "cpu")
    clean, attacked = (
        proxy.classify(scene.features(images, proxy.encode_image), scene.prompts).argmax(1) == scene.labels
        for images in (scene.images, scene.attacked)
    )
    return share(attacked[clean].tolist() or [False])


FINDINGS = (
    Finding(
        "proxies-resist", "A plain CLIP withstands images that were attacked on a different plain CLIP",
        "HPT-GPD (arXiv 2601.12865)",
        "share of the images known to the other embedded backbone that it still knows after the attack on this one",
        0.5, True, kept_by_proxy,
    ),
)  # fmt: skip
