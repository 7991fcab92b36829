"""What holds over all defences that training made: of their frozen outcomes, not of new attacks (MMCoA)."""

from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.methods.registry import methods
from vlm_gauntlet.suites.mini_claims import mini_claims

from .finding import Figure, Finding, rank_correlation
from .scene import Scene

ATTACK = "pgd-10-white-box-linf-"
LEAST = 4  # methods, below which a correlation tells nothing


def clean_with_robust(scene: Scene) -> Figure:
    """Rank correlation over fine-tuned methods of clean accuracy and accuracy under PGD-10.

    Raises:
        UnavailableError: too few of them have frozen outcomes here.
    """
    attack = ATTACK + str(scene.place.eps).replace("/", "-")
    cards = {name: kind.card for name, kind in methods().items()}
    tuned = {name for name, c in cards.items() if c.paradigm == "fine-tuning" and not c.threat.startswith("none")}
    found = [
        (sum(map(int, one.clean)) / len(one.clean), sum(map(int, one.attacked)) / len(one.clean))
        for one in mini_claims()
        if (one.protocol, one.backbone, one.dataset) == (attack, scene.place.backbone, scene.place.dataset)
        and one.method in tuned
    ]
    if len(found) < LEAST:
        raise UnavailableError(
            f"{len(found)} fine-tuned methods with frozen outcomes under {attack}", expected=f"{LEAST} or more",
            where=f"{scene.place.backbone}, {scene.place.dataset}",
            fix="gauntlet run --tier trained, gauntlet claims freeze",
        )  # fmt: skip
    return rank_correlation(*(list(side) for side in zip(*found, strict=True)))


FINDINGS = (
    Finding(
        "clean-with-robust", "In distribution, clean and robust accuracy rise together over adversarial trainings",
        "MMCoA (Zhou et al.)", "rank correlation over fine-tuned methods of clean accuracy and that under PGD-10",
        0.0, True, clean_with_robust,
    ),
)  # fmt: skip
