"""The built site in headless Chromium: for the tests of the pages, and for looking at them.

Pictures of every page at three widths and in the dark, in _build/screenshots; of one; and the
README's picture:

    .venv/bin/python tests/browsing.py
    .venv/bin/python tests/browsing.py algorithm --width 390 --dark
    .venv/bin/python tests/browsing.py book/index --element "article img" \\
        --out book/_static/preview.png

What every page asks for when it is opened, and how much that is:

    .venv/bin/python tests/browsing.py --weigh
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import gzip
import http.server
import io
import json
import shutil
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from circuitbook.publishing.links import read_page, top_of

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build/html"
WIDTHS = (390, 820, 1280)  # a phone, a tablet, a laptop
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def missing() -> str | None:
    """Why the site cannot be looked at here; None if it can."""
    return no_browser() if (SITE / "index.html").is_file() else "there is no built site (make book)"


def no_browser() -> str | None:
    """Why no browser can be driven here; None if one can."""
    if not any(map(shutil.which, CHROMIUM)) or not shutil.which("chromedriver"):
        return "there is no Chromium with its chromedriver on this machine"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (pip install -r requirements.txt)"
    return None


def pages() -> list[str]:
    """The pages of the built site, as addresses relative to its top."""
    found = (file.relative_to(SITE) for file in sorted(SITE.rglob("*.html")))
    return [page.as_posix() for page in found if page.parts[0] not in ("_static", "index.html")]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves the folder on loopback; gives its address."""

    lost = folder / "404.html"  # its links begin with the path that the site has on its host
    prefix = top_of(read_page(lost.read_text("utf8")), lost.name) if lost.is_file() else "/"

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return super().translate_path("/" + path.removeprefix(prefix).lstrip("/"))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def weight(urls: list[str], folder: Path) -> tuple[int, int]:
    """Bytes of what is asked for of a site in `folder`: as they are, and as a server sends them."""
    paths = {urllib.parse.urlsplit(url).path.lstrip("/") for url in urls if url.startswith("http")}
    contents = [(folder / urllib.parse.unquote(path)).read_bytes() for path in sorted(paths)]
    return sum(map(len, contents)), sum(len(gzip.compress(content)) for content in contents)


class Browser:
    """One headless Chromium that no other host can be reached from.

    Remembers what its pages asked for and complained of.
    """

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = next(filter(None, map(shutil.which, CHROMIUM)))
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(
            options=options, service=Service(shutil.which("chromedriver"))
        )

    def close(self) -> None:
        self.driver.quit()

    def open(self, address: str, width: int = 1280, dark: bool = False) -> None:
        """Opens a page and waits until all that it draws by itself is drawn."""
        self.resize(width)
        self.driver.get(
            "about:blank"
        )  # else an address that differs after its # alone would load nothing
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        # before the page's own scripts, which read the choice
        mode = "dark" if dark else "light"
        script = "".join(f'localStorage.setItem("{name}", "{mode}");' for name in ("mode", "theme"))
        added = self.driver.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": f"try {{ {script} }} catch {{}}"}
        )
        self.driver.get(address)
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
        self.wait()

    def wait(self, at_most: float = 15) -> None:
        """Until no view is empty and nothing on the page has changed its size for a moment."""
        end, before = time.monotonic() + at_most, None
        while time.monotonic() < end:
            now = self.run(
                "return document.readyState + document.documentElement.scrollHeight + "
                "[...document.querySelectorAll('.light-card[role=group]')]"
                ".map(v => v.querySelectorAll('svg, canvas, img, select').length > 0)"
            )
            if now == before and now.startswith("complete") and "false" not in now:
                return
            before = now
            time.sleep(0.25)

    def resize(self, width: int, height: int = 900) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def click(self, css: str) -> None:
        self.driver.find_element("css selector", css).click()

    def press(self, css: str, *keys: str) -> None:
        """Keys by selenium's names for them: press("input", "LEFT", "ENTER")"""
        from selenium.webdriver.common.keys import Keys

        self.driver.find_element("css selector", css).send_keys(
            *(getattr(Keys, key) for key in keys)
        )

    def complaints(self) -> list[str]:
        """What the console says since the page was opened, in the words of the browser."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING")
        ]

    def requests(self) -> tuple[list[str], list[str]]:
        """What the page asked for since it was opened, and which of it failed."""
        asked, failed = {}, []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            event, about = message["method"], message["params"]
            if event == "Network.requestWillBeSent":
                asked[about["requestId"]] = about["request"]["url"]
            elif event == "Network.loadingFailed" and not about.get("canceled"):
                failed.append(f"{asked.get(about['requestId'])}: {about['errorText']}")
            elif event == "Network.responseReceived" and about["response"]["status"] >= 400:
                failed.append(f"{about['response']['url']}: {about['response']['status']}")
        return list(asked.values()), failed

    def picture(self, file: Path, tallest: int = 16000) -> None:
        """The whole page, from top to bottom, at the width it has."""
        width = self.run("return innerWidth")
        self.resize(width, min(tallest, self.run("return document.documentElement.scrollHeight")))
        self.wait()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(
            base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"])
        )
        self.resize(width)

    def picture_of(self, selector: str, file: Path) -> None:
        """The first element that `selector` finds, twice as fine, in few colours (a small file)."""
        from PIL import Image

        box = self.run(
            "const b = document.querySelector(arguments[0]).getBoundingClientRect(); "
            "return {x: b.x + scrollX - 8, y: b.y + scrollY - 8, "
            "width: b.width + 16, height: b.height + 16, scale: 2}",
            selector,
        )
        taken = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"clip": box, "captureBeyondViewport": True}
        )["data"]
        picture = Image.open(io.BytesIO(base64.b64decode(taken))).convert("RGB")
        picture.quantize(64, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes pictures of the built site's pages.")
    parser.add_argument(
        "pages", nargs="*", help="those with one of these in their name (default: all)"
    )
    parser.add_argument(
        "--width", type=int, action="append", help=f"in pixels; may be repeated (default: {WIDTHS})"
    )
    parser.add_argument(
        "--dark",
        action="store_true",
        help="in the dark only (default: light, and the widest in the dark, too)",
    )
    parser.add_argument(
        "--element",
        metavar="CSS",
        help="only this element of the first such page, into the file --out",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "_build/screenshots",
        help="folder, or file (default: _build/screenshots)",
    )
    parser.add_argument("--weigh", action="store_true", help="a table of bytes and requests")
    args = parser.parse_args()
    if why := missing():
        raise SystemExit(f"error: {why}")
    chosen = [
        page for page in pages() if not args.pages or any(part in page for part in args.pages)
    ]
    if not chosen:
        asked, known = " or ".join(args.pages), ", ".join(pages())
        raise SystemExit(f"error: no page has {asked} in its name; there are {known}")
    widths = args.width or WIDTHS
    browser = Browser()
    try:
        with served(SITE) as top:
            if args.element:
                browser.open(f"{top}/{chosen[0]}", widths[-1], args.dark)
                return browser.picture_of(args.element, args.out)
            if args.weigh:
                print("| page | KB | KB, gzipped | requests |\n|---|---|---|---|")
            for page in chosen:
                if args.weigh:
                    browser.open(f"{top}/{page}")
                    urls, _ = browser.requests()
                    raw, packed = (round(size / 1000) for size in weight(urls, SITE))
                    asked = sum(url.startswith("http") for url in urls)
                    print(f"| {page} | {raw} | {packed} | {asked} |", flush=True)
                    continue
                for width, dark in [(w, args.dark) for w in widths] + (
                    [] if args.dark else [(max(widths), True)]
                ):
                    browser.open(f"{top}/{page}", width, dark)
                    name = page.removesuffix(".html").replace("/", "-")
                    file = args.out / f"{name}-{width}{'-dark' if dark else ''}.png"
                    browser.picture(file)
                    print(
                        file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file,
                        flush=True,
                    )
    finally:
        browser.close()


if __name__ == "__main__":
    main()
