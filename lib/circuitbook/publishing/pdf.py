"""The whole book as one PDF: Sphinx puts all pages into one, headless Chromium prints it. No LaTeX
is needed."""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from circuitbook.publishing.errors import BuildError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def make_pdf(src: Path, target: Path, browser: str | None = None, seconds: int = 600) -> Path:
    """Prints the book that is staged in `src` (see `build.stage`) to `target`, and returns it.

    browser: a Chromium or Chrome; the first of BROWSERS that is on the path where it is not given.
    Errors: BuildError in plain words; a `target` that was there stays as it was.
    """
    browser = browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser or not shutil.which(browser):
        raise BuildError(
            f"the PDF is printed by a browser, and there is no {browser or 'Chromium or Chrome'} here: "
            "install one, or name it with --browser"
        )
    if not (src / "_config.yml").is_file():
        raise BuildError(f"there is no book in {src}: build it first (make book)")
    with tempfile.TemporaryDirectory(prefix="circuitbook-pdf-") as folder:
        page = _one_page(src, Path(folder), target.with_suffix(".log"))
        printed = Path(folder) / "book.pdf"
        # no-sandbox: it opens nothing but our own page, and in containers its sandbox does not start
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder}/browser",
            "--allow-file-access-from-files",
            "--virtual-time-budget=120000",
            "--no-pdf-header-footer",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--print-to-pdf={printed}",
            page.as_uri(),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise BuildError(f"{browser} did not finish printing within {seconds} s") from None
        if done.returncode or not printed.is_file() or not printed.read_bytes().startswith(b"%PDF"):
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise BuildError(f"{browser} printed no PDF (exit {done.returncode}); it said: {said}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(printed, beside := target.with_suffix(".part"))
        beside.replace(target)
    return target


def _one_page(src: Path, folder: Path, log: Path) -> Path:
    command = [
        sys.executable,
        "-Wignore",
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(src),
        "--path-output",
        str(folder),
        "--builder",
        "custom",
        "--custom-builder",
        "singlehtml",
        "-n",
    ]
    done = subprocess.run(
        command,
        env=os.environ | {"NO_COLOR": "1", "JUPYTER_PLATFORM_DIRS": "1"},
        cwd=folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf8",
    )
    html = folder / "_build/singlehtml"
    written = html / "book/index.html"
    if done.returncode or not written.is_file():
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout, encoding="utf8")
        raise BuildError(f"jupyter-book could not put the pages into one; all it said is in {log}")
    return written.rename(
        html / "book.html"
    )  # its links begin at the top, where the builder should have put it


def add_pdf_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook pdf`."""
    parser.add_argument(
        "--src", type=Path, default=Path("_build/src"), help="the staged book (%(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("_build/circuits-across-training-and-scale.pdf"),
        help="the PDF (%(default)s)",
    )
    parser.add_argument(
        "--browser",
        help=f"which browser prints (default: the first there is of {', '.join(BROWSERS)})",
    )


def pdf_from_arguments(args: argparse.Namespace) -> None:
    """Makes the PDF and says where it is."""
    say = functools.partial(print, flush=True)
    say("all pages into one, then to paper (half a minute)")
    made = make_pdf(args.src.resolve(), args.out.resolve(), args.browser)
    say(f"{args.out}: {made.stat().st_size / 1e6:.1f} MB")
