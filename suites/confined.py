"""What a process may not do where a defence from outside runs: remember on disk, look up labels.

It stops what is written in Python. Machine code and system calls of its own it does not stop.
"""

import os
import resource
import stat
import sys

from vlm_gauntlet.fixtures.datasets import EMBEDDED, target_root
from vlm_gauntlet.fixtures.errors import ContractError

NAMES = frozenset({"os.mkdir", "os.rename", "os.symlink", "os.link", "os.remove", "os.rmdir", "os.utime", "os.chmod"})


def write_no_files() -> None:
    """From now on no file grows in this process, and none gets a name; what it prints into a file is lost."""
    for stream in (1, 2):
        if stat.S_ISREG(os.fstat(stream).st_mode):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.dont_write_bytecode = True  # of modules that are imported late
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event in NAMES:
            raise ContractError(
                f"{event}({arguments[0]!r}) in a call", expected="answers that leave nothing behind",
                where="a defence from outside", fix="write files, if any, before it is built",
            )  # fmt: skip

    sys.addaudithook(refuse)


def open_no_data() -> None:
    """From now on this process opens no data set: beside the pictures lie their labels, and scoring needs neither."""
    folders = tuple(f"{folder.resolve()}{os.sep}" for folder in (EMBEDDED, target_root() / "wds"))

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path.startswith(folders):
                raise ContractError(
                    f"{path} opened where a defence is scored", expected="answers from the images alone",
                    where="a defence", fix="a defence may not read the data set that it is tested on",
                )  # fmt: skip

    sys.addaudithook(refuse)
