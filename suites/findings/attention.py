"""Where text-guided attention looks under attack: the shift that TGA-ZSR sets out from."""

from vlm_gauntlet.methods.tga_zsr.attention import attention_shift

from .finding import Figure, Finding, mean
from .scene import BATCH, Scene


def shifted(scene: Scene) -> Figure:
    """How much farther attention moves to the attacked image than to one with random signs of eps: 1 - cosine of maps.

    Raises:
        UnavailableError: an image tower without tokens.
    """
    noisy = (scene.images + scene.eps * scene.draws().uniform(scene.images, -1, 1).sign()).clamp(0, 1)
    texts = scene.backbone.text_features(scene.prompts)[scene.labels]
    farther: list[float] = []
    for at in range(0, len(scene.labels), BATCH):
        part = slice(at, at + BATCH)
        attack, noise = (
            attention_shift(scene.backbone, scene.images[part], images[part], texts[part]).cosine
            for images in (scene.attacked, noisy)
        )
        farther += (attack - noise).tolist()
    return mean(farther)


FINDINGS = (
    Finding(
        "attention-shifts", "Under attack text-guided attention turns away from where it was",
        "TGA-ZSR (Yu et al., NeurIPS 2024), figure 1",
        "1 - cosine of attention maps of clean and attacked image, minus the same for random signs of eps", 0.0, True,
        shifted,
    ),
)  # fmt: skip
