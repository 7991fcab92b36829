"""Attacked images that pass through 8 bits: the bytes are torchvision's, the defence reads them, no row counts them."""

from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.functional import to_pil_image, to_tensor
from torchvision.utils import save_image

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Stored
from vlm_gauntlet.fixtures.reported import reported_protocol
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.leaderboard.verdicts import verdicts
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.batch import Evaluation, run_batch
from vlm_gauntlet.suites.runnable import runnable
from vlm_gauntlet.suites.stored import as_stored

from ..leaderboard.factory import outcome
from ..leaderboard.test_verdicts import claim, run

FGSM = protocol("fgsm-white-box-linf-16-255")
HOW: tuple[Stored, ...] = ("floats", "truncated", "rounded")


@given(st.integers(0, 2**31))
def test_the_bytes_are_those_of_torchvision(seed: int) -> None:
    image = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(as_stored(image[None], "truncated")[0], to_tensor(to_pil_image(image)))
    assert as_stored(image, "floats") is image
    moved = (as_stored(image, "rounded") - image).abs().max()
    assert moved <= 0.5 / 255 + 1e-6 and as_stored(image, "truncated").le(image + 1e-6).all()


def test_a_saved_picture_is_rounded(tmp_path_factory: pytest.TempPathFactory) -> None:
    from PIL import Image

    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    path = tmp_path_factory.mktemp("stored") / "x.png"
    save_image(images[0], path)
    assert torch.equal(as_stored(images, "rounded")[0], to_tensor(Image.open(path)))


@given(st.sampled_from(HOW), st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_bytes_stay_what_they_are(how: Stored, levels: list[int]) -> None:
    images = torch.tensor(levels, dtype=torch.uint8)[None, :, None, None] / 255
    assert torch.equal(as_stored(images, how), images)


class Looks(Defence):
    """Remembers what it was shown without a gradient."""

    seen: ClassVar[list[Tensor]] = []

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        if not images.requires_grad:
            self.seen.append(images)
        return self.backbone(images, prompts)


@pytest.mark.parametrize("how", HOW)
def test_the_defence_reads_attacked_images_as_they_were_stored(
    tiny_backbone: Backbone, prompts: PromptSet, how: Stored
) -> None:
    Looks.seen.clear()
    asked = FGSM.model_copy(update={"evaluation": FGSM.evaluation.model_copy(update={"stored": how})})
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    batch = Batch(("a", "b"), images, torch.tensor([0, 1]))
    result = run_batch(
        Evaluation(Looks(tiny_backbone), method("undefended").build(tiny_backbone), prompts, asked, 0), batch
    )
    bytes_read = [bool(torch.equal(shown, as_stored(shown, "truncated"))) for shown in Looks.seen]
    assert any(bytes_read) == (how != "floats") and not all(bytes_read), "clean images are never touched"
    assert len(result.samples) == 2


def test_a_claim_on_stored_images_wants_them_stored_so() -> None:
    of = claim(protocol="r-tpt-pgd-7-linf-1-255-white-box", dataset="dtd")
    (own,) = runnable(reported_protocol(of.protocol), of.dataset).protocols
    assert own.evaluation.stored == "truncated"
    assert verdicts([of], [run(2000, 5000, of=of, dataset="dtd_coop")])[of.id].word == "reproduced"
    for how in ("floats", "rounded"):
        other = own.model_copy(update={"evaluation": own.evaluation.model_copy(update={"stored": how})})
        found = verdicts([of], [run(2000, 5000, of=of, protocol=other, dataset="dtd_coop")])[of.id]
        assert found.word == "not run" and "quantised: claimed truncated" in found.reason
    official = verdicts([of], [run(2000, 5000, of=of)])[of.id]
    assert official.word == "not run" and "samples: claimed CoOp test split, run test split" in official.reason
    (clean,) = runnable(reported_protocol("r-tpt-clean"), "dtd").protocols
    assert clean.evaluation.stored == "floats" and clean.evaluation.prompts == "tpt"


def test_what_left_the_ball_in_its_file_stands_in_no_row() -> None:
    inside, stored = outcome("1100"), outcome("0000", "pgd-100-white-box-linf-1-255")
    conditions = stored.cell.protocol.evaluation.model_copy(update={"stored": "truncated"})
    cell = stored.cell.model_copy(
        update={"protocol": stored.cell.protocol.model_copy(update={"evaluation": conditions})}
    )
    (row,) = rows([inside, stored.model_copy(update={"cell": cell, "key": cell.key})])
    assert row.worst and row.worst.accuracy.value == pytest.approx(0.5)
