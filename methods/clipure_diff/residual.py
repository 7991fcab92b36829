"""A prior small enough to travel with the clone: a residual multilayer perceptron, trained by `train.py`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .prior import TIMESTEPS, Condition, Prior

WIDTH, BLOCKS = 192, 2


class ResidualPrior(Prior):
    """Image, text and time are added in one hidden vector; residual blocks; x_0 = gate(t) x_t + readout.

    Args:
        dim: D; width: of the hidden vector; blocks: residual ones.
    """

    def __init__(self, dim: int, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__(dim)
        self.image, self.text = nn.Linear(dim, width), nn.Linear(dim, width, bias=False)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.norm, self.predict = nn.LayerNorm(width), nn.Linear(width, dim)
        self.gate = nn.Linear(width, 1)
        self.null_text, self.null_image = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> "ResidualPrior":
        """The prior of these tensors; their shapes say how large it is."""
        dim, width = state["predict.weight"].shape
        prior = cls(dim, width, blocks=len({name.split(".")[1] for name in state if name.startswith("blocks.")}))
        prior.load_state_dict(state)
        return prior

    def forward(self, noised: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """See Prior."""
        image = torch.where(condition.keep_image[:, None], noised, self.null_image)
        text = torch.where(condition.keep_text[:, None], condition.text, self.null_text)
        time = self.time(_waves(timesteps, self.norm.normalized_shape[0]).to(noised))
        hidden = self.image(image) + self.text(text) + time
        for block in self.blocks:
            hidden = hidden + block(hidden)
        predicted: Tensor = self.gate(time) * image + self.predict(F.silu(self.norm(hidden)))
        return predicted


def _waves(timesteps: Tensor, width: int) -> Tensor:
    """Sines and cosines [B, width] of timesteps [B]: the transformer's position code (Vaswani et al. 2017)."""
    rates = torch.exp(-math.log(10 * TIMESTEPS) * torch.arange(width // 2, device=timesteps.device) / (width // 2))
    angles = timesteps[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
