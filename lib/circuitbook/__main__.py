"""`python -m circuitbook COMMAND`: train the mini suite, train runs for a study, build the book,
check its links, print it, sweep over checkpoints, make course versions, open them, give marks."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from circuitbook.failures import failure


def colab_command(args: argparse.Namespace) -> None:
    from circuitbook.publishing.colab import write_first_cells
    from circuitbook.publishing.publish import repository

    address = None if args.remove else args.address or repository(args.notebooks.absolute().parent)
    if not args.remove and address is None:
        raise ValueError(
            "git's origin is not on GitHub, so an address to install from is needed, such as "
            "https://github.com/<owner>/<name>"
        )
    changed = write_first_cells(args.notebooks, address)
    what = "only import the library" if address is None else f"install from {address}"
    print(
        f"{len(changed)} notebooks in {args.notebooks} now {what}"
        if changed
        else "nothing to change"
    )


RECORDS, RECORD_OF_METHODS = Path("lib/circuitbook/records/data"), "smollm2_methods.json"


def record_command(args: argparse.Namespace) -> None:
    from circuitbook.studies.recording import PROMPTS, record_methods, record_smollm2, write_record

    out = args.out or RECORDS / ("smollm2.json" if args.what == "smollm2" else RECORD_OF_METHODS)
    if args.what == "methods":
        if args.prompts or args.seeds:
            raise ValueError(
                "the record of methods has the prompts of the book's page: leave out --prompts "
                "and --seeds"
            )
        record = record_methods(store=args.store, device=args.device)
        write_record(record, out)
        print(f"{out}: {len(record['methods'])} rows")
        return
    prompts = PROMPTS | ({"ioi": args.prompts} if args.prompts else {})
    seeds = args.seeds or [42, 7]
    record = record_smollm2(prompts, seeds, args.store, args.device)
    write_record(record, out)
    print(f"{out}: {len(seeds)} draws, {record['seconds']} s")


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    # here, so that Ctrl-C while they are imported is no traceback
    from circuitbook.mini.command import add_train_arguments, train_from_arguments
    from circuitbook.mini.study import add_study_arguments, study_from_arguments
    from circuitbook.publishing.build import add_build_arguments, build_from_arguments
    from circuitbook.publishing.links import add_links_arguments, links_from_arguments
    from circuitbook.publishing.pdf import add_pdf_arguments, pdf_from_arguments
    from circuitbook.sweep.command import add_sweep_arguments, sweep_from_arguments
    from circuitbook.teaching.course import add_teach_arguments, teach_from_arguments
    from circuitbook.teaching.grading import add_grade_arguments, grade_from_arguments
    from circuitbook.teaching.lab import add_lab_arguments, lab_from_arguments

    top = argparse.ArgumentParser(prog="python -m circuitbook", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train",
        help="train models of the mini suite again, from their seeds",
        description="Ctrl-C stops a run; the same command goes on where it stopped.",
    )
    add_train_arguments(train)
    train.set_defaults(run=train_from_arguments)
    study = commands.add_parser(
        "study",
        help="train many runs for one question, and measure them as they train",
        description="lists: which algorithm does each seed learn from ordered lists? "
        "Ctrl-C stops it; the same command goes on where it stopped.",
    )
    add_study_arguments(study)
    study.set_defaults(run=study_from_arguments)
    build = commands.add_parser("build", help="execute the chapters and make the site")
    add_build_arguments(build)
    build.set_defaults(run=build_from_arguments)
    colab = commands.add_parser(
        "colab",
        help="let the notebooks' first cells install the library from an address",
        description="Write into every notebook's first cell where Colab installs the library from.",
    )
    source = colab.add_mutually_exclusive_group()
    source.add_argument(
        "address",
        nargs="?",
        help="such as https://github.com/<owner>/<name> (default: git's origin, if on GitHub)",
    )
    source.add_argument(
        "--remove", action="store_true", help="leave the import alone, as in the repository"
    )
    colab.add_argument(
        "--notebooks", type=Path, default=Path("notebooks"), help="their folder (%(default)s)"
    )
    colab.set_defaults(run=colab_command)
    links = commands.add_parser(
        "links", help="check every link, anchor, image and script of the built site"
    )
    add_links_arguments(links)
    links.set_defaults(run=links_from_arguments)
    pdf = commands.add_parser("pdf", help="print the built book to one PDF, with Chromium")
    add_pdf_arguments(pdf)
    pdf.set_defaults(run=pdf_from_arguments)
    record = commands.add_parser(
        "record",
        help="measure of a real language model what takes longer than the book's build may",
        description="Takes up to an hour on two cores. Stopped, the same command goes on.",
    )
    record.add_argument(
        "what", choices=["smollm2", "methods"], help="its algorithm, or methods that score edges"
    )
    record.add_argument(
        "--prompts", type=int, help="of IOI, on which heads are measured (70, as in the paper)"
    )
    record.add_argument("--seeds", type=int, nargs="+", help="one for each draw (42 7)")
    record.add_argument(
        "--out",
        type=Path,
        help=f"where to write the record (the library's own, in {RECORDS})",
    )
    record.add_argument("--store", help="folder for measurements (the repository's .store)")
    record.add_argument("--device", default="auto")
    record.set_defaults(run=record_command)
    sweep = commands.add_parser(
        "sweep",
        help="execute the section notebooks over many checkpoints, on Dask",
        description="Stopped at any moment, the same command goes on; nothing is done twice.",
    )
    add_sweep_arguments(sweep)
    sweep.set_defaults(run=sweep_from_arguments)
    teach = commands.add_parser(
        "teach",
        help="write student and instructor versions of the chapters",
        description="student: without solutions, stubs left. instructor: everything, with notes.",
    )
    add_teach_arguments(teach)
    teach.set_defaults(run=teach_from_arguments)
    lab = commands.add_parser(
        "lab",
        help="open the course's notebooks in JupyterLab",
        description="They are written to course/student the first time, and are yours from then.",
    )
    add_lab_arguments(lab)
    lab.set_defaults(run=lab_from_arguments)
    grade = commands.add_parser(
        "grade",
        help="execute students' notebooks and write down what their checks say",
        description="It executes what students wrote: run it in a container, without a network. "
        "Stopped, the same command goes on.",
    )
    add_grade_arguments(grade)
    grade.set_defaults(run=grade_from_arguments)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    try:
        args = parser().parse_args(argv)
        for name, value in vars(args).items():
            if isinstance(value, Path):  # of --out=~/book a shell leaves the tilde
                setattr(args, name, Path(os.path.expanduser(value)))
        args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("circuitbook"):
            raise  # a bug
        raise SystemExit(
            f"error: {error.name} is not installed; in a clone of the book, "
            '`pip install -e ".[course]"` installs what the commands need'
        ) from None
    except BrokenPipeError:  # who read the output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if (line := failure(error)) is None:
            raise  # a bug
        raise SystemExit(f"error: {line}") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
