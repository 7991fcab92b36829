"""A whole night without network: a local hub cache and local webdatasets in the real layouts, with random weights.

`python -m tests.suites.offline_night FOLDER [ARCHITECTURE]` fills the folder and runs plan, night (load, text bank,
attack, defence, outcome, verdict, board, report), then two shards and their merge, whose results must be the night's.
With an architecture of open_clip, such as ViT-B-32-quickgelu, the stand-in has its real size.
"""

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

REPOSITORY, COMMIT = "ViT-B-32-quickgelu", "0" * 40
SMALL: dict[str, Any] = {
    "embed_dim": 16, "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip
MEAN, SD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
SETS = {"eurosat": ["forest", "river", "sea"]}
TIER = """
backbone = "open_clip:hf-hub:stand-in/{name}"
named = ["undefended", "ttc"]
datasets = ["eurosat"]
protocols = ["clean", "pgd-10-transfer-linf-1-255"]
limit = 6
batch_size = 4
control_protocol = "pgd-10-transfer-linf-1-255"
adaptive_protocol = "pgd-10-transfer-linf-1-255"
"""


def fill(folder: Path, architecture: str = "") -> None:
    """Hub cache and data root, as huggingface_hub and the CLIP benchmark lay them out."""
    import open_clip
    import torch
    import webdataset
    from safetensors.torch import save_file
    from torchvision.transforms.functional import to_pil_image

    config = open_clip.get_model_config(architecture) if architecture else SMALL
    assert config is not None
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    repository = folder / "hub" / f"models--stand-in--{REPOSITORY}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    record = {"model_cfg": config, "preprocess_cfg": {"mean": MEAN, "std": SD}}
    (snapshot / "open_clip_config.json").write_text(json.dumps(record))
    save_file(
        {n: t.contiguous() for n, t in model.state_dict().items() if n != "attn_mask"},
        snapshot / "open_clip_model.safetensors",
    )
    generator = torch.Generator().manual_seed(1)
    for name, classes in SETS.items():
        place = folder / "data" / "wds" / name
        (place / "test").mkdir(parents=True)
        (place / "classnames.txt").write_text("\n".join(classes) + "\n")
        (place / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
        (place / "dataset_type.txt").write_text("classification\n")
        (place / "test" / "nshards.txt").write_text("2\n")
        for shard in range(2):
            with webdataset.TarWriter(str(place / "test" / f"{shard}.tar")) as tar:
                for number in range(4):
                    picture = io.BytesIO()
                    to_pil_image(torch.rand(3, 32, 32, generator=generator)).save(picture, "WEBP", lossless=True)
                    label = (4 * shard + number) % len(classes)
                    tar.write({"__key__": f"s{4 * shard + number:07d}", "webp": picture.getvalue(), "cls": label})
    (folder / "tier.toml").write_text(TIER.format(name=REPOSITORY))


def gauntlet(*arguments: object, code: int = 0) -> str:
    """One command in this process: its output."""
    from typer.testing import CliRunner

    from vlm_gauntlet.cli.main import app

    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exit_code != code:
        raise SystemExit(f"gauntlet {arguments}: exit {result.exit_code}\n{result.output}\n{result.exception!r}")
    return result.output


def bits(folder: Path) -> dict[str, str]:
    """Key -> digest of the results."""
    from vlm_gauntlet.suites.journal import Journal

    return {o.key: o.bits_digest for o in Journal(folder).outcomes()}


def run(folder: Path) -> dict[str, Any]:
    """The night, the shards and what is to be compared, as plain values."""
    tier, found = folder / "tier.toml", {}
    asked = ("--tier", tier, "--outcomes")
    planned = (
        *asked,
        folder / "night",
        "--passes",
        1000,
        "--budget",
        "1h",
        "--method",
        "undefended",
        "--method",
        "ttc",
    )
    found["plan"] = json.loads(gauntlet("plan", *planned, "--json"))
    found["night"] = gauntlet("night", *planned, "--out", folder / "site", "--report", folder)
    found["report"], found["text"] = json.loads((folder / "night.json").read_text()), (folder / "night.md").read_text()
    found["pages"] = sorted(p.name for p in (folder / "site").iterdir())
    for part in ("1", "2"):
        gauntlet("run", *asked, folder / part, "--shard", f"{part}/2")
    found["merge"] = gauntlet("merge", folder / "1", folder / "2", "--out", folder / "merged")
    found["bits"] = {name: bits(folder / name) for name in ("1", "2", "merged", "night")}
    return found


def main() -> None:
    """Fills the folder, then does everything in a process that never saw another hub."""
    folder, architecture = Path(sys.argv[1]).absolute(), (*sys.argv[2:], "")[0]
    if "HF_HUB_OFFLINE" not in os.environ:
        shutil.rmtree(folder, ignore_errors=True)
        fill(folder, architecture)
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub"), "GAUNTLET_DATA": str(folder / "data"),
                   "XDG_CACHE_HOME": str(folder / "cache")}  # fmt: skip
        os.execve(sys.executable, [sys.executable, "-m", "tests.suites.offline_night", *sys.argv[1:]],
                  {**os.environ, **offline})  # fmt: skip
    print(json.dumps(run(folder)))


if __name__ == "__main__":
    main()
