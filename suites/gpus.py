"""One GPU a worker: which one a process may see, settled before CUDA wakes up.

torch reads CUDA_VISIBLE_DEVICES when it first looks for a GPU. Whoever sets it later changes nothing, so that nothing
here imports torch.
"""

import os
import subprocess
from collections.abc import MutableMapping
from pathlib import Path

VISIBLE, WORKER = "CUDA_VISIBLE_DEVICES", "PYTEST_XDIST_WORKER"
DRIVER = Path("/proc/driver/nvidia/gpus")


def gpus(environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them; asks the driver, not CUDA."""
    given = environment.get(VISIBLE)
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        return names[: names.index("-1")] if "-1" in names else [name for name in names if name]
    if DRIVER.is_dir():
        return [str(number) for number, _ in enumerate(sorted(DRIVER.iterdir()))]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


def pin(device: str, environment: MutableMapping[str, str] = os.environ) -> str:
    """Lets a pytest worker see one GPU alone, in turn; returns its name, or nothing where there is nothing to pin.

    Args:
        device: what the run asks for; only `cuda`, which names no GPU, is spread.
        environment: of this process.
    """
    worker = environment.get(WORKER, "")
    if device != "cuda" or not worker.removeprefix("gw").isdecimal():
        return ""
    if not (known := gpus(environment)):
        return ""
    environment[VISIBLE] = chosen = known[int(worker.removeprefix("gw")) % len(known)]
    return chosen
