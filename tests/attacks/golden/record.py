"""Records what torchattacks and foolbox do on a tiny model: `peers.json`, which tests/attacks/test_peers.py reads.

Their pins conflict with ours, so they go into a folder of their own, without their dependencies:

    pip install --no-deps --target peers torchattacks==3.5.1 foolbox==3.3.4 eagerpy GitPython gitdb smmap requests \
        urllib3 certifi charset-normalizer tqdm scipy
    PYTHONPATH=peers python tests/attacks/golden/record.py > tests/attacks/golden/peers.json
"""

import json
import sys
from importlib.metadata import version

import foolbox  # pyright: ignore[reportMissingImports]
import torch
import torchattacks  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

EPS, STEPS, SEARCH = 0.08, 6, 30


class Tiny(nn.Module):
    """Two layers in float64, so that rounding never turns a sign."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(first.double()), nn.Parameter(second.double())

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(images.double().flatten(1) @ self.first) @ self.second


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 3, 3, generator=generator)
    images[0, 0] = 0.0  # at the border of the box
    first, second = (torch.randn(shape, generator=generator) for shape in ((27, 6), (6, 5)))
    model = Tiny(first, second).eval()
    labels = model(images).argmax(1)
    step = EPS / 4
    torch.manual_seed(1)
    start = (images + torch.empty_like(images).uniform_(-EPS, EPS)).clamp(0, 1)
    torch.manual_seed(1)
    made = {
        "torchattacks PGD": torchattacks.PGD(model, EPS, step, STEPS)(images, labels),
        "torchattacks FGSM": torchattacks.FGSM(model, EPS)(images, labels),
        "torchattacks BIM": torchattacks.BIM(model, EPS, step, STEPS)(images, labels),
        "torchattacks MI-FGSM": torchattacks.MIFGSM(model, EPS, step, STEPS, decay=1.0)(images, labels),
    }
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    fixed = {"abs_stepsize": step, "steps": STEPS, "random_start": False}
    for name, attack in {
        "FGSM": foolbox.attacks.LinfFastGradientAttack(),
        "BIM": foolbox.attacks.LinfBasicIterativeAttack(**fixed),
        "L2 BIM": foolbox.attacks.L2BasicIterativeAttack(**fixed),
    }.items():
        made[f"foolbox {name}"] = attack(wrapped, images, labels, epsilons=EPS)[1]
    search = foolbox.attacks.LInfFMNAttack(steps=SEARCH)  # its L2 twin does not project
    made["foolbox FMN"] = search(wrapped, images, labels, epsilons=None)[0]
    json.dump({
        "made_with": {name: version(name) for name in ("torchattacks", "foolbox", "torch")},
        "eps": EPS, "steps": STEPS, "search": SEARCH, 
        "first": first.tolist(), "second": second.tolist(), "images": images.tolist(),
        "labels": labels.tolist(), "start": start.tolist(),
        "made": {name: result.tolist() for name, result in made.items()},
    }, sys.stdout)  # fmt: skip
    print()


if __name__ == "__main__":
    main()
