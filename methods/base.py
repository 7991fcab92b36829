"""The contract of every defence. The base class, not the author, guarantees the invariants."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from vlm_gauntlet.attacks.adaptive.straight_through import straight_through
from vlm_gauntlet.attacks.base import check_images
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import ContractError, GauntletError, unknown_name
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient

from .card import Card, read_card
from .fingerprint import fingerprint

GRADIENTS: dict[Gradient, str] = {
    "direct": "forward", "straight-through": "surrogate", "backbone": "behind_backbone", "unrolled": "unrolled",
    "relaxed": "relaxed",
}  # fmt: skip


class Defence(nn.Module):
    """A backbone plus what a method does to it: `(images, prompts) -> logits`.

    An author writes `forward`; `surrogate` where an attacker has something better than the default; `unrolled` where
    the method optimises at inference; `gate_margin` where it acts on some images only; `branch_logits` where it mixes
    several answers. The adaptive attacks do the rest.
    Random numbers come from `self.draws`, which gives each sample its own stream.

    Args:
        backbone: the model to defend; never changed.
        deviations: chosen switches by name; the rest stay at their defaults.
    """

    card: ClassVar[Card]

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        folder = Path(inspect.getfile(cls)).parent
        if "card" in cls.__dict__:
            return
        if (folder / "card.toml").is_file():
            cls.card = read_card(folder)
        else:
            cls.card = external_card(cls)

    def __init__(self, backbone: Backbone, deviations: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.draws = Draws(())
        self.deviations = {d.name: d.choices[0] for d in self.card.deviations}
        for name, choice in (deviations or {}).items():
            if name not in self.deviations:
                raise unknown_name("deviation", name, self.deviations, f"method {self.card.id}")
            switch = next(d for d in self.card.deviations if d.name == name)
            if choice not in switch.choices:
                raise unknown_name(f"choice of deviation {name!r}", choice, switch.choices, f"method {self.card.id}")
            self.deviations[name] = choice
        self.eval()

    @classmethod
    def over(cls, tower: Backbone, original: Backbone, deviations: Mapping[str, str]) -> "Defence":
        """The defence on a fine-tuned tower. `original` is the backbone before that, for a method that needs both."""
        return cls(tower, deviations) if deviations else cls(tower)

    @property
    def tuned_backbone(self) -> Backbone:
        """The fine-tuned backbone that other defences may stand on.

        Raises:
            GauntletError: the method fine-tunes nothing.
        """
        raise GauntletError(
            f"{self.card.id} has no fine-tuned tower", expected="a fine-tuned method after the @, as in ttc@tecoa",
            where="--method", fix="name the test-time defence first, the fine-tuned one second",
        )  # fmt: skip

    @property
    def batch_coupled(self) -> bool:
        """Whether a sample's logits may depend on its neighbours; a deviation may decide it."""
        return self.card.batch_coupled

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Images [B, 3, H, W] in [0,1] -> logits [B, K] with the logit scale applied."""
        raise ContractError(
            f"{type(self).__name__} has no forward", expected="forward(images, prompts) -> logits",
            where=type(self).__name__, fix="write it",
        )  # fmt: skip

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Logits with the forward values of the defence and a gradient that an adaptive attacker can use.

        Default: BPDA through the whole defence, the gradient is the undefended backbone's.
        """
        return self.behind_backbone(images, prompts)

    @final
    def behind_backbone(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Logits with the forward values of the defence and the gradient of the undefended backbone at the images."""
        with torch.no_grad():
            value = self.forward(images, prompts)
        return straight_through(value, self.backbone(images, prompts))

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Logits with the forward values of the defence and the gradient through its own inner optimisation.

        Default: `forward`, whose graph already holds everything where nothing is optimised.
        """
        return self.forward(images, prompts)

    def relaxed(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Logits of something cheaper that images transfer from: fewer inner steps, an ensemble of views.

        The values are its own: attackers only differentiate it, the defence judges. Default: `surrogate`.
        """
        return self.surrogate(images, prompts)

    def gate_margin(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """How far each image [B] lies inside the region where the defence acts: positive where it does; differentiable.

        Read on the streams of the last call, so that it speaks of what `forward` decided.
        """
        raise GauntletError(
            f"{self.card.id} has no gate to evade", expected="a defence that acts on some images only",
            where=f"method {self.card.id}", fix="choose another protocol",
        )  # fmt: skip

    def branch_logits(self, images: Tensor, prompts: PromptSet) -> Sequence[tuple[float, Tensor]]:
        """What the answer mixes: (share, logits [B, K]) of each part; differentiable."""
        raise GauntletError(
            f"{self.card.id} mixes nothing", expected="a defence whose answer mixes several",
            where=f"method {self.card.id}", fix="choose another protocol",
        )  # fmt: skip

    @classmethod
    def offers(cls, part: str) -> bool:
        """Whether the class writes this part itself: `surrogate`, `unrolled`, `relaxed`, `gate_margin`..."""
        return getattr(cls, part) is not getattr(Defence, part)

    @final  # type: ignore[misc]
    def __call__(
        self, images: Tensor, prompts: PromptSet, *, draws: Draws | None = None, gradient: Gradient = "direct"
    ) -> Tensor:
        """Validates, runs, validates. Keeps train/eval mode and the global RNG; forbids state to leak.

        Args:
            images: float32 [B, 3, H, W] in [0,1], on the backbone's device.
            prompts: the classes.
            draws: random streams; default: one fixed stream for each position in the batch.
            gradient: whose: a key of GRADIENTS, such as `direct` for that of `forward`.

        Raises:
            GauntletError: bad images.
            ContractError: the defence changed its state, or returned something that is not logits [B, K].
        """
        where = f"method {self.card.id}"
        check_images(images, where=where)
        before = fingerprint(self)
        with self._drawing(draws or Draws(tuple(range(len(images))))):
            logits: Tensor = getattr(self, GRADIENTS[gradient])(images, prompts)
        after = fingerprint(self)
        if after.modes != before.modes:
            raise ContractError(
                "train/eval mode changed in a call", expected="modes as before", where=where, fix="restore the mode"
            )
        if not self.card.keeps_state and (changed := before.changes(after)):
            raise ContractError(
                f"state leaks between samples: {', '.join(changed[:5])} changed in a call",
                expected="a call leaves parameters, buffers and attributes as they were",
                where=where,
                fix="reset after each call, or declare keeps_state in the card",
            )
        if logits.shape != (len(images), len(prompts)) or not torch.isfinite(logits).all():
            raise ContractError(
                f"output {tuple(logits.shape)}, finite: {bool(torch.isfinite(logits).all())}",
                expected=f"finite logits [{len(images)}, {len(prompts)}]",
                where=where,
                fix="return one logit for each image and class",
            )
        return logits.float()

    @final
    def gate_margin_on(self, images: Tensor, prompts: PromptSet, draws: Draws) -> Tensor:
        """The `gate_margin` [B] on the given streams."""
        with self._drawing(draws):
            return self.gate_margin(images, prompts)

    @final
    def branch_logits_on(self, images: Tensor, prompts: PromptSet, draws: Draws) -> Sequence[tuple[float, Tensor]]:
        """The `branch_logits` on the given streams."""
        with self._drawing(draws):
            return self.branch_logits(images, prompts)

    @contextmanager
    def _drawing(self, draws: Draws) -> Iterator[None]:
        """Hands out the streams, also to code that uses torch's global generators; the caller's state comes back."""
        self.draws = draws
        with _seeded(draws.torch_seed()):
            yield
        self.draws = Draws(())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's generators at this seed, afterwards as they were; without a GPU ten times faster than torch's own way."""
    if gpus := torch.cuda.device_count():
        with torch.random.fork_rng(devices=range(gpus)):
            torch.manual_seed(seed)
            yield
        return
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(state)


def external_card(cls: type) -> Card:
    """The card of a defence that brings none: its name, and nothing that nobody declared."""
    return Card(
        id=cls.__name__, name=cls.__name__, paper="unknown", authors="unknown", year=0, venue="unknown", code="none",
        code_licence="unknown", paradigm="external", optimises="unknown", threat="unknown",
        randomised=bool(getattr(cls, "randomised", False)),
    )  # fmt: skip
