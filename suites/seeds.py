"""The seed of a run. Ranked nights draw one that no defence can foretell; their outcomes tell it afterwards."""

import os
import secrets
from pathlib import Path

from vlm_gauntlet.fixtures.errors import GauntletError

from .tiers import Tier


def seed_of(tier: Tier, given: int | None, folder: Path) -> int:
    """The seed that was asked for, else the tier's own; a secret one is drawn once for a folder of outcomes.

    It stays in the folder, so that a killed night goes on with it, and all who share the folder agree.

    Args:
        tier: what runs.
        given: of the command line, which wins.
        folder: of the outcomes.

    Raises:
        GauntletError: the kept seed is no number.
    """
    if given is not None or not tier.secret_seed:
        return tier.seed if given is None else given
    place = folder / f".seed-{tier.name}"
    folder.mkdir(parents=True, exist_ok=True)
    own = place.with_name(f"{place.name}.{os.getpid()}")
    own.write_text(str(secrets.randbelow(2**31)))
    try:
        os.link(own, place)  # whole or not at all, and only the first one
    except FileExistsError:
        pass
    finally:
        own.unlink()
    kept = place.read_text()
    if not kept.isdecimal():
        raise GauntletError(
            f"a seed that reads {kept[:20]!r}", expected="a number", where=str(place), fix="remove the file"
        )
    return int(kept)
