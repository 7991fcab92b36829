"""How many images a second a device takes through an image tower: as stated, as outcomes told, or measured now."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Cost, Outcome

from .passes import Passes

BACKWARD = 1.0
"""Of a backward pass, in forward passes: frozen weights need the gradient of the input alone, which is as much work."""
LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class Rate:
    """How fast a device is.

    Args:
        forward, backward: images a second through the image tower.
        source: where the numbers are from, in words.
    """

    forward: float
    backward: float
    source: str

    def seconds(self, passes: Passes) -> float:
        """What so many passes take."""
        return passes.forward / self.forward + passes.backward / self.backward


def given(passes: float, backward: float = BACKWARD) -> Rate:
    """The rate that somebody states.

    Args:
        passes: forward passes a second.
        backward: what a backward pass costs, in forward passes.

    Raises:
        GauntletError: one of them is not above 0.
    """
    if not (passes > 0 and backward > 0):
        raise GauntletError(
            f"{passes:g} passes a second, {backward:g} for a backward pass", expected="numbers above 0",
            where="--passes, --backward", fix="gauntlet plan --calibrate 60s measures them on this device",
        )  # fmt: skip
    return Rate(passes, passes / backward, f"assumed: {passes:g} forward passes a second, backward = {backward:g}")


def told(outcomes: Iterable[Outcome], device: str, backbone: str) -> Rate | None:
    """The rate of this device in outcomes on this backbone: all passes of attacks over all their seconds; None without.

    It includes what attacks compute beside the tower.
    """
    costs: list[Cost] = [
        o.attack_cost for o in outcomes if o.provenance.device == device and o.cell.backbone == backbone
    ]
    seconds = sum(c.seconds for c in costs)
    passes = sum(c.forward + BACKWARD * c.backward for c in costs)
    if seconds < LEAST_SECONDS or not passes:
        return None
    rate = passes / seconds
    return Rate(rate, rate / BACKWARD, f"from {len(costs)} outcomes on {device}: {rate:.0f} passes a second")


def calibrated(backbone: str, device: str, *, seconds: float, batch_size: int) -> Rate:
    """The rate measured here in so many seconds, half forward alone, half with the gradient of the input.

    An open_clip model whose weights are not here is drawn from a seed: the rate does not know the difference.
    """
    import torch

    from vlm_gauntlet.fixtures.backbones import OPEN_CLIP, load_backbone
    from vlm_gauntlet.fixtures.errors import UnavailableError

    try:
        tower = load_backbone(backbone, device)
    except UnavailableError:
        if not backbone.startswith(OPEN_CLIP) or ":" in (name := backbone.removeprefix(OPEN_CLIP)):
            raise
        tower = load_backbone(f"{OPEN_CLIP}{name.partition('/')[0]}/random", device)
    images = torch.rand(batch_size, 3, tower.image_size, tower.image_size, device=device)

    def forward() -> None:
        with torch.no_grad():
            tower.encode_image(images)

    def both() -> None:
        inputs = images.detach().requires_grad_()
        torch.autograd.grad(tower.encode_image(inputs).square().sum(), inputs)

    ahead, round_trip = (batch_size * _repeats(work, seconds / 2, device) for work in (forward, both))
    back = 1 / max(1 / round_trip - 1 / ahead, 1e-3 / ahead)
    source = f"measured for {seconds:g} s in batches of {batch_size}: {ahead:.0f} forward, {back:.0f} backward a second"
    return Rate(ahead, back, source)


def _repeats(work: Callable[[], None], seconds: float, device: str) -> float:
    """How often a second; the first time, which compiles and allocates, is not counted."""
    import torch

    def waited() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter()

    work()
    start, done = waited(), 0
    while done == 0 or waited() - start < seconds:
        work()
        done += 1
    return done / (waited() - start)
