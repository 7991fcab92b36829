"""Who says to run the cells: a statement that outcomes carry and the board shows, no proof of anything."""

import os
from typing import get_args

from vlm_gauntlet.fixtures.errors import unknown_name
from vlm_gauntlet.fixtures.records import Maker

VARIABLE = "GAUNTLET_MAKER"


def maker_named(name: str, where: str) -> Maker:
    """The maker of this name.

    Raises:
        GauntletError: it is none that a record knows.
    """
    known: tuple[Maker, ...] = get_args(Maker)
    found = next((maker for maker in known if maker == name), None)
    if found is None:
        raise unknown_name("maker", name, known, where)
    return found


def maker_here() -> Maker:
    """What the environment says; `unknown` where it says nothing.

    Raises:
        GauntletError: it says something else.
    """
    return maker_named(os.environ.get(VARIABLE) or "unknown", VARIABLE)
