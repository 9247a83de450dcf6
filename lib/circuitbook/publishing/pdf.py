"""The whole book as one PDF: Sphinx puts all pages into one, headless Chromium prints it. No LaTeX
is needed."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

from circuitbook.publishing.children import run
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.scratch import scratch_folder
from circuitbook.publishing.site import jupyter_book
from circuitbook.publishing.terminal import say
from circuitbook.store.files import write_atomically

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def make_pdf(src: Path, target: Path, *, browser: str | None = None, seconds: int = 600) -> Path:
    """Prints the book that is staged in `src` (see `build.stage`) to `target`, and returns it.

    browser: a Chromium or Chrome; the first of BROWSERS that is on the path where it is not given.
    Errors: BuildError in plain words; a `target` that was there stays as it was.
    """
    browser = browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser or not shutil.which(browser):
        raise BuildError(
            "the PDF is printed by a browser, "
            f"and there is no {browser or 'Chromium or Chrome'} here: "
            "install one, or name it with --browser"
        )
    if not (src / "_config.yml").is_file():
        raise BuildError(f"there is no book in {src}: build it first (make book)")
    with scratch_folder() as folder:
        page = _one_page(src, Path(folder), target.with_suffix(".log"))
        printed = Path(folder) / "book.pdf"
        # no-sandbox: it opens nothing but our own page, and in containers its sandbox does not
        # start
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
            process = run(
                command,
                text=True,
                timeout=seconds,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except subprocess.TimeoutExpired:
            raise BuildError(f"{browser} did not finish printing within {seconds} s") from None
        if process.returncode or not _is_pdf(printed):
            last = (process.stderr.strip().splitlines() or ["nothing"])[-1]
            raise BuildError(
                f"{browser} printed no PDF (exit {process.returncode}); it said: {last}"
            )
        write_atomically(target, printed.read_bytes())
    return target


def _is_pdf(file: Path) -> bool:
    return file.is_file() and file.read_bytes().startswith(b"%PDF")


def _one_page(src: Path, folder: Path, log: Path) -> Path:
    """All pages of the book in one, made by Sphinx in the folder."""
    process = jupyter_book(
        src, folder, "--builder", "custom", "--custom-builder", "singlehtml", log=log
    )
    html = folder / "_build/singlehtml"
    written = html / "book/index.html"
    if process.returncode or not written.is_file():
        raise BuildError(f"jupyter-book could not put the pages into one; all it said is in {log}")
    log.unlink()
    # its links begin at the top, where the builder should have put it
    return written.rename(html / "book.html")


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
    say("all pages into one, then to paper (half a minute)")
    made = make_pdf(args.src.resolve(), args.out.resolve(), browser=args.browser)
    say(f"{args.out}: {made.stat().st_size / 1e6:.1f} MB")
