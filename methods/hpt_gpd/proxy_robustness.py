"""The observation that HPT stands on: a plain CLIP withstands images that were attacked on a different plain CLIP.

`python -m vlm_gauntlet.methods.hpt_gpd.proxy_robustness` measures it on the embedded pair, both ways.
"""

from argparse import ArgumentParser
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import dataset, to_tensor
from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.fixtures.prompts import PromptSet


@dataclass(frozen=True)
class ProxyRobustness:
    """Right answers of n, before and after white-box PGD on the source: of the source, and of the proxy."""

    n: int
    source_clean: int
    source_attacked: int
    proxy_clean: int
    proxy_attacked: int

    @property
    def kept(self) -> float:
        """The share of its clean accuracy that the proxy keeps; above one where the attack helps it."""
        return self.proxy_attacked / max(1, self.proxy_clean)


def proxy_robustness(
    source: Backbone,
    proxy: Backbone,
    images: Tensor,
    labels: Tensor,
    prompts: PromptSet,
    *,
    eps: float,
    steps: int = 10,
) -> ProxyRobustness:
    """Attacks images [B, 3, H, W] on the source and shows them to the proxy; each resizes them to its own input."""
    keys = tuple(key_of("proxy robustness", i) for i in range(len(images)))
    attacked = PGD("linf", eps, steps=steps)(Plain(lambda x: source(x, prompts)), images, labels, keys).images

    def right(model: Backbone, shown: Tensor) -> int:
        with torch.no_grad():
            return int((model(shown, prompts).argmax(1) == labels).sum())

    return ProxyRobustness(
        len(images), right(source, images), right(source, attacked), right(proxy, images), right(proxy, attacked)
    )


def main() -> None:
    """Prints a line for each direction."""
    parser = ArgumentParser(description=main.__doc__)
    parser.add_argument("--dataset", default="pacs_cartoon")
    parser.add_argument("--pair", nargs=2, default=["miniclip-vit", "miniclip-cnn"])
    parser.add_argument("--size", type=int, default=128, help="pixels at which the attack happens")
    parser.add_argument("--eps", type=Fraction, default=Fraction(4, 255))
    parser.add_argument("--limit", type=int, default=64)
    asked = parser.parse_args()
    data = dataset(asked.dataset)
    examples = list(data.chosen(asked.limit))
    images = torch.stack([to_tensor(example.image, asked.size) for example in examples])
    labels = torch.tensor([example.label for example in examples])
    first, second = (load_backbone(name) for name in asked.pair)
    for source, proxy in ((first, second), (second, first)):
        found = proxy_robustness(source, proxy, images, labels, data.prompts, eps=float(asked.eps))
        print(f"{source.name} -> {proxy.name}: {found}, kept {found.kept:.2f}")


if __name__ == "__main__":
    main()
