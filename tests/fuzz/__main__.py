"""`python -m tests.fuzz`: feeds every parser with spoiled files; only a GauntletError may come out.

Exit status: 0 where nothing else came out, 1 where something did; the input is then printed as hypothesis shrank it.
"""

import argparse
import sys
import time
import traceback

from .run import fuzz
from .targets import targets


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Do the parsers stand bad files?")
    parser.add_argument("-k", metavar="WORD", default="", help="only parsers whose name holds this")
    parser.add_argument("--inputs", type=int, default=100_000, help="in total (default: 100000)")
    asked = parser.parse_args()
    chosen = [target for name, target in targets().items() if asked.k in name]
    if not chosen:
        parser.error(f"no parser's name holds {asked.k!r}; there are: {', '.join(targets())}")
    each, total, crashed = -(-asked.inputs // len(chosen)), 0, []
    for target in chosen:
        start = time.monotonic()
        try:
            found = fuzz(target, each, again=False)
        except Exception:
            traceback.print_exc()
            crashed.append(target.name)
            print(f"{target.name:28} CRASHED", flush=True)
            continue
        total += found.total()
        seconds = time.monotonic() - start
        print(f"{target.name:28} {found['read']:6} read {found['refused']:6} refused {seconds:6.1f} s", flush=True)
    print(f"{total} inputs over {len(chosen)} parsers; untyped crashes in: {', '.join(crashed) or 'none'}")
    return bool(crashed)


if __name__ == "__main__":
    sys.exit(main())
