"""What computed an outcome: the device with its memory, the system, driver and CUDA."""

import platform
import re
from functools import cache
from pathlib import Path

import torch

from vlm_gauntlet.fixtures.records import Outcome

DRIVER = Path("/proc/driver/nvidia/version")


def system_of(device: str) -> dict[str, str]:
    """What an outcome records beside the packages: system, number format; on a GPU driver, CUDA and cuDNN."""
    found = {"os": platform.platform(terse=True), "dtype": "float32, no TF32"}
    if device.startswith("cuda"):
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(cudnn), "nvidia-driver": driver_version()}
    return found


@cache
def driver_version(path: Path = DRIVER) -> str:
    """Of the NVIDIA driver, from its own file; `unknown` where there is none."""
    try:
        told = re.search(r"Kernel Module.*?(\d+(?:\.\d+)+)", path.read_text())
    except OSError:
        return "unknown"
    return told[1] if told else "unknown"


def properties(outcome: Outcome) -> dict[str, object]:
    """What a JUnit report tells of a cell."""
    o, attack = outcome, outcome.attack_cost
    return {
        "key": o.key, "method": o.cell.method, "backbone": o.cell.backbone, "dataset": o.cell.dataset,
        "protocol": o.cell.protocol.id, "seed": o.cell.seed, "n": o.n, "clean_accuracy": round(o.clean_accuracy, 4),
        "attacked_accuracy": round(o.attacked_accuracy, 4), "attack_forward": attack.forward,
        "attack_backward": attack.backward, "attack_seconds": attack.seconds, "device": o.provenance.device,
        "indicators": " ".join(i.name for i in o.indicators if i.fired),
    }  # fmt: skip
