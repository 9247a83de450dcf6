"""The site: jupyter-book over the staged sources, every warning and every dead link an error."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from circuitbook.publishing.children import run
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import duration
from circuitbook.publishing.fingerprints import contents, package_contents
from circuitbook.publishing.icons import keep_used_icons
from circuitbook.publishing.links import check_site, listed
from circuitbook.publishing.previews import add_previews
from circuitbook.publishing.publish import finish
from circuitbook.publishing.roles import mend_roles
from circuitbook.publishing.terminal import say
from circuitbook.store.provenance import versions


def build_site(out: Path) -> Path:
    """jupyter-book over `out`/src, every warning and every dead link an error; the new site
    replaces `out`/html only when it is whole."""
    html = out / "html"
    stamp = out / "site.sha256"
    made_of = (contents(out / "src"), versions(), package_contents())
    current = hashlib.sha256(repr(made_of).encode()).hexdigest()
    if (html / "index.html").is_file() and stamp.is_file() and stamp.read_text() == current:
        say("site: up to date")
        return html / "index.html"
    say("site: jupyter-book at work")
    begun = time.perf_counter()
    # always from nothing: a page read in an earlier, failed build would keep its warnings to itself
    for earlier in (out / "site", *out.glob("site-*")):
        shutil.rmtree(earlier, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix="site-", dir=out))
    built = _built_by_jupyter_book(out, work)
    finish(built, (out / "src/_config.yml").read_text(encoding="utf8"))
    keep_used_icons(built)
    mend_roles(built)
    add_previews(built)
    if faults := check_site(built):
        raise BuildError(
            f"the site has links that lead nowhere, or images without a text:\n  {listed(faults)}"
        )
    stamp.unlink(missing_ok=True)
    if html.exists():
        html.rename(work / "replaced")
    built.rename(html)
    stamp.write_text(current)
    shutil.rmtree(work, ignore_errors=True)
    say(f"site: {duration(time.perf_counter() - begun)}")
    return html / "index.html"


def jupyter_book(
    src: Path, out: Path, *options: str, log: Path
) -> subprocess.CompletedProcess[str]:
    """Runs jupyter-book of this environment over `src` into `out`; all that it says goes to `log`,
    too."""
    command = [sys.executable, "-Wignore", "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(src), "--path-output", str(out), "-n", *options]
    environment = os.environ | {
        "NO_COLOR": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    for folder in (out, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    process = run(
        command,
        env=environment,
        cwd=out,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf8",
    )
    process.stdout = re.sub(r"\x1b\[[0-9;]*m", "", process.stdout)
    log.write_text(process.stdout, encoding="utf8")
    return process


def _built_by_jupyter_book(out: Path, work: Path) -> Path:
    """The folder of the new site. BuildError with the warnings, if there are any."""
    src, log = out / "src", out / "logs" / "jupyter-book.log"
    process = jupyter_book(src, work, "-W", "--keep-going", log=log)
    built = work / "_build" / "html"
    if process.returncode == 0 and (built / "index.html").is_file():
        return built
    lines = process.stdout.splitlines()
    warnings = [line.replace(f"{src}/", "") for line in lines if re.search("WARNING|ERROR", line)]
    told = listed(warnings or lines[-10:], most=20)
    raise BuildError(
        "jupyter-book is not content, and each warning counts as an error:\n"
        f"  {told}\n  its whole output: {log}"
    )
