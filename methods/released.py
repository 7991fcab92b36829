"""Weights that authors released, from a method's `released.toml`: `fare+released=eps1` is a row without a training.

They are read from the hub's cache or from `<data root>/weights/`, and fetched only where the network is allowed.
"""

import tomllib
from functools import cache
from pathlib import Path
from urllib.error import URLError

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.checkpoints import check_digest, read_state, with_state
from vlm_gauntlet.fixtures.datasets import target_root
from vlm_gauntlet.fixtures.errors import UnavailableError, reading, unknown_name
from vlm_gauntlet.fixtures.hub import ALLOW, fetch, network_allowed
from vlm_gauntlet.fixtures.parts import is_there

HERE = Path(__file__).parent
SWITCH, FILE = "released", "released.toml"


class Released(BaseModel):
    """One file of weights.

    Args:
        id: in `+released=<id>`; each backbone has its own.
        backbone: that they were tuned from, which makes everything but the weights.
        variant: what claims call this model; empty where they name no variant.
        trained_on: id of the data set.
        hub, revision: a repository and the full commit; else `url`.
        file: its name.
        url: a direct link; `by_hand` where no program can follow it.
        sha256: where a public source says it; else the digest of what was loaded stands in the cell's key alone.
        licence: of the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[\w.-]+$")
    backbone: str
    variant: str = ""
    trained_on: str = "unknown"
    hub: str = ""
    revision: str = Field(default="", pattern=r"^([0-9a-f]{40})?$")
    file: str = Field(pattern=r"^[\w.-]+$")
    url: str = ""
    by_hand: bool = False
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    licence: str = Field(min_length=1)

    @model_validator(mode="after")
    def _one_place(self) -> "Released":
        if bool(self.hub) != bool(self.revision) or bool(self.hub) == bool(self.url):
            raise ValueError("give hub and revision, or url")
        return self


@cache
def read_released(folder: Path) -> tuple[Released, ...]:
    """The released weights of a method's folder; none where it has no such file.

    Raises:
        GauntletError: the file does not validate.
    """
    path = folder / FILE
    with reading("released weights", path, expected="[[released]] tables, see Released", fix="compare with fare's"):
        tables = tomllib.loads(path.read_text(encoding="utf-8"))["released"] if is_there(path) else []
        found = tuple(Released.model_validate(table) for table in tables)
        if len({(each.id, each.backbone) for each in found}) < len(found):
            raise ValueError("two of one id on one backbone")
        return found


def released(folder: Path, name: str, backbone: str) -> Released:
    """The weights of an id for a backbone.

    Raises:
        UnavailableError: the id is known, and its backbone is another.
        GauntletError: the method has released no such weights.
    """
    known = read_released(folder)
    if name not in {each.id for each in known}:
        raise unknown_name("released weights", name, {each.id for each in known}, f"+{SWITCH}=")
    for each in known:
        if (each.id, each.backbone) == (name, backbone):
            return each
    others = ", ".join(sorted({each.backbone for each in known if each.id == name}))
    raise UnavailableError(
        f"no released weights {name!r} for {backbone}", expected=others, where="--backbone", fix=f"one of: {others}"
    )


def of_label(label: str, backbone: str) -> Released | None:
    """The released weights behind an outcome's method, `fare+released=eps1`; None where it is another kind of row."""
    stem, _, switches = label.partition("+")
    name = switches.removeprefix(f"{SWITCH}=")
    if name == switches or not stem.isidentifier():
        return None
    return next((w for w in read_released(HERE / stem) if (w.id, w.backbone) == (name, backbone)), None)


def named(method: str, variant: str, backbone: str, trained_on: str) -> str:
    """The name under which the model of a claim runs from released weights; empty where nobody released it."""
    asked = (variant, backbone, trained_on)
    found = [w for w in read_released(HERE / method) if (w.variant, w.backbone, w.trained_on) == asked]
    return f"{method}+{SWITCH}={found[0].id}" if found else ""


def place(folder: Path, which: Released) -> Path:
    """The file on this machine, its digest checked; fetched first where that is allowed.

    Raises:
        UnavailableError: it is not here, and may not or cannot be fetched; says from where.
        GauntletError: its digest is another than the pinned one.
    """
    path = _on_the_hub(which) if which.hub else _by_link(folder, which)
    if which.sha256:
        check_digest(path, which.sha256)
    return path


def _on_the_hub(which: Released) -> Path:
    fix = f"{ALLOW}=1 or --allow-network, or once: hf download {which.hub} {which.file} --revision {which.revision}"
    only = not network_allowed()
    return fetch(which.hub, which.revision, [which.file], kind="model", local_only=only, fix=fix) / which.file


def _by_link(folder: Path, which: Released) -> Path:
    path = target_root() / "weights" / folder.name / which.file
    if path.is_file():
        return path
    said, way = "are not on this machine", f"fetch {which.url} to that place"
    if network_allowed() and not which.by_hand:
        from torch.hub import download_url_to_file

        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download_url_to_file(which.url, str(path))
        except (URLError, OSError) as error:
            said = f"could not be fetched: {error}"
        else:
            return path
    raise UnavailableError(
        f"released weights {which.id!r} of {folder.name} {said}", expected=f"a file ({which.licence})", where=str(path),
        fix=way if which.by_hand else f"{way}, or {ALLOW}=1 or --allow-network",
    )  # fmt: skip


def tower_of(folder: Path, name: str, backbone: Backbone) -> Backbone:
    """The backbone with the released weights in place of its own, with errors as for `released` and `place`."""
    path = place(folder, released(folder, name, backbone.name))
    return with_state(backbone, *read_state(path), path)
