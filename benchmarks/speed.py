"""How fast attribution and circuits are, as ratios to plain passes of the transformers model in the
same run.

    make bench                                   all of it; writes what the book's page shows
    python benchmarks/speed.py --only real       the part on a real model (--model names another)
    python benchmarks/speed.py --device cuda     Pythia's shapes, 70m to 12b, on a GPU

Random weights; prompts are IOI in the mini suite's language, 14 to 20 tokens, about as long as
Pythia's. Every case runs in a process of its own, so that its peak memory is its own. Times are the
best of a few repetitions.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "lib/circuitbook/records/data/speed.json"
SHAPES = {
    "14m": (6, 4, 128),
    "31m": (6, 8, 256),
    "70m": (6, 8, 512),
    "160m": (12, 12, 768),
    "410m": (24, 16, 1024),
    "1.4b": (24, 16, 2048),
    "2.8b": (32, 32, 2560),
    "6.9b": (32, 32, 4096),
    "12b": (36, 40, 5120),
}
GPU = ("70m", "160m", "410m", "1.4b", "2.8b", "6.9b", "12b")


def load(folder: str, shape: str, device: str, dtype: str):
    """A model with random weights of one of Pythia's shapes, through the book's own loading."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from circuitbook import load_suite
    from circuitbook.model.progress import no_progress_bars

    layers, heads, width = SHAPES[shape]
    place = Path(folder) / shape / "step1"
    if not place.exists():
        torch.manual_seed(0)
        rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
        network = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=50304,
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                rope_parameters=rope,
            )
        )
        with no_progress_bars():
            network.to(torch.float16).save_pretrained(place)
        load_suite("mini").checkpoint("mini-xs", 0).load().tokenizer.save_pretrained(place)
        return None  # in a process of its own: its memory is not the case's
    return load_suite(folder).checkpoint(shape, 1).load(device=device, dtype=getattr(torch, dtype))


def load_real(name: str, device: str = "cpu"):
    """The last checkpoint of the first model of a suite: "smollm2", or a folder."""
    from circuitbook import load_suite

    suite = load_suite(name)
    model = next(iter(suite.models))
    return suite.checkpoint(model, suite.steps(model)[-1]).load(device=device)


def real_case(
    name: str, prompts: int = 16, points: int = 5, repeat: int = 3, device: str = "cpu"
) -> dict:
    """Seconds of each kind of work on a real vocabulary, beside plain passes of the same batch.

    Alternating, so that both meet the machine in the same state; "ratio" is in plain forward
    passes, of attribution in as many plain passes forward and back as there are points.
    """
    import numpy as np
    import torch

    from circuitbook import attribute, get_recipe, get_task
    from circuitbook.circuits.corrupted import CorruptedRuns
    from circuitbook.circuits.evaluation import evaluate_masks
    from circuitbook.circuits.selection import edge_order
    from circuitbook.heads.names import all_heads
    from circuitbook.heads.path_patching import path_patch
    from circuitbook.studies.head_scores import score_heads

    if not device.startswith("cuda"):
        torch.set_num_threads(2)
    model = load_real(name, device)
    pairs = get_task("ioi").prompts(model.tokenizer, n=prompts)
    clean, end, rows = (part.to(device) for part in (pairs.clean, pairs.end, torch.arange(prompts)))
    plain, heads = model.hf_model.requires_grad_(False), all_heads(model)
    layer = 3 * model.shape.n_layers // 4
    queries = [f"a{layer}.h{head}<q>" for head in (0, 1)]
    scores = attribute(model, pairs, points=1)
    mask = np.zeros(scores.graph.mask.shape, bool)
    mask[tuple(edge_order(scores.values, scores.graph)[:500].T)] = True
    runs = CorruptedRuns(model, pairs)

    @torch.no_grad()
    def forward():
        plain(clean, use_cache=False)

    def both_ways():
        embedded = plain.get_input_embeddings()(clean).detach().requires_grad_()
        logits = plain(inputs_embeds=embedded, use_cache=False).logits[rows, end]
        (-pairs.metric(logits).mean()).backward()

    def at_end():
        path_patch(model, pairs, heads, queries, sender_at="END", receiver_at="END")

    works = {
        "to_logits": (lambda: path_patch(model, pairs, heads, ["logits"]), forward, 1),
        "to_queries": (lambda: path_patch(model, pairs, heads, queries), forward, 1),
        "to_queries_at_end": (at_end, forward, 1),
        "circuit_of_500": (lambda: evaluate_masks(model, pairs, [mask], runs=runs), forward, 1),
        "attribution": (
            lambda: attribute(model, pairs, rule="midpoint", points=points),
            both_ways,
            points,
        ),
        "head_scores": (lambda: score_heads(model, get_recipe("robust").heads), forward, 1),
    }
    results = {}
    for kind, (work, unit, units) in works.items():
        forget_peak()
        ours, theirs = [], []
        for _ in range(1 if kind == "head_scores" else repeat):
            theirs.append(best(unit, 1))
            ours.append(best(work, 1) if kind != "head_scores" else best(work, 0))
        results[kind] = {
            "seconds": min(ours),
            "plain": min(theirs),
            "units": units,
            "ratio": min(ours) / units / min(theirs),
            "peak_gb": peak_gb(device),
        }
        print(kind, {k: round(v, 3) for k, v in results[kind].items()}, flush=True)
    return results


def busy_case(name: str, prompts: int = 16, repeat: int = 3) -> dict:
    """Seconds of the same work alone, and while every core has another process to run as well.

    "spinning": the same with threads that spin for each other, torch's default.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import speed; "
        f"print('SECONDS', speed.seconds_of_attribution({name!r}, {prompts}, {repeat}))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "lib")}
    environment.pop("OMP_NUM_THREADS", None)

    def seconds(**settings: str) -> float:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            env=environment | settings,
            check=True,
        )
        return float(done.stdout.split("SECONDS")[1])

    alone, spinning_alone = seconds(), seconds(OMP_WAIT_POLICY="ACTIVE")
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())
    ]
    try:
        busy, spinning_busy = seconds(), seconds(OMP_WAIT_POLICY="ACTIVE")
    finally:
        for other in others:
            other.kill()
            other.wait()
    result = {
        "model": name,
        "alone": alone,
        "busy": busy,
        "spinning_alone": spinning_alone,
        "spinning_busy": spinning_busy,
    }
    print("busy", {k: v if isinstance(v, str) else round(v, 3) for k, v in result.items()})
    return result


def seconds_of_attribution(name: str, prompts: int, repeat: int) -> float:
    """The best of a few attributions of a suite's first model, "mini" or as `load_real`."""
    from circuitbook import attribute, get_task

    model = load_real(name)
    pairs = get_task("ioi").prompts(model.tokenizer, n=prompts)
    return best(lambda: attribute(model, pairs, rule="midpoint", points=5), repeat)


def best(work, repeat: int) -> float:
    """Seconds of the quickest of `repeat` calls, after one that does not count."""
    import torch

    times = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:] or times)


def peak_gb(device: str) -> float:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e9
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / 1e9
    )


def forget_peak() -> None:
    """Starts the peak anew (on Linux): loading may need more than the work that is measured."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def case(
    folder: str,
    kind: str,
    shape: str,
    prompts: int = 16,
    points: int = 5,
    shift: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    repeat: int = 3,
) -> dict:
    """One measurement. `shift`: tokens put before each prompt, the same for clean and corrupted."""
    import torch

    from circuitbook import attribute, evaluate_circuit, get_task
    from circuitbook.circuits.circuit import Circuit
    from circuitbook.circuits.corrupted import CorruptedRuns
    from circuitbook.circuits.evaluation import evaluate_masks
    from circuitbook.circuits.selection import edge_order

    if not device.startswith("cuda"):
        torch.set_num_threads(2)
    model = load(folder, shape, device, dtype)
    if model is None:
        return {}
    pairs = get_task("ioi").prompts(model.tokenizer, n=prompts)
    if shift:
        from dataclasses import replace

        before = torch.randint(1, 500, (prompts, shift), generator=torch.Generator().manual_seed(0))
        pairs = replace(
            pairs,
            clean=torch.cat([before, pairs.clean], 1),
            corrupted=torch.cat([before, pairs.corrupted], 1),
            end=pairs.end + shift,
        )
    forget_peak()
    loaded = peak_gb(device)
    how = {"rule": "midpoint", "points": points}
    if kind == "attribution":
        seconds = best(lambda: attribute(model, pairs, **how), repeat)
        return {"seconds": seconds, "peak_gb": peak_gb(device), "loaded_gb": loaded}

    plain = model.hf_model
    tokens, rows, end = pairs.clean.to(model.device), torch.arange(prompts), pairs.end

    def passes(weights: bool):
        plain.requires_grad_(weights)
        embedded = plain.get_input_embeddings()(tokens).detach().requires_grad_()
        logits = plain(inputs_embeds=embedded, use_cache=False).logits[
            rows.to(model.device), end.to(model.device)
        ]
        (-pairs.metric(logits).mean()).backward()
        plain.zero_grad(set_to_none=True)

    @torch.no_grad()
    def forward():
        plain(tokens, use_cache=False)

    if kind == "ratio":  # alternating, so that both meet the machine in the same state
        ours, theirs, theirs_weights = [], [], []
        for _ in range(repeat):
            ours.append(best(lambda: attribute(model, pairs, **how), 1))
            theirs.append(points * best(lambda: passes(False), 1))
            theirs_weights.append(points * best(lambda: passes(True), 1))
        return {
            "seconds": min(ours),
            "plain": min(theirs),
            "plain_with_weights": min(theirs_weights),
        }
    if kind == "plain":
        return {"seconds": points * best(lambda: passes(False), repeat)}
    scores = attribute(model, pairs, **how)
    order, runs, out = (
        edge_order(scores.values, scores.graph),
        CorruptedRuns(model, pairs),
        {"forward": best(forward, repeat)},
    )
    for size in (50, 100, 200, 400, 2000):
        import numpy as np

        mask = np.zeros(scores.graph.mask.shape, bool)
        mask[tuple(order[:size].T)] = True  # nothing pruned: random weights would leave less
        circuit = Circuit(scores.graph, mask)
        out[str(size)] = {
            "edges": circuit.n_edges,
            "nodes": circuit.n_nodes,
            "known": best(partial(evaluate_masks, model, pairs, [mask], runs=runs), repeat),
            "whole": best(partial(evaluate_circuit, model, pairs, circuit), repeat),
        }
    return out


def run_case(folder: str, **what) -> dict:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import speed, json; "
        f"print('RESULT', json.dumps(speed.case({folder!r}, **{what!r})))"
    )
    library = str(Path(__file__).parents[1] / "lib")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": library},
    )
    line = next((one for one in done.stdout.splitlines() if one.startswith("RESULT")), None)
    if line is None:
        raise SystemExit(f"{what} failed:\n{done.stderr[-2000:]}")
    result = json.loads(line.removeprefix("RESULT"))
    print(
        json.dumps(what),
        {k: round(v, 3) for k, v in result.items() if isinstance(v, float)},
        flush=True,
    )
    return what | result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", help="only this real model, a suite's folder, say; prints only")
    parser.add_argument("--no-record", action="store_true", help="print only")
    parser.add_argument(
        "--only", help="measure one part, such as circuits, and keep the rest of the record"
    )
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "lib"))
    from circuitbook.store.provenance import machine, versions

    if options.model:
        print(json.dumps(real_case(options.model, device=options.device), indent=1))
        return
    shapes = GPU if options.device.startswith("cuda") else ("14m", "31m", "70m", "160m", "410m")
    with tempfile.TemporaryDirectory(prefix="circuitbook-bench-") as folder:
        if options.device.startswith("cuda"):
            rows = []
            for shape in shapes:
                run_case(folder, kind="attribution", shape=shape)  # writes the weights
                rows += [
                    run_case(
                        folder,
                        kind="attribution",
                        shape=shape,
                        prompts=70,
                        points=10,
                        device=options.device,
                        dtype=dtype,
                    )
                    for dtype in ("bfloat16", "float32")
                ]
            results = {"gpu": rows}
        else:

            def case(**what: object) -> dict:
                return run_case(folder, **({"kind": "attribution", "shape": "160m"} | what))

            parts = {
                "ratio": lambda: case(kind="ratio"),
                "memory": lambda: case(),
                "circuits": lambda: case(kind="circuits"),
                "prompts": lambda: [case(shape="70m", prompts=n) for n in (4, 16, 64, 256)],
                "points": lambda: [case(shape="70m", points=m) for m in (1, 2, 5, 10, 30)],
                "length": lambda: [case(shape="70m", shift=k) for k in (0, 16, 48, 96)],
                "models": lambda: [
                    case(shape=shape) | {"plain": case(shape=shape, kind="plain")["seconds"]}
                    for shape in shapes
                ],
                "real": lambda: real_case("smollm2"),
                "busy": lambda: [busy_case("mini", repeat=40), busy_case("smollm2")],
            }
            if options.only is not None and options.only not in parts:
                parser.error(f"there is no part {options.only!r}; there are {', '.join(parts)}")
            for shape in shapes if options.only not in ("real", "busy") else ():
                run_case(folder, kind="attribution", shape=shape)  # writes the weights
            results = {name: part() for name, part in parts.items() if options.only in (None, name)}
    about: dict = {
        "machine": {k: v for k, v in machine().items() if k != "host"},
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
    }
    if options.only:  # the other parts keep where and when they were measured
        record = json.loads(RESULTS.read_text())
        apart = record.get("apart", {}) | {options.only: about}
        results = record | results | {"apart": apart}
    else:
        results |= about
    if not options.no_record and not options.device.startswith("cuda"):
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(
        json.dumps(
            {k: v for k, v in results.items() if k in ("ratio", "memory", "circuits")}, indent=1
        )
    )


if __name__ == "__main__":
    main()
