"""Where a prior's weights come from: small ones travel with the clone, DALL-E 2's must be fetched and pinned."""

import io
from pathlib import Path

import torch
from safetensors.torch import load

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import DATA_ROOT, data_root
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.files import read_pinned, read_weights
from vlm_gauntlet.fixtures.packing import unpack
from vlm_gauntlet.training.pins import Pin, read_pins

from .dalle2 import DALLE2Prior
from .prior import Prior
from .residual import ResidualPrior

HERE = Path(__file__).parent
PUBLIC = "dalle2-vit-l-14"
SPACES = ("open_clip:ViT-L-14/openai", "open_clip:ViT-L-14-quickgelu/openai")  # where the public prior lives
CANDIDATE = "prior_aes_finetune.pth of zenglishuci/conditioned-prior on Hugging Face, the file that the code names"


def load_prior(backbone: Backbone, folder: Path = HERE, root: Path | None = None) -> Prior:
    """The prior over this backbone's embeddings, on its device.

    Args:
        folder: has the pins, and the small priors. root: the data root; has `priors/dalle2-vit-l-14.pth`.

    Raises:
        UnavailableError: none is pinned, or its file is not on this machine.
        GauntletError: digest, size, tensors or backbone are not the pinned ones.
    """
    public = backbone.name in SPACES
    name = PUBLIC if public else backbone.name
    root = root or data_root() or Path(DATA_ROOT)
    path = root / "priors" / f"{PUBLIC}.pth" if public else folder / f"{name}.safetensors"
    pins = read_pins(folder)
    if name not in pins:
        raise UnavailableError(
            f"no diffusion prior for {backbone.name!r}",
            expected=f"{CANDIDATE}, at {path}" if public else f"one of: {', '.join(pins) or '(none)'}",
            where=str(folder / "checkpoints.toml"),
            fix="pin its SHA-256 and size there" if public
            else f"train it: gauntlet train clipure_diff --backbone {backbone.name} --data DIR",
        )  # fmt: skip
    pin = pins[name]
    if pin.base != backbone.digest:
        raise GauntletError(
            f"backbone {backbone.name} with digest {backbone.digest[:12]}",
            expected=f"the one whose embeddings the prior has learned, {pin.base[:12]}",
            where=str(path), fix=f"train it again: {pin.command}",
        )  # fmt: skip
    if public:
        return read_dalle2(path, pin).to(backbone.device)
    state = unpack(read_weights(path, digest=pin.sha256, size=pin.size))
    return ResidualPrior.of(state).to(backbone.device)


def read_dalle2(path: Path, pin: Pin) -> DALLE2Prior:
    """A DALL-E 2 prior from a pinned file: safetensors, or a torch checkpoint that holds tensors alone.

    As the code loads it: the network's tensors are prefixed with `net.`, and lie under the key `ema_model` if there is
    one, else under `model`; a file without either holds the network alone.

    Raises:
        UnavailableError: no such file. GauntletError: not the pinned one, or not a DALL-E 2 prior.
    """
    data = read_pinned(path, digest=pin.sha256, size=pin.size)
    try:
        if path.suffix == ".safetensors":
            state = load(data)
        else:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            state = state.get("ema_model", state.get("model", state))
        network = {name.removeprefix("net."): tensor for name, tensor in state.items() if name.startswith("net.")}
        return DALLE2Prior.of(network or state)
    except Exception as error:  # a reader of foreign files raises a dozen different types
        raise GauntletError(
            f"a checkpoint that does not load: {error}", expected="the tensors of DALLE2Prior, and nothing but tensors",
            where=str(path), fix="compare the names; a file that holds more than tensors must be converted elsewhere",
        ) from error  # fmt: skip
