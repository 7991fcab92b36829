"""Gradients that are not the function's: absent, noise, another model's, another class's, turned round."""

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet

from .inner import Coarse, OnTeCoA, OnUndefended, with_gradient


def noise(images: Tensor, classes: int) -> Tensor:
    """Logits [B, K] with a gradient of noise."""
    return (images * torch.randn_like(images)).flatten(1).sum(1, keepdim=True) * torch.randn(classes).to(images)


class NoiseGradient(OnTeCoA):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return with_gradient(self.model.forward(images, prompts), noise(images, len(prompts)))

    surrogate = forward


class NoiseWhenAsked(OnTeCoA):
    """Noise only where somebody wants a gradient."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return with_gradient(logits, noise(images, len(prompts))) if images.requires_grad else logits

    surrogate = forward


class UndefendedGradient(OnTeCoA):
    """Alive, plausible, not its own."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return with_gradient(self.model.forward(images, prompts), self.backbone(images, prompts))

    surrogate = forward


class TurnedRound(OnTeCoA):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return with_gradient(logits, -logits)

    surrogate = forward


class AnotherClass(OnTeCoA):
    """The gradient of each logit is its neighbour's."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return with_gradient(logits, logits.roll(1, 1))

    surrogate = forward


class Mirrored(OnTeCoA):
    """The gradient is that of the mirrored picture."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        there = self.model.forward(images.detach().flip(-1) + images - images.detach(), prompts)
        return with_gradient(self.model.forward(images, prompts), there)

    surrogate = forward


class Weakest(OnUndefended):
    """Right classes keep no gradient: what is attacked is already lost."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        lowest = logits.gather(1, logits.argmin(1, keepdim=True))
        return with_gradient(logits, lowest.expand_as(logits) * torch.linspace(1, 2, len(prompts)).to(logits))

    surrogate = forward


class Rounded(OnTeCoA):
    """Four bits a channel, and the default surrogate."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.model.forward((images * 15).round() / 15, prompts)


class RoundedAlone(OnUndefended):
    """Three bits, and the default surrogate: black and white stay what they are, so that it is worth something."""

    behind = f"{Coarse.__module__}:Coarse"

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.model.forward((images * 7).round() / 7, prompts)


class TrueAtClean(OnTeCoA):
    """The true gradient where pixels are whole bytes, as those of clean images are; elsewhere it is turned round."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        distance = (images.detach() * 255 - (images.detach() * 255).round()).abs().flatten(1)
        whole = distance.amax(1, keepdim=True) < 1e-3
        return with_gradient(logits, torch.where(whole, logits, -logits))

    surrogate = forward


class EveryOther(OnTeCoA):
    """The gradient is turned round at half of all images, by a hash of their pixels."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        turned = (images.detach().double().flatten(1).sum(1, keepdim=True) * 1e4).long() % 2 == 1
        return with_gradient(logits, torch.where(turned, -logits, logits))

    surrogate = forward


class NoiseOfTheImage(OnUndefended):
    """Noise that the image itself seeds: the same for the same image, another one for the next step."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        seeds = (images.detach().double().flatten(1).sum(1) * 1e6).long().tolist()
        noise = [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return self.model.forward((images + 0.1 * torch.stack(noise).to(images)).clamp(0, 1), prompts)

    surrogate = forward


class Detached(OnTeCoA):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        with torch.no_grad():
            return self.model.forward(images, prompts)


class Shattered(OnTeCoA):
    """A ripple too fine for a gradient and too small for an eye."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        rippled = (images + 0.004 * torch.sin(3000 * images)).clamp(0, 1)
        return self.model.forward(rippled, prompts)

    surrogate = forward


class NotANumber(OnTeCoA):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        zero = (images - images.detach()).abs().sqrt().flatten(1).sum(1, keepdim=True)
        return logits.detach() + zero

    surrogate = forward


class Faint(OnUndefended):
    """Its own gradient, a hundred million times smaller."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return with_gradient(logits, 1e-8 * logits)

    surrogate = forward
