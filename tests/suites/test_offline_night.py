"""The whole night runs where neither weights nor data nor a network are: on stand-ins, through the real code."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_night_on_stand_ins(tmp_path: Path) -> None:
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GAUNTLET_"))}
    command = [sys.executable, "-m", "tests.suites.offline_night", str(tmp_path / "night")]
    made = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-3000:]
    found = json.loads(made.stdout)
    report, bits = found["report"], found["bits"]
    count, here = len(report["ends"]), [c["key"] for c in found["plan"]["cells"] if c["dataset"] == "eurosat"]
    assert report["cells"] == {"ran": count, "taken": 0, "not run": 0, "failed": 0, "not reached": 0} and count >= 5
    unknown = {c["dataset"] for c in found["plan"]["cells"] if c["seconds"] is None}
    assert all(name.endswith("_coop") for name in unknown), "splits whose size no source that was read says"
    assert all(c["seconds"] > 0 for c in found["plan"]["cells"] if c["dataset"] not in unknown)
    limits = {6: 6, 8: 1_000_000}  # of the tier, and of a claim about the whole set
    assert sorted(here) == sorted(f"{e['cell']} [{limits[e['n']]}]" for e in report["ends"])
    assert "data sets that are not here: " in found["night"] and "cifar10" in found["night"], "no hour is spent on them"
    tested = [c for c in report["claims"] if c["verdict"] == "not checkable"]
    assert len(tested) == report["verdicts"]["not checkable"] == 1
    assert all(c["reason"].startswith("Stand-in weights: ") for c in tested)
    assert "index.html" in found["pages"] and "| 8 |" in found["text"] and "Stand-in weights" in found["text"]
    assert len(bits["1"]) + len(bits["2"]) == len(bits["merged"]) == 4 and not bits["1"].keys() & bits["2"].keys()
    assert bits["merged"].items() <= bits["night"].items(), "two shards, merged, are the one run bit for bit"
