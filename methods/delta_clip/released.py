"""The weights that the authors released (zw123/delta_clip_*, CC-BY-4.0), and what stands between them and a number.

Their configuration names a `vocab_path` that open_clip does not know; the tokens are BERT word pieces, not CLIP's
pairs; pictures are normalised with ImageNet's mean and deviation; and both towers belong together.
"""

import json
import re
from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import target_root
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError, reading
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.hub import fetch, network_allowed

from .word_pieces import WordPieces

FULL = re.compile(r"[0-9a-f]{40}")
# The undefended model whose row it stands beside -> repository and revision, of which public pages print 7 digits.
NAMES = {
    "open_clip:ViT-L-14-quickgelu/openai": ("zw123/delta_clip_l14_224", "5df0035"),
    "open_clip:ViT-L-14-336-quickgelu/openai": ("zw123/delta_clip_l14_336", "fb81a6b"),
    "open_clip:ViT-H-14/laion2b_s32b_b79k": ("zw123/delta_clip_h14_336", "a7c426d"),
}
CONFIG, WEIGHTS, VOCABULARY = "open_clip_config.json", "open_clip_pytorch_model.bin", "vocab.txt"
ONLY_IN_THE_FORK = "vocab_path"  # of text_cfg: where the vocabulary lay on the authors' machine


def fetched(backbone: str) -> Path:
    """The folder of the released files for a backbone: laid out by hand, from the local cache, or from the hub.

    Raises:
        UnavailableError: they are not on this machine, and cannot be fetched or their commit is not known in full.
    """
    repository, revision = NAMES[backbone]
    by_hand = target_root() / "weights" / "delta_clip" / repository.partition("/")[2]
    if by_hand.is_dir():
        return by_hand
    if not FULL.fullmatch(revision):
        raise UnavailableError(
            f"{repository} is known here by {len(revision)} digits of its commit, {revision}: that pins nothing",
            expected="40 digits, or its files laid out by hand", where=str(by_hand),
            fix=f"put {CONFIG}, {WEIGHTS} and {VOCABULARY} of that commit there; the cell's key holds their digest",
        )  # fmt: skip
    fix = f"fetch them once with network: hf download {repository} --revision {revision}"
    return fetch(
        repository, revision, [CONFIG, WEIGHTS, VOCABULARY], kind="model", local_only=not network_allowed(), fix=fix
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    """Of a file that holds tensors alone; torch refuses anything else, in a dozen different types of error."""
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except Exception as error:
        raise ValueError(f"{path.name}: {' '.join(str(error).split())[:200] or type(error).__name__}") from error


def load_released(folder: Path, *, first_row_decides: bool = False) -> Backbone:
    """The model of a folder with configuration, weights and vocabulary, as they lie on the hub.

    Args:
        folder: of the three files.
        first_row_decides: see WordPieces.

    Raises:
        GauntletError: a file is missing or of another model, or says no normalisation.
    """
    import open_clip  # slow to import

    with reading("released weights", folder, expected=f"{CONFIG}, {WEIGHTS} and {VOCABULARY}", fix="fetch them again"):
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        model, preprocess = config["model_cfg"], config["preprocess_cfg"]
        mean, std = preprocess["mean"], preprocess["std"]  # CLIP's own would go unnoticed and cost accuracy
        text = {key: value for key, value in model["text_cfg"].items() if key != ONLY_IN_THE_FORK}
        made = {**{key: value for key, value in model.items() if key != "custom_text"}, "text_cfg": text}
        towers = open_clip.CustomTextCLIP if model.get("custom_text") else open_clip.CLIP
        clip = towers(**made).float()
        state = _tensors(folder / WEIGHTS)
        fits = clip.load_state_dict(state, strict=False)
        vocabulary = (folder / VOCABULARY).read_text(encoding="utf-8").splitlines()
    missing = [name for name in fits.missing_keys if not name.endswith("attn_mask")]
    if missing or fits.unexpected_keys:
        raise GauntletError(
            f"weights that do not fit: missing {missing[:3]}, unexpected {fits.unexpected_keys[:3]}",
            expected="the tensors of both towers that the configuration describes", where=str(folder),
            fix="take configuration and weights from one revision",
        )  # fmt: skip
    tokenize = WordPieces(vocabulary, context=int(text["context_length"]), first_row_decides=first_row_decides)
    if tokenize.highest >= int(text["vocab_size"]):
        raise GauntletError(
            f"a vocabulary of {tokenize.highest + 1} pieces", expected=f"at most {text['vocab_size']}",
            where=str(folder / VOCABULARY), fix="take vocabulary and weights from one revision",
        )  # fmt: skip
    digest = sha256(b"".join(tensor.float().numpy().tobytes() for tensor in clip.state_dict().values()))
    size = int(model["vision_cfg"]["image_size"])
    return Backbone(clip, tokenize, name=f"released:{folder.name}", image_size=size, mean=mean, std=std, digest=digest)
