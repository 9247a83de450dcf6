"""A headless Chromium for tests of the pages' scripts: WebDriver is JSON over HTTP, so the standard library will do."""

import json
import re
import shutil
import subprocess
from urllib.request import ProxyHandler, Request, build_opener

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"        # the key under which WebDriver returns an element
KEYS = {"Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015", "Enter": "\ue007", "Escape": "\ue00c", "End": "\ue010"}
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1000,1400")


class Missing(Exception):
    """There is no browser that can be driven here."""


class Browser:
    """with Browser() as browser: browser.open(url); browser.click("button"); browser.run("return document.title")"""

    def __enter__(self) -> "Browser":
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        driver = shutil.which("chromedriver")
        if not (chromium and driver):
            raise Missing("browser tests need " + ("chromedriver" if chromium else "chromium" if driver else "chromium and chromedriver"))
        self.process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            port = next((m[1] for line in self.process.stdout if (m := re.search(r"successfully on port (\d+)", line))), None)
            self.address, self.ask = f"http://127.0.0.1:{port}", build_opener(ProxyHandler({})).open
            wish = {"goog:chromeOptions": {"binary": chromium, "args": OPTIONS}, "goog:loggingPrefs": {"browser": "ALL"}}
            self.address += "/session/" + self._send("POST", "/session", {"capabilities": {"alwaysMatch": wish}})["sessionId"]
        except OSError as error:
            self.process.kill()
            raise Missing(f"chromium does not start: {error}") from error
        return self

    def __exit__(self, *_) -> None:
        try:
            self._send("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait()
            self.process.stdout.close()

    def _send(self, method: str, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        with self.ask(Request(self.address + path, data, {"Content-Type": "application/json"}, method=method), timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self._send("POST", "/url", {"url": "about:blank"})                # else a new hash alone would load nothing
        self._send("POST", "/url", {"url": url})

    def run(self, script: str, *args):
        return self._send("POST", "/execute/sync", {"script": script, "args": args})

    def _find(self, css: str) -> str:
        return self._send("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css: str) -> None:
        self._send("POST", f"/element/{self._find(css)}/click", {})

    def press(self, css: str, *keys: str) -> None:
        self._send("POST", f"/element/{self._find(css)}/value", {"text": "".join(KEYS[key] for key in keys)})

    def complaints(self) -> list[str]:
        """Warnings and errors in the console since the last call."""
        lines = self._send("POST", "/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] in ("WARNING", "SEVERE")]
