"""How much of the order among class texts a change of them keeps: neighbours, and ranks of pair similarities."""

import torch
from scipy.stats import spearmanr
from torch import Tensor


def nearest(weights: Tensor) -> Tensor:
    """Unit class weights [K, D] -> index [K] of the most similar other class."""
    return (weights @ weights.T).fill_diagonal_(-torch.inf).argmax(1)


def neighbours_kept(before: Tensor, after: Tensor) -> float:
    """Share of the classes whose nearest neighbour is the same: class weights [K, D] twice, in one order."""
    return (nearest(before) == nearest(after)).double().mean().item()


def pair_similarities(weights: Tensor) -> Tensor:
    """Unit class weights [K, D] -> cosines of the K (K - 1) / 2 pairs."""
    rows, columns = torch.triu_indices(len(weights), len(weights), offset=1)
    return (weights @ weights.T)[rows, columns]


def rank_correlation(before: Tensor, after: Tensor) -> float:
    """Spearman's, of the similarities of all pairs; 1 where their order is kept."""
    return float(spearmanr(pair_similarities(before).cpu(), pair_similarities(after).cpu()).statistic)
