"""`gauntlet doctor`: what is here, what is missing, what to do."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Finding = tuple[bool, str]
LARGE = 100 << 20  # bytes of shards: more are not looked at sample by sample here


def doctor(as_json: Annotated[bool, typer.Option("--json", help="one JSON array")] = False) -> None:
    """Looks at Python, torch, weights, methods, claims, checkpoints, data and disk.

    Exits with 1 if the fast tier cannot run here, or if something that lies here cannot be used.

    Examples:

      gauntlet doctor

      GAUNTLET_DATA=~/data gauntlet doctor
    """
    checks: list[Callable[[], Finding]] = [_python, _torch, _autoattack, _backbones, _parts, _checkpoints, _data, _disk]
    lines = []
    for check in checks:
        try:
            ok, said = check()
        except Exception as error:  # a doctor does not fall ill
            ok, said = False, f"{type(error).__name__}: {error}"
        lines.append({"check": check.__name__.strip("_"), "ok": ok, "said": said})
        if not as_json:
            typer.echo(f"{'ok  ' if ok else 'WARN'}  {check.__name__.strip('_'):12s} {said}")
    if as_json:
        typer.echo(json.dumps(lines, indent=1))
    if not all(line["ok"] for line in lines):
        raise typer.Exit(1)


def _python() -> Finding:
    return sys.version_info >= (
        3,
        11,
    ), f"{platform.python_version()} ({'3.11 or newer is needed' if sys.version_info < (3, 11) else 'fine'})"


def _torch() -> Finding:
    import open_clip
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU (fast and mini tiers need none)"
    return (
        True,
        f"torch {torch.__version__}, open_clip {open_clip.__version__}, {torch.get_num_threads()} threads, {gpu}",
    )


def _autoattack() -> Finding:
    from vlm_gauntlet.attacks.autoattack import source

    return True, source()


def _backbones() -> Finding:
    from vlm_gauntlet.fixtures.backbones import embedded, load_backbone

    loaded = [load_backbone(name) for name in embedded()]
    return len(loaded) == 2, "digests match: " + ", ".join(f"{b.name} {b.digest[:12]}" for b in loaded)


def _parts() -> Finding:
    from vlm_gauntlet.leaderboard.left_out import left_out
    from vlm_gauntlet.methods.claims import claims
    from vlm_gauntlet.methods.registry import methods

    lost = left_out()
    said = f"{len(methods())} methods, {len(claims())} claims"
    if not lost:
        return True, f"{said}; everything can be used"
    return False, "\n".join(
        [f"{said}; {len(lost)} cannot be used:", *(f"{x.kind} {x.name!r}: {x.error}" for x in lost)]
    )


def _checkpoints() -> Finding:
    from vlm_gauntlet.fixtures.backbones import embedded, load_backbone
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.methods.registry import method, methods

    made, broken = [], []
    for name, defence in methods().items():
        for backbone in (b for b in embedded() if b in defence.card.weights):
            try:
                method(name).build(load_backbone(backbone))
                made.append(f"{name} on {backbone}")
            except GauntletError as error:
                broken.append(f"\n{name} on {backbone}: {error}")
    return bool(made) and not broken, ", ".join(made) + "".join(broken)


def _data() -> Finding:
    """Every set is looked at: its shards, and each sample where that was done before or costs little."""
    from vlm_gauntlet.fixtures.datasets import DATA_ROOT, data_root, datasets, target_root
    from vlm_gauntlet.fixtures.errors import GauntletError

    root, told, fine, notes = data_root(), [], True, 0
    for name, data in datasets().items():
        try:
            if sum(shard.stat().st_size for shard in data.shards) > LARGE:
                told.append(f"\n{name} is large: gauntlet data check {name}" if data.contents else "")
            else:
                notes += bool(data.checked().notes)
        except GauntletError as error:
            fine = False
            told.append(f"\n{name} cannot be used: {error}")
    if root is None and os.environ.get(DATA_ROOT):
        fine = False
        told.append(f"\n{DATA_ROOT} names {target_root()}, where no folder wds is")
    unset = "unset" if not os.environ.get(DATA_ROOT) else "wrong"
    natural = f"{root}" if root else f"no natural images ({DATA_ROOT} is {unset}): the mini tier will say `not run`"
    unusual = f"; {notes} with notes (`gauntlet data check NAME`)" if notes else ""
    return fine, f"{', '.join(datasets())}; {natural}{unusual}{''.join(told)}"


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return free > 1, f"{free:.0f} GiB free here" + ("" if free > 1 else "; outcomes and pages need some room")
