"""Runs one notebook with papermill, in this very interpreter, into an executed copy that says how
it was made."""

from __future__ import annotations

import ast
import datetime
import difflib
import re
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.kernel import _bar, _Engine, measurements
from circuitbook.store.files import write_atomically
from circuitbook.store.provenance import machine, versions
from circuitbook.wording import counted, in_markdown

METADATA = "circuitbook"  # name of our record in an executed copy's metadata


NAMED_VERSIONS = ("torch", "transformer_lens")  # in a chapter's last line; the metadata has more


def read_notebook(file: Path) -> NotebookNode:
    """The notebook in a file; BuildError, with the file's name, if there is none in it."""
    try:
        notebook = nbformat.read(file, as_version=4)
        default_parameters(notebook)
    except FileNotFoundError:
        raise BuildError(f"there is no {file}") from None
    except SyntaxError as error:
        raise BuildError(f"{file}: its cell of parameters is not Python: {error}") from None
    except (ValueError, LookupError, AttributeError, nbformat.ValidationError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise BuildError(f"{file} is not a notebook that can be read: {why}") from None
    return notebook


def declared_parameters(notebook: NotebookNode) -> list[str]:
    """Names assigned in the cells tagged `parameters`, in order."""
    return list(default_parameters(notebook))


def default_parameters(notebook: NotebookNode) -> dict[str, object]:
    """{name: value} assigned in the cells tagged `parameters`, in order; None where it is not a
    literal."""
    values: dict[str, object] = {}
    for cell in notebook.cells:
        if cell.cell_type != "code" or "parameters" not in tags_of(cell):
            continue
        for statement in ast.parse(cell.source).body:
            if isinstance(statement, ast.Assign):
                targets = statement.targets
            elif isinstance(statement, ast.AnnAssign):
                targets = [statement.target]
            else:
                continue
            for target in targets:
                if isinstance(target, ast.Name):
                    values[target.id] = _literal(statement.value)
    return values


def check_parameters(parameters: dict[str, object], notebooks: dict[str, NotebookNode]) -> None:
    """BuildError if some parameter is one that no notebook declares."""
    known = list(
        dict.fromkeys(
            name for notebook in notebooks.values() for name in declared_parameters(notebook)
        )
    )
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
            )
            raise BuildError(f"no notebook has a parameter {name}; {hint}")


def execute_notebook(
    source: Path,
    target: Path,
    parameters: dict[str, object] | None = None,
    *,
    root: Path | None = None,
    partial: Path | None = None,
    log: Path | None = None,
    title: str = "",
    record: dict[str, object] | None = None,
    without: Sequence[str] = ("instructor",),
) -> NotebookNode:
    """Executes `source` in `root` (default: the current folder); writes the executed copy to
    `target`, whole or not.

    parameters: injected after the cell tagged `parameters`; those that this notebook does not
    declare are left out. partial: where the copy grows, cell by cell; it stays there if the
    notebook fails. log: the notebook's output and, if it fails, the full traceback. record: what
    else to keep in the copy's metadata, under "circuitbook". without: cells with one of these tags
    are left out; notes for instructors always are, by default.

    The copy's last cell says how long it took and on what; the cells with parameters have their
    code folded. Errors: BuildError with the failing cell's error in one line, or for a solution
    that its check does not call right. KeyboardInterrupt on Ctrl-C.
    """
    root, target = Path(root or Path.cwd()).resolve(), Path(target).resolve()
    partial = Path(partial or target.with_suffix(".partial.ipynb")).resolve()
    log = Path(log or target.with_suffix(".log")).resolve()
    title = title or source.stem
    for file in (target, partial, log):
        file.parent.mkdir(parents=True, exist_ok=True)
    notebook = read_notebook(source)
    notebook.cells = [cell for cell in notebook.cells if not set(without) & set(tags_of(cell))]
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    declared = declared_parameters(notebook)
    parameters = {name: value for name, value in (parameters or {}).items() if name in declared}
    trace = log.with_suffix(".trace")
    trace.write_text("")
    begun, date = time.perf_counter(), datetime.datetime.now(datetime.timezone.utc)
    with open(log, "w", encoding="utf8") as output:
        try:
            executed = papermill.execute_notebook(
                notebook,
                str(partial).replace("{", "{{").replace("}", "}}"),  # papermill formats its paths
                parameters=parameters,
                kernel_name="python3",
                language="python",
                engine_name=_Engine.name,
                cwd=root,
                progress_bar=_bar(title),
                stdout_file=output,
                stderr_file=output,
                start_timeout=300,
                trace=trace,
                title=title,
            )
        except PapermillExecutionError as error:
            output.write(f"\n{error}")
            raise BuildError(_failure(source, error, partial, log)) from None
        except DeadKernelError as error:
            raise BuildError(
                f"{source}: its Python process died (out of memory?); what ran is in {partial}, "
                f"the output in {log}"
            ) from error
        except RuntimeError as error:  # of jupyter_client
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise BuildError(
                f"{source}: its Python process could not be started ({why}); its output: {log}"
            ) from error
        seconds = time.perf_counter() - begun
    _refuse_wrong_solutions(source, executed, partial)
    executed.metadata.pop("papermill", None)  # holds paths of this machine
    for cell in executed.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        _fold_parameters(cell, bool(parameters))
    uses = measurements(trace)
    where = {name: value for name, value in machine().items() if name != "host"}
    executed.metadata[METADATA] = dict(record or {}) | {
        "seconds": round(seconds, 2),
        "date": date.isoformat(timespec="seconds"),
        "machine": where,
        "versions": versions(),
        "parameters": parameters,
        "measurements": uses,
    }
    executed.cells.append(_closing_cell(executed.metadata[METADATA]))
    write_atomically(target, nbformat.writes(executed).encode())
    partial.unlink()
    trace.unlink()
    return executed


def duration(seconds: float) -> str:
    """duration(41.3) -> "41 s"; duration(400) -> "6 min 40 s"; duration(9000) -> "2 h 30 min" """
    whole = max(1, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def machine_text(where: dict) -> str:
    """Markdown.  machine_text({"cpu": "M2", "cores": 8, "gpu": None}) -> "M2 (8 cores, no GPU)" """
    gpu = in_markdown(where["gpu"] or "no GPU")
    return f"{in_markdown(where['cpu'])} ({counted(where['cores'], 'core')}, {gpu})"


def _closing_cell(record: dict) -> NotebookNode:
    uses, date = record["measurements"], datetime.datetime.fromisoformat(record["date"])
    packages = [
        f"{name} {version}"
        for name, version in record["versions"].items()
        if name in NAMED_VERSIONS
    ]
    text = (
        f"This chapter ran in {duration(record['seconds'])} on {machine_text(record['machine'])} "
        f"on {date.day} {date:%B %Y}"
        f"{', with ' if packages else ''}{' and '.join(packages)}."
    )
    if uses["used"]:
        read = uses["used"] - uses["measured"]
        known = f"{'all' if read == uses['used'] else read} of them were in the store already"
        text += (
            f" Its {counted(uses['used'], 'measurement')} took {duration(uses['seconds'])} to "
            f"make; {known if read else 'all were made in this run'}."
        )
    return nbformat.v4.new_markdown_cell(f"```{{container}} made-with\n{text}\n```", id="made-with")


def _literal(value: ast.expr | None) -> object:
    try:
        return None if value is None else ast.literal_eval(value)
    except ValueError:
        return None


def tags_of(cell: NotebookNode) -> list[str]:
    """The cell's tags, in order."""
    return cell.metadata.get("tags", [])


def _refuse_wrong_solutions(source: Path, executed: NotebookNode, partial: Path) -> None:
    """BuildError if a solution's check says anything but "Right": see `circuitbook.teaching`."""
    for cell in executed.cells:
        if cell.cell_type != "code" or "solution" not in tags_of(cell):
            continue
        for output in cell.outputs:
            said = output.get("data", {}).get("text/plain", "")
            if re.match("Not (right|solved) yet: ", said):
                raise BuildError(
                    f"{source.name}: a published solution fails its check, which says {said!r}\n"
                    f"  executed so far: {partial}"
                )


def _fold_parameters(cell: NotebookNode, injected: bool) -> None:
    tags = tags_of(cell)
    folded = any(tag.startswith(("hide-", "remove-")) for tag in tags)
    if {"parameters", "injected-parameters"} & set(tags) and not folded:
        cell.metadata["tags"] = [*tags, "hide-input"]
        default = "Show the parameters" + (" and their defaults" if injected else "")
        shown = "Show the parameters of this edition" if "injected-parameters" in tags else default
        cell.metadata.setdefault("mystnb", {}).setdefault("code_prompt_show", shown)


def _failure(source: Path, error: PapermillExecutionError, partial: Path, log: Path) -> str:
    message = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue)).strip() or "(no message)"
    lines = [line.strip() for line in str(error.source).splitlines() if line.strip()] or [""]
    return (
        f"{source.name} stopped in cell [{error.exec_count}], "
        f"which begins {lines[0][:60]!r}:\n"
        f"    {error.ename}: {message}\n"
        f"  executed so far: {partial}\n  full traceback:  {log}"
    )
