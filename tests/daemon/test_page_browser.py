"""The page in a real browser: its policy refuses nothing of it, and it fits a narrow screen."""

from __future__ import annotations

import html
import os
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from poller.daemon import page
from poller.daemon.status import KernelFacts
from tests.support import statuses
from tests.support.endpoints import StatusServer
from tests.support.process import require

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--hide-scrollbars",
]
REFUSED = "Content Security Policy"
EVERY = {
    "full": statuses.full(),
    "large": statuses.large(),
    "failing": statuses.failing(),
    "standing by": statuses.standing_by(),
    "hostile": statuses.hostile(),
}


def browse(directory: Path, url: str, *flags: str) -> tuple[str, str]:
    """Return what a new browser makes of a document, and what it complains of."""
    command = [require("chromium"), *FLAGS, f"--user-data-dir={directory}", *flags, url]
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    env = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[StatusServer]:
    async def look_up(kernel: str) -> KernelFacts:
        return statuses.facts(kernel)

    with StatusServer(statuses.full(), look_up) as made:
        yield made


@pytest.mark.parametrize("name", EVERY)
def test_the_browser_refuses_nothing_and_runs_nothing(
    server: StatusServer, tmp_path: Path, name: str
) -> None:
    server.status = EVERY[name]
    query = urllib.parse.urlencode({"kernel": statuses.EVIL})
    document, complaints = browse(tmp_path, f"{server.url}/?{query}", "--dump-dom")
    assert REFUSED not in complaints
    assert "<h1 " in document
    assert "<script" not in document


def test_the_browser_refuses_what_somebody_would_smuggle_in(
    server: StatusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smuggled = "<script>document.title='smuggled'</script><p style='color:red'>x</p>"
    monkeypatch.setattr(page, "render", lambda *given: f"<title>x</title>{smuggled}")
    document, complaints = browse(tmp_path, f"{server.url}/", "--dump-dom")
    assert complaints.count(REFUSED) >= 2
    assert "<title>x</title>" in document


def overflows(directory: Path, documents: list[tuple[str, int]]) -> list[int]:
    """Return by how many pixels each document is wider than a screen of its width."""
    outer = directory / "outer.html"
    # The window of a headless browser has a least width; a frame has none.
    frames = (
        f'<iframe width="{width}" height="800" srcdoc="{html.escape(document)}" '
        'onload="this.name = this.contentDocument.documentElement.scrollWidth"></iframe>'
        for document, width in documents
    )
    outer.write_text("".join(frames))
    shown, _ = browse(directory / "profile", outer.as_uri(), "--dump-dom")
    found = re.findall(r'<iframe [^>]*name="(\d+)"', shown)
    assert len(found) == len(documents), shown[:500]
    return [int(shown_px) - width for shown_px, (_, width) in zip(found, documents, strict=True)]


def test_the_page_fits_every_screen(tmp_path: Path) -> None:
    documents = {
        (name, width): page.render(EVERY[name], statuses.kernel_id(1), statuses.facts())
        for name in ("full", "large", "hostile")
        for width in (360, 700, 1000)
    }
    wide = overflows(tmp_path, [(document, width) for (_, width), document in documents.items()])
    too_wide = {place: px for place, px in zip(documents, wide, strict=True) if px > 0}
    assert too_wide == {}


def test_a_page_that_is_too_wide_would_be_noticed(tmp_path: Path) -> None:
    (too_wide, fits) = overflows(tmp_path, [(f"<pre>{'x' * 500}</pre>", 360), ("<p>x", 360)])
    assert too_wide > 0
    assert fits <= 0


def test_light_and_dark_are_drawn_differently(server: StatusServer, tmp_path: Path) -> None:
    server.status = statuses.standing_by()
    drawn = []
    for scheme in (1, 0):  # Blink's numbers of light and dark
        image = tmp_path / f"{scheme}.png"
        browse(
            tmp_path / f"profile-{scheme}",
            f"{server.url}/?kernel=",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={image}",
            "--window-size=800,600",
        )
        drawn.append(image.read_bytes())
    assert all(one.startswith(b"\x89PNG") for one in drawn)
    assert drawn[0] != drawn[1]
