"""What all measurements of one checkpoint cost, by part, at Pythia's shapes: what the page
"Precision and cost" extrapolates from.

    python benchmarks/cost.py                    14m to 160m on one core; writes what the page shows
    python benchmarks/cost.py --device cuda      70m to 12b on a GPU

Random weights, the settings of the `robust` recipe, IOI prompts (the longest of the four tasks) in
the mini suite's language. On a CPU the time is the process's own on one thread, so that it hardly
depends on what else the machine does. Models with random weights do no task, so each part is called
by itself rather than through the chapters, which would skip most of it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "lib")]
from speed import GPU, SHAPES, load, peak_gb  # noqa: E402

RESULTS = Path(__file__).parents[1] / "lib/circuitbook/records/data/cost.json"
TASKS = 4


def parts(model) -> dict:
    """{part: (what it does, how often a checkpoint needs it)}"""
    import torch

    from circuitbook import attribute, get_recipe, get_task
    from circuitbook.circuits.faithfulness import faithfulness_curve
    from circuitbook.heads.attention import attention_from_end, repeat_scores
    from circuitbook.heads.copy_suppression import copy_suppression, function_tokens
    from circuitbook.heads.copying import copy_hits
    from circuitbook.heads.names import all_heads
    from circuitbook.heads.path_patching import path_patch
    from circuitbook.heads.successor import successor_hits, successor_pairs
    from circuitbook.model.architectures import network_of
    from circuitbook.studies.abilities import task_performance
    from circuitbook.tasks.sequences import documents, repeated_sequences

    recipe, net = get_recipe("robust"), network_of(model)
    settings, pairs = (
        recipe.heads,
        get_task("ioi").prompts(model.tokenizer, n=recipe.prompts["ioi"]),
    )
    more = get_task("ioi").prompts(model.tokenizer, n=settings.prompts)
    kept: dict = {}

    def attribution():
        kept["scores"] = attribute(model, pairs, **recipe.attribution, per_prompt=True)

    def head_scores():
        repeat_scores(
            net,
            repeated_sequences(model, settings.sequences, settings.length).to(model.device),
            settings.length,
        )
        successor_hits(net, successor_pairs(model.tokenizer))
        names = torch.stack([more.positions[place] for place in ("IO", "S1", "S2")], 1).to(
            model.device
        )
        copy_hits(net, more.clean.to(model.device), names)
        attention_from_end(net, more, ("IO", "S1", "S2"))
        path_patch(model, more, all_heads(model), ["logits"])

    def suppression():  # on an eighth of the documents: it is the same work for each
        docs = documents(model, settings.documents, settings.positions)
        copy_suppression(
            net, docs.to(model.device), function_tokens(model.tokenizer), settings.evaluated // 8
        )

    last = model.shape.n_layers - 1
    return {
        "abilities": (lambda: task_performance(model, "ioi", 200), TASKS),
        "attribution": (attribution, TASKS),
        "circuit search": (lambda: faithfulness_curve(model, pairs, kept["scores"]), TASKS),
        "head scores": (head_scores, 1),
        "copy suppression": (suppression, 8),
        "path patching": (lambda: path_patch(model, more, all_heads(model), [f"a{last}.h0<q>"]), 5),
    }


def measure(folder: str, shape: str, device: str, dtype: str) -> dict:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from circuitbook import get_task

    if not device.startswith("cuda"):
        torch.set_num_threads(1)
    model = load(folder, shape, device, dtype) or load(folder, shape, device, dtype)

    def clock() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    pairs = get_task("ioi").prompts(model.tokenizer, n=48)
    with FlopCounterMode(display=False) as counter:
        model.logits(pairs.clean, pairs.end)  # also a warm-up
    begun = clock()
    model.logits(pairs.clean, pairs.end)
    row = {
        "shape": shape,
        "dtype": dtype,
        "forward": {"flop": counter.get_total_flops(), "seconds": clock() - begun},
        "parts": {},
    }
    for name, (work, times) in parts(model).items():
        begun = clock()
        work()
        row["parts"][name] = {"seconds": clock() - begun, "times": times}
        print(shape, dtype, name, f"{row['parts'][name]['seconds']:.2f} s x {times}", flush=True)
    return row | {"peak_gb": peak_gb(device)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=list(SHAPES),
        help="default: 14m to 160m, on a GPU 70m to 12b",
    )
    parser.add_argument(
        "--out", type=Path, help="where the record goes (a GPU's: cost-gpu.json beside this script)"
    )
    options = parser.parse_args()
    import warnings

    import torch

    from circuitbook.store.provenance import machine, versions

    warnings.simplefilter("ignore")  # random weights: large completeness gaps
    gpu = options.device.startswith("cuda")
    with tempfile.TemporaryDirectory(prefix="circuitbook-bench-") as folder:
        rows = [
            measure(folder, shape, options.device, "bfloat16" if gpu else "float32")
            for shape in options.shapes or (GPU if gpu else ("14m", "31m", "70m", "160m"))
        ]
    where = {k: v for k, v in machine().items() if k != "host"} | (
        {"gpu": torch.cuda.get_device_name()} if gpu else {}
    )
    record = {
        "rows": rows,
        "machine": where,
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "device": options.device,
    }
    out = options.out or (Path(__file__).with_name("cost-gpu.json") if gpu else RESULTS)
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main()
