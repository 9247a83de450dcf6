"""Builds the book: papermill executes the chapters, jupyter-book makes the site.

    notebooks/*.ipynb --papermill--> _build/src/notebooks/*.ipynb --jupyter-book--> _build/html

`_build/src` mirrors the repository: configuration, prose, and the executed chapters in place of
their sources, which stay clean. What is up to date is kept: a chapter is executed again only if
something that determines it has changed (its cells, the parameters, the package, the models, the
requirements), so a build that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import filelock
import yaml
from nbformat import NotebookNode

from circuitbook.figures.lab_weights import weights_files
from circuitbook.figures.views import SCRIPTS
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import (
    check_parameters,
    declared_parameters,
    duration,
    execute_notebook,
    read_notebook,
)
from circuitbook.publishing.executions import PLACE, execution_record, record_of
from circuitbook.publishing.fingerprints import files_in, fingerprint
from circuitbook.publishing.jobs import (
    Beside,
    Job,
    beside_the_others,
    environment_of,
    has_gpu,
    needs,
    suite_of,
)
from circuitbook.publishing.publish import configuration
from circuitbook.publishing.site import build_site
from circuitbook.publishing.terminal import say, short_path
from circuitbook.publishing.typed import from_here, parse_parameters
from circuitbook.publishing.warm import warm_kernels
from circuitbook.store.files import write_atomically
from circuitbook.store.locks import alone_in, holder
from circuitbook.suites import load_suite
from circuitbook.weights.hash_memory import HASHES

__all__ = ["BuildError", "build_book", "execute_notebook", "parse_parameters"]

LABS = {"notebooks/lab": "mini", "notebooks/two-algorithms": "lists"}  # whose weights chapters need


def build_book(
    root: str | os.PathLike = ".",
    out: str | os.PathLike = "_build",
    parameters: dict[str, object] | None = None,
    notebooks: Sequence[str] | None = None,
    *,
    force: bool = False,
) -> Path:
    """Builds the book of `root` into `out` (relative to root) and returns the path of its
    index.html.

    parameters: given to every notebook that declares them. notebooks: bring only these up to date
    ("abilities"); the others keep the copy they have. force: execute again what is up to date, too.
    Errors: BuildError in plain words; what was built before stays as it was.
    """
    root, begun = Path(root).resolve(), time.perf_counter()
    out = (root / out).resolve()
    chapters = chapters_of(root)
    names = [Path(chapter).name for chapter in chapters]
    if unknown := [name for name in notebooks or () if name not in names]:
        raise BuildError(f"the book has no notebook {unknown[0]}; it has {', '.join(names)}")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with alone_in(out), HASHES.kept_in(out / "hashes.json"):
            execute_chapters(root, out, chapters, parameters or {}, only=notebooks, force=force)
            stage(root, out / "src", chapters)
            index = build_site(out)
    except filelock.Timeout as busy:
        raise BuildError(
            f"another build is at work in {out}, {holder(busy.lock_file)}; wait for it, or pass "
            "another --out"
        ) from None
    say(
        f"\nThe book is ready ({duration(time.perf_counter() - begun)}): {index}\n"
        "Open it in a browser, or serve it: "
        f"python3 -m http.server --bind 127.0.0.1 -d {short_path(index.parent)} 8000"
    )
    return index


def chapters_of(root: Path) -> list[str]:
    """The notebooks that _toc.yml names, without ending, in its order: ["notebooks/abilities",
    ...]."""
    from sphinx_external_toc.parsing import MalformedError, parse_toc_yaml

    toc = root / "_toc.yml"
    if not toc.is_file():
        raise BuildError(f"there is no {toc}: run this in the book's folder, or pass --root")
    try:
        pages = [str(page).removesuffix(".ipynb") for page in parse_toc_yaml(toc)]
    except (MalformedError, yaml.YAMLError) as error:
        raise BuildError(f"{toc} cannot be read: {error}") from None
    chapters = [page for page in pages if page.startswith("notebooks/")]
    for chapter in chapters:
        if not (root / f"{chapter}.ipynb").is_file():
            raise BuildError(f"_toc.yml names {chapter}, but there is no {root / chapter}.ipynb")
    return chapters


def sources_of(root: Path, chapters: Iterable[str]) -> dict[str, NotebookNode]:
    """The notebooks of these chapters, as they are in `root`."""
    return {chapter: read_notebook(root / f"{chapter}.ipynb") for chapter in chapters}


def execute_chapters(
    root: Path,
    out: Path,
    chapters: list[str],
    parameters: dict[str, object],
    *,
    only: Sequence[str] | None = None,
    force: bool = False,
) -> None:
    """Brings the executed copies in `out`/src up to date, those about another suite than most
    beside the others (see `jobs`), and last what reads both.

    only: names of the notebooks to bring up to date; the others keep the copy they have.
    """
    sources = sources_of(root, chapters)
    check_parameters(parameters, sources)
    jobs = _jobs(root, out, sources, parameters, only=only, force=force)
    suites = {job.chapter: suite_of(sources[job.chapter], job.given) for job in jobs}
    apart = beside_the_others(suites)
    beside = [job for job in jobs if job.chapter in apart]
    if len(beside) == len(jobs):  # nothing to be beside of
        beside = []
    others = [job for job in jobs if job not in beside]
    apart_suites = [suites[job.chapter] for job in beside]
    waits = [job for job in others if needs(sources[job.chapter], job.given, apart_suites)]
    first = [job for job in others if job not in waits]
    running = None
    with warm_kernels(environment_of(jobs)) if len(jobs) > 1 else contextlib.nullcontext():
        try:
            if beside:
                running = Beside([*beside, *([] if has_gpu() else reversed(first))], out)
            for job in first:
                if running is None or running.claims.take(job):
                    job.execute()
                if running:
                    running.check()
            if running:
                running.wait()
            for job in waits:
                job.execute()
        finally:
            if running:
                running.stop()


def _jobs(
    root: Path,
    out: Path,
    sources: dict[str, NotebookNode],
    parameters: dict[str, object],
    *,
    only: Sequence[str] | None,
    force: bool,
) -> list[Job]:
    """What has to be executed; says of the rest why not."""
    jobs = []
    for number, (chapter, notebook) in enumerate(sources.items(), 1):
        declared = declared_parameters(notebook)
        job = Job(
            root=str(root),
            out=str(out),
            chapter=chapter,
            title=f"[{number}/{len(sources)}] {chapter}",
            given={name: value for name, value in parameters.items() if name in declared},
            fingerprint="",
        )
        job = replace(job, fingerprint=fingerprint(root, notebook, job.given, out))
        before = record_of(job.target)
        named = only is None or Path(chapter).name in only
        stale = force or (before or {}).get("fingerprint") != job.fingerprint
        if before and not (named and stale):
            state = "up to date" if named else "left as it is"
            say(f"{job.title}: {state} (executed {before['date'][:10]})")
        else:
            jobs.append(job)
    return jobs


def stage(root: Path, src: Path, chapters: Iterable[str]) -> None:
    """Makes `src` mirror what the site is built from; the executed chapters are there already and
    stay."""
    chapters = list(chapters)
    wanted = {Path(f"{chapter}.ipynb") for chapter in chapters}
    for file in [root / "_toc.yml", *files_in(root / "book"), *files_in(root / "notebooks")]:
        name = file.relative_to(root)
        if name.suffix != ".ipynb" or name.parts[0] == "book":
            content = file.read_bytes()
            if name.suffix == ".md" and PLACE.encode() in content:
                content = content.replace(PLACE.encode(), execution_record(src, chapters).encode())
            _put(src / name, content)
            wanted.add(name)
    if (root / "book" / "_static").is_dir():
        for file_name, read in SCRIPTS.items():
            script = Path("book", "_static", file_name)
            _put(src / script, read().encode())
            wanted.add(script)
        for suite in [name for chapter, name in LABS.items() if chapter in chapters]:
            for file_name, text in weights_files(load_suite(suite)):
                script = Path("book", "_static", file_name)
                _put(src / script, text.encode())
                wanted.add(script)
    _put(src / "_config.yml", configuration(root).encode())
    for file in files_in(src):
        if file.relative_to(src) not in wanted | {Path("_config.yml")}:
            file.unlink()


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook build`."""
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the notebooks, such as MODELS=[mini-s,mini-m]; text needs no quotes; "
        "may be repeated",
    )
    parser.add_argument(
        "--only", action="append", metavar="NOTEBOOK", help="bring only this notebook up to date"
    )
    parser.add_argument(
        "--force", action="store_true", help="execute again what is up to date, too"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), help="the book's folder (default: the current one)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("_build"), help="where to build (%(default)s)"
    )


def build_from_arguments(args: argparse.Namespace) -> None:
    """Builds as `add_build_arguments` says; SystemExit with one message where the book cannot be
    built."""
    try:
        root = args.root.resolve()
        notebooks = sources_of(root, chapters_of(root)).values() if args.parameter else ()
        parameters = from_here(parse_parameters(args.parameter, notebooks), root)
        build_book(args.root, args.out, parameters, args.only, force=args.force)
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None


def _put(file: Path, content: bytes) -> None:
    if not file.is_file() or file.read_bytes() != content:
        write_atomically(file, content)
