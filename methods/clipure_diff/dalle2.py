"""DALL-E 2's prior (Ramesh et al. 2022, section 2.2): a causal transformer that predicts x_0 at its last token.

Sequence: encoded text, text embedding, timestep, noised image embedding, learned query. What the paper leaves open is
as in the public implementation that released priors were trained with, from its description: one key and value head
for all query heads, a learned null key and value, cosine similarity with factor 16, rotary positions on 32 channels,
a relative position bias, SwiGLU. Parameters bear the names and shapes of its checkpoints (DALLE2-pytorch at 680dfc4);
no released file was read.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .prior import TIMESTEPS, Condition, Prior

SIMILARITY = 16.0
BUCKETS, FARTHEST = 32, 128  # of the relative position bias
ROTATED = 32  # channels of a head


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the defaults are those of the sheet (768, 24, 32), the rest assumed."""

    dim: int = 768
    depth: int = 24
    heads: int = 32
    head_width: int = 64
    words: int = 256
    inner_norm: bool = True


class Norm(nn.Module):
    """Layer norm with a gain and no bias; a `stable` one first divides each token by its largest channel."""

    def __init__(self, dim: int, *, stable: bool = False) -> None:
        super().__init__()
        self.stable, self.g = stable, nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [..., dim] -> normalised tokens."""
        if self.stable:
            tokens = tokens / tokens.amax(-1, keepdim=True).detach()
        return F.layer_norm(tokens, self.g.shape, self.g)


class Rotary(nn.Module):
    """Rotates pairs of neighbouring channels by an angle proportional to the position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.freqs = nn.Parameter(10000 ** (-torch.arange(0, width, 2) / width))

    def forward(self, heads: Tensor) -> Tensor:
        """Heads [..., N, head width] -> the same, rotated."""
        angles = torch.arange(heads.shape[-2], device=heads.device)[:, None] * self.freqs
        turned, rest = heads.tensor_split([2 * len(self.freqs)], dim=-1)
        even, odd = (turned[..., 0::2], turned[..., 1::2])
        pairs = [even * angles.cos() - odd * angles.sin(), odd * angles.cos() + even * angles.sin()]
        return torch.cat([torch.stack(pairs, dim=-1).flatten(-2), rest], dim=-1)


class Attention(nn.Module):
    """Causal attention of many query heads to one key and value head; every token also sees the null key."""

    def __init__(self, shape: Shape, rotary: Rotary) -> None:
        super().__init__()
        inner = shape.heads * shape.head_width
        self.heads, self.rotary_emb, self.norm = shape.heads, rotary, Norm(shape.dim)
        self.null_kv = nn.Parameter(torch.randn(2, shape.head_width))
        self.to_q = nn.Linear(shape.dim, inner, bias=False)
        self.to_kv = nn.Linear(shape.dim, 2 * shape.head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, shape.dim, bias=False), Norm(shape.dim))

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Tokens [B, N, dim], bias [heads, N, N + 1] with minus infinity for the future -> [B, N, dim]."""
        tokens = self.norm(tokens)
        queries = self.rotary_emb(self.to_q(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2))
        keys, values = self.to_kv(tokens).chunk(2, dim=-1)
        null = self.null_kv[:, None, None].expand(-1, len(tokens), -1, -1)
        keys, values = torch.cat([null[0], self.rotary_emb(keys)], 1), torch.cat([null[1], values], 1)
        cosine = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).transpose(1, 2)[:, None]
        seen = (SIMILARITY * cosine + bias).softmax(-1) @ values[:, None]
        out: Tensor = self.to_out(seen.transpose(1, 2).flatten(2))
        return out


class SwiGLU(nn.Module):
    """Half of the channels, gated by the SiLU of the other half."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden [..., 2 n] -> [..., n]."""
        value, gate = hidden.chunk(2, dim=-1)
        return value * F.silu(gate)


class CausalTransformer(nn.Module):
    """Residual layers of attention and feed-forward, one position bias for all."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.rel_pos_bias = nn.ModuleDict({"relative_attention_bias": nn.Embedding(BUCKETS, shape.heads)})
        rotary, inner = Rotary(min(ROTATED, shape.head_width)), 4 * shape.dim
        self.layers = nn.ModuleList(
            nn.ModuleList([
                Attention(shape, rotary),
                nn.Sequential(
                    Norm(shape.dim), nn.Linear(shape.dim, 2 * inner, bias=False), SwiGLU(),
                    Norm(inner) if shape.inner_norm else nn.Identity(), nn.Dropout(0.0),
                    nn.Linear(inner, shape.dim, bias=False),
                ),
            ])
            for _ in range(shape.depth)
        )  # fmt: skip
        self.norm, self.project_out = Norm(shape.dim, stable=True), nn.Linear(shape.dim, shape.dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, dim] -> [B, N, dim]; a token sees itself and what stands before it."""
        bias = self._bias(tokens.shape[1], tokens.device)
        for layer in self.layers:
            attend, feed = layer.children()
            tokens = tokens + attend(tokens, bias)
            tokens = tokens + feed(tokens)
        out: Tensor = self.project_out(self.norm(tokens))
        return out

    def _bias(self, n: int, device: torch.device) -> Tensor:
        """[heads, N, N + 1], the null key first: T5's buckets, exact up to half of them and logarithmic beyond."""
        ahead = torch.arange(n + 1, device=device) - torch.arange(n, device=device)[:, None]
        back, exact = (-ahead).clamp_min(0), BUCKETS // 2
        far = exact + (back.clamp_min(1) / exact).log() / math.log(FARTHEST / exact) * (BUCKETS - exact)
        buckets = torch.where(back < exact, back, far.long().clamp(max=BUCKETS - 1))
        bias: Tensor = self.rel_pos_bias["relative_attention_bias"](buckets).permute(2, 0, 1)
        return bias.masked_fill(ahead > 1, -torch.inf)


class DALLE2Prior(Prior):
    """The prior that the official code uses, at OpenAI's ViT-L/14.

    Args:
        shape: sizes of the network.
    """

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__(shape.dim)
        self.learned_query = nn.Parameter(torch.randn(shape.dim))
        self.null_text_encodings = nn.Parameter(torch.randn(1, shape.words, shape.dim))
        self.null_text_embeds = nn.Parameter(torch.randn(1, 1, shape.dim))
        self.null_image_embed = nn.Parameter(torch.randn(1, shape.dim))
        self.to_time_embeds = nn.Sequential(nn.Embedding(TIMESTEPS, shape.dim))
        self.causal_transformer = CausalTransformer(shape)

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> "DALLE2Prior":
        """The prior of these tensors; their shapes say how large it is.

        Raises:
            KeyError, RuntimeError: names or shapes are not this network's.
        """
        _, words, dim = state["null_text_encodings"].shape
        layers = "causal_transformer.layers."
        shape = Shape(
            dim, depth=len({name.split(".")[2] for name in state if name.startswith(layers)}),
            heads=state["causal_transformer.rel_pos_bias.relative_attention_bias.weight"].shape[1],
            head_width=state[f"{layers}0.0.null_kv"].shape[1], words=words,
            inner_norm=f"{layers}0.1.3.g" in state,
        )  # fmt: skip
        with torch.device("meta"):
            prior = cls(shape)
        prior.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
        return prior

    def forward(self, noised: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """See Prior."""
        keep_text, keep_image = condition.keep_text[:, None, None], condition.keep_image[:, None, None]
        known = self.null_text_encodings.shape[1]
        words = noised.new_zeros(0, self.dim) if condition.words is None else condition.words[:known]
        words = F.pad(words, (0, 0, 0, known - len(words)))
        tokens = [
            torch.where(keep_text & (words != 0).any(-1, keepdim=True), words, self.null_text_encodings),
            torch.where(keep_text, condition.text[:, None], self.null_text_embeds),
            self.to_time_embeds(timesteps)[:, None],
            torch.where(keep_image, noised[:, None], self.null_image_embed),
            self.learned_query.expand(len(noised), 1, -1),
        ]
        predicted: Tensor = self.causal_transformer(torch.cat(tokens, dim=1))[:, -1]
        return predicted
