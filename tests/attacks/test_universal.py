"""Universal perturbations: what is added, files that are not what they should be, and how one is made."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from vlm_gauntlet.attacks.base import AttackResult, Plain
from vlm_gauntlet.attacks.protocols import protocol, read_protocols
from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.attacks.universal import Universal
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.training.universal import universal_perturbation

from .conftest import classifier

EMBEDDED = "universal-miniclip-vit-black-box-linf-8-255"


def written(path: Path, delta: Tensor, eps: float = 0.1, **fields: object) -> Universal:
    """An attack with a perturbation made for 0.2."""
    data = save({"delta": delta})
    path.write_bytes(data)
    return Universal("linf", eps, file=str(path), sha256=sha256(data), **{"made_for": 0.2, **fields})  # type: ignore[arg-type]


def run(attack: Universal, images: Tensor) -> AttackResult:
    labels = torch.zeros(len(images), dtype=torch.long)
    return attack(Plain(lambda x: x.flatten(1)[:, :2]), images, labels, tuple(range(len(images))))


def test_it_is_scaled_to_the_radius_clipped_to_it_and_the_same_for_all_images(tmp_path: Path) -> None:
    """By hand: 0.2 and 0.1 become 0.1 and 0.05; 0.6, three times what it was made for, is cut to 0.1."""
    delta = torch.tensor([0.2, 0.1, -0.6]).view(1, 3, 1, 1).expand(1, 3, 2, 2).contiguous()
    images = torch.stack([torch.full((3, 2, 2), 0.5), torch.full((3, 2, 2), 0.95)])
    result = run(written(tmp_path / "d.safetensors", delta), images)
    expected = torch.tensor([[0.6, 0.55, 0.4], [1.0, 1.0, 0.85]])
    torch.testing.assert_close(result.images, expected.view(2, 3, 1, 1).expand(2, 3, 2, 2))
    assert not result.repaired.any() and not result.notes


def test_another_size_is_interpolated_between_pixel_centres_and_told(tmp_path: Path) -> None:
    """By hand: of two columns -0.1 and 0.1, four columns are at -1/4, 1/4, 3/4 and 5/4 of the way, cut at the ends."""
    delta = torch.tensor([-0.1, 0.1]).expand(3, 2, 2).contiguous()
    result = run(written(tmp_path / "d.safetensors", delta, made_for=0.1), torch.full((1, 3, 4, 4), 0.5))
    expected = 0.5 + torch.tensor([-0.1, -0.05, 0.05, 0.1])
    torch.testing.assert_close(result.images, expected.expand(1, 3, 4, 4))
    assert result.notes == ["universal: resized from (2, 2) to (4, 4), which weakens it"]


@pytest.mark.parametrize(
    ("content", "came"),
    [
        (save({"delta": torch.zeros(3, 2, 2)}), "SHA-256"),
        (b"no tensors", "no safetensors"),
        (save({"delta": torch.zeros(1, 2, 2)}), r"shapes \[\(1, 2, 2\)\]"),
        (save({"delta": torch.zeros(2, 3, 2, 2)}), r"shapes \[\(2, 3, 2, 2\)\]"),
        (save({"delta": torch.full((3, 2, 2), torch.nan)}), r"shapes \[\(3, 2, 2\)\]"),
        (save({"a": torch.zeros(3, 2, 2), "b": torch.zeros(3, 2, 2)}), "shapes"),
    ],
)
def test_another_file_than_the_one_meant_is_one_clear_error(tmp_path: Path, content: bytes, came: str) -> None:
    path = tmp_path / "d.safetensors"
    path.write_bytes(content)
    digest = "0" * 64 if came == "SHA-256" else sha256(content)
    with pytest.raises(GauntletError, match=came):
        run(Universal("linf", 0.1, file=str(path), sha256=digest), torch.zeros(1, 3, 2, 2))


def test_without_a_file_the_error_says_where_one_can_be_had(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "t"\nbase = "square-1000"\n[attack]\nname = "universal"\n')
    with pytest.raises(GauntletError, match="hanxunh/xtransfer"):
        read_protocols(path)
    absent = Universal("linf", 0.1, file=str(tmp_path / "x.safetensors"), sha256="0" * 64)
    with pytest.raises(UnavailableError, match="hanxunh/xtransfer"):
        _ = absent.source_digest


def test_the_embedded_one_lies_on_its_ball_and_its_digest_goes_into_the_cell() -> None:
    made = build(protocol(EMBEDDED))
    assert isinstance(made, Universal) and made.source_digest == made.sha256
    delta = made.perturbation()
    assert delta.shape == (3, 32, 32) and float(delta.abs().max()) == pytest.approx(12 / 255)


def test_on_a_linear_model_one_perturbation_is_the_sign_of_the_weight_and_breaks_one_class() -> None:
    """It lowers the true class of every image where all are of one class."""
    weight = torch.randn(48, generator=torch.Generator().manual_seed(3))
    images = 0.5 + 0.01 * torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    model, labels = Plain(classifier(weight, bias=-float(weight.sum()) / 2 + 0.5)), torch.ones(6, dtype=torch.long)
    batches = [(model, images[:2], labels[:2]), (model, images[2:], labels[2:])]
    delta = universal_perturbation(batches, eps=0.1, passes=5, share=0.25)
    torch.testing.assert_close(delta, -0.1 * weight.sign().view(3, 4, 4))
    assert (model(images).argmax(1) == 1).all() and (model(images + delta).argmax(1) == 0).all()
