"""A folder for an archive with a DOI: outcomes as they are, rows, who made it, and a digest of every file."""

import json
from collections.abc import Mapping, Sequence
from hashlib import file_digest
from pathlib import Path

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import write_atomically, writing
from vlm_gauntlet.fixtures.records import Outcome

TITLE = "VLM Gauntlet: outcomes of adversarial defences of vision-language models"
SUMS = "SHA256SUMS"


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Writes texts by their names, each whole or not at all."""
    with writing(folder, fix="make room, or choose another --out"):
        for name, text in files.items():
            write_atomically(folder / name, text.encode())


def write_deposit(folder: Path, outcomes: Sequence[Outcome], tables: Mapping[str, str]) -> None:
    """Fills a folder that is absent or empty.

    Args:
        folder: for the archive.
        outcomes: those to keep.
        tables: further files by name, such as `results.csv`.

    Raises:
        GauntletError: something lies in the folder.
    """
    if folder.exists() and any(folder.iterdir()):
        raise GauntletError(
            f"{folder} is not empty", expected="no folder, or an empty one", where="--out", fix="choose another folder",
        )  # fmt: skip
    newest = max((o.provenance.made for o in outcomes), key=lambda at: at.isoformat())
    about = {
        "title": TITLE, "upload_type": "dataset", "publication_date": f"{newest:%Y-%m-%d}",
        "description": f"{len(outcomes)} outcomes of {len({o.cell.method for o in outcomes})} methods: what each "
        "sample gave under each attack, with versions and commands. "
        "`gauntlet verify FILE` computes samples of any again.",
        "creators": [{"name": "The VLM Gauntlet maintainers"}], "license": "apache-2.0",
        "keywords": ["adversarial robustness", "CLIP", "reproducibility"],
    }  # fmt: skip
    files = {f"outcomes/{o.key}.json": o.model_dump_json(indent=1) + "\n" for o in outcomes}
    write_files(folder, {**files, **tables, ".zenodo.json": json.dumps(about, indent=1) + "\n"})
    write_files(folder, {SUMS: checksums(folder)})


def checksums(folder: Path) -> str:
    """Lines that `sha256sum --check` reads, of every file of a folder but the list itself."""
    lines = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS):
        with path.open("rb") as file:
            lines.append(f"{file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)
