"""What attribution costs on two CPU cores: a record of `benchmarks/speed.py` in words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.records.pythia_memory import CARDS, memory_table

SMALL = 400  # edges up to which we aim at a circuit being cheaper than a forward pass


def measured_on(record: dict) -> str:
    """Where, when and with what the record was made."""
    return (
        f"Measured on {record['date']} on {record['machine']['cpu']}, 2 threads, with torch "
        f"{record['versions']['torch']}. Random weights, float32; 16 IOI prompts of 14 to 20 "
        "tokens; the best of three repetitions. A circuit is evaluated with its corrupted run "
        "known, as in a search; where that has to be made too, it says so."
    )


def ratios(record: dict) -> pd.DataFrame:
    """Times over plain passes: what, the ratio, and our aim (empty where there is none)."""
    ratio, circuits = record["ratio"], record["circuits"]
    rows = [
        (
            "attribution, 5 points, against 5 passes (weights frozen)",
            ratio["seconds"] / ratio["plain"],
            "1.3",
        ),
        (
            "the same, against 5 passes with the gradients of the weights",
            ratio["seconds"] / ratio["plain_with_weights"],
            "",
        ),
    ]
    sizes = sorted(int(size) for size in circuits if size.isdigit())
    for size in sizes:
        circuit = circuits[str(size)]
        what = (
            f"a circuit of {circuit['edges']} edges ({circuit['nodes']} nodes), "
            "against one forward pass"
        )
        aim = "0.7" if size <= SMALL else ""
        rows.append((what, circuit["known"] / circuits["forward"], aim))
    largest = circuits[str(max(size for size in sizes if size <= SMALL))]
    what = f"a circuit of {largest['edges']} edges, with the corrupted run it starts from"
    rows.append((what, largest["whole"] / circuits["forward"], ""))
    table = pd.DataFrame(rows, columns=["what", "ratio", "our aim: at most"])
    return table.assign(ratio=table["ratio"].map("{:.2f}".format))


REAL = {  # what of the part on a real model: its words, and our aim
    "attribution": ("attribution, 5 points, against 5 passes forward and back", "0.7"),
    "circuit_of_500": ("a circuit of 500 edges", "0.7"),
    "to_logits": ("path patching: every head to the logits", "4"),
    "to_queries": ("every head to the queries of two heads, at all positions", "15"),
    "to_queries_at_end": ("the same, at END alone", ""),
    "head_scores": ("all scores of all heads of a checkpoint", "120"),
}


def measured_apart(record: dict, part: str) -> str:
    """Where and when a part was measured, if not with the others; else nothing."""
    about = record.get("apart", {}).get(part)
    if about is None:
        return ""
    return f"Measured on {about['date']} on {about['machine']['cpu']}, 2 threads."


def real_ratios(record: dict) -> pd.DataFrame:
    """The part on a real model: what, seconds, over plain passes, our aim, GB at the peak."""
    rows = [
        (what, f"{one['seconds']:.1f}", f"{one['ratio']:.3g}", aim, f"{one['peak_gb']:.1f}")
        for name, (what, aim) in REAL.items()
        if (one := record["real"].get(name))
    ]
    columns = ["what", "seconds", "plain passes", "our aim: at most", "GB at its peak"]
    return pd.DataFrame(rows, columns=columns)


def beside_others(record: dict) -> str:
    """How much longer attribution takes while another process wants every core, with threads that
    sleep while they wait and with such as spin without end, and what sleeping costs without one."""
    parts = [
        f"{one['busy'] / one['alone']:.1f} times as long for {MODEL_TITLES[one['model']]} "
        f"({one['spinning_busy'] / one['spinning_alone']:.1f} times with threads that spin)"
        for one in record["busy"]
    ]
    alone = [f"{one['alone'] / one['spinning_alone']:.1f}" for one in record["busy"]]
    return (
        f"While another process wants each of the cores, attribution takes {' and '.join(parts)}. "
        f"Alone, threads that sleep take {' and '.join(alone)} times as long as those."
    )


MODEL_TITLES = {"mini": "mini-xs", "smollm2": "SmolLM2-135M"}


def seconds_and_memory(record: dict) -> str:
    """Seconds of attribution, and what its process needs."""
    memory = record["memory"]
    return (
        f"Attribution takes {record['ratio']['seconds']:.1f} s. The process needs "
        f"{memory['peak_gb']:.2f} GB at its peak, of which {memory['loaded_gb']:.2f} GB are the "
        "loaded model and the libraries (aim: at most 1.5 GB)."
    )


def what_fits(sizes: Sequence[str]) -> pd.DataFrame:
    """`memory_table` for some of Pythia's sizes, written out; "none" where no prompt fits."""
    table = memory_table()
    table = table[table["model"].isin([f"pythia-{size}" for size in sizes])]
    gigabytes = {
        column: table[column].map("{:.2f}".format)
        for column in ("weights", "q, k, v", "scores", "one prompt", "in all")
    }
    prompts = {card: table[card].map(lambda n: str(n) if n else "none") for card in CARDS}
    return table.assign(**gigabytes, **prompts)
