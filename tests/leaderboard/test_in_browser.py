"""The pages in a real browser: nothing sticks out of the window, on a desk and on a phone."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vlm_gauntlet.leaderboard.site import build_site

from .factory import outcome, retrieved
from .test_site import board, found_again

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if os.environ.get("CI") != "true" and BROWSER is None:
    pytest.skip("no chromium on this machine", allow_module_level=True)

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

# A page around them measures them through a frame of the wanted width.
MEASURE = """<!doctype html><title>measuring</title>{frames}<script>
onload = () => document.title = [...document.querySelectorAll("iframe")].map(
  f => f.contentDocument.documentElement.scrollWidth + "/" + f.contentWindow.innerWidth).join(" ");
</script>"""


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_the_window(tmp_path: Path, width: int) -> None:
    assert BROWSER, "CI must have chromium"
    long = outcome("1" * 8, method="a_package.with.a_long.path:AndALongerClassName", dataset="a_data_set_of_many_words")
    whole = retrieved((0,) * 400, (0,) * 400, method=long.cell.method, dataset=long.cell.dataset, attack="co-attack")
    site = build_site([*board(), long], tmp_path / "site", retrieval=[*found_again(), whole]).parent
    found = sorted(site.rglob("*.html"))
    for page in found:  # opened details must fit too
        page.write_text(page.read_text().replace("<details", "<details open"))
    frame = '<iframe src="site/{}" style="width:{}px;height:800px;border:0"></iframe>'
    frames = "".join(frame.format(p.relative_to(site).as_posix(), width) for p in found)
    (tmp_path / "measure.html").write_text(MEASURE.format(frames=frames))
    shown = subprocess.run(
        [BROWSER, *QUIET, "--allow-file-access-from-files", f"--window-size={max(width, 500)},900",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "measure.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    title = re.search(r"<title>([\d/ ]+)</title>", shown)
    assert title, shown[:500]
    measured = [tuple(map(int, pair.split("/"))) for pair in title[1].split()]
    assert len(measured) == len(found) and {window for _, window in measured} == {width}
    assert {p.name: m for p, m in zip(found, measured, strict=True) if m[0] > m[1]} == {}
