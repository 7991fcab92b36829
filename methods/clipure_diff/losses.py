"""The loss of a diffusion prior that predicts the clean embedding (Ramesh et al. 2022, equation 2)."""

from torch import Tensor


def denoising(predicted: Tensor, scaled: Tensor) -> Tensor:
    """|f(x_t, t, y) - x_0|^2 / D of each sample [B], for predictions and scaled embeddings [B, D]."""
    error: Tensor = (predicted - scaled).square().mean(-1)
    return error
