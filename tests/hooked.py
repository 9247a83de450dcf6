"""A real Llama patched as patching is defined, with torch's own hooks on transformers' modules: one
prompt pair and one patch at a time, every position. Uses nothing of the library but names."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb


@contextlib.contextmanager
def hooks(before=(), after=()) -> Iterator[None]:
    """before: (module, f): f(input) takes the input's place, unless None; after: the same with the
    output."""
    handles = [
        module.register_forward_pre_hook(lambda m, x, f=f: None if (y := f(x[0])) is None else (y,))
        for module, f in before
    ]
    handles += [module.register_forward_hook(lambda m, x, y, f=f: f(y)) for module, f in after]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def place_of(node: str) -> tuple[int, int | None, str]:
    """(layer, head, input) of "a3.h1<q>", "a3.h1" or "m3", whose head is None."""
    layer, head, kind = re.fullmatch(r"[am](\d+)(?:\.h(\d+))?(?:<(.)>)?", node).groups()
    return int(layer), None if head is None else int(head), kind


class Hooked:
    """A prompt pair in a LlamaForCausalLM."""

    def __init__(self, network, pairs, i: int) -> None:
        self.network, self.pairs = network, pairs.subset([i])
        self.layers, self.stop = network.model.layers, int(pairs.end[i]) + 1
        self.tokens = self.pairs.clean[:, : self.stop]
        self.clean, self.metric = self.recorded()
        corrupted_tokens = self.pairs.corrupted[:, : self.stop]
        self.corrupted, self.corrupted_metric = self.recorded(tokens=corrupted_tokens)

    @torch.no_grad()
    def recorded(self, before=(), after=(), tokens=None) -> tuple[dict, Tensor]:
        """(what modules took and gave, the metric) of the clean prompt, run with these hooks.

        "input" and ("mlp", layer): what was written, [1, pos, d]; ("z", layer): of all heads;
        ("x", layer): the stream that the heads of a layer read.
        """
        seen: dict = {}

        def keep(name):
            return lambda x: seen.__setitem__(name, x.clone())

        last, first = [(self.network.model.embed_tokens, keep("input"))], []
        for i, layer in enumerate(self.layers):
            first += [
                (layer.input_layernorm, keep(("x", i))),
                (layer.self_attn.o_proj, keep(("z", i))),
            ]
            last += [(layer.mlp, keep(("mlp", i)))]
        with hooks([*before, *first], [*after, *last]):
            tokens = self.tokens if tokens is None else tokens
            logits = self.network(tokens, logits_to_keep=1).logits
        return seen, self.pairs.metric(logits[:, -1])[0]

    def part(self, layer: int, head: int) -> slice:
        """Where a head is in the input of o_proj."""
        e = self.layers[layer].self_attn.head_dim
        return slice(head * e, (head + 1) * e)

    def written(self, seen: dict, source: str) -> Tensor:
        """What a node wrote into the stream, [1, pos, d]."""
        if source == "input":
            return seen["input"]
        layer, head, _ = place_of(source)
        if head is None:
            return seen["mlp", layer]
        part = self.part(layer, head)
        return seen["z", layer][..., part] @ self.layers[layer].self_attn.o_proj.weight[:, part].T

    @torch.no_grad()
    def head(self, layer: int, head: int, **reads: Tensor) -> Tensor:
        """z [1, pos, e] of one head whose q, k and v read these streams, each [1, pos, d]."""
        block = self.layers[layer]
        attention: nn.Module = block.self_attn
        group = head // attention.num_key_value_groups
        projected = {}
        for kind, one in (("q", head), ("k", group), ("v", group)):
            weight = getattr(attention, f"{kind}_proj").weight[self.part(layer, one)]
            projected[kind] = F.linear(block.input_layernorm(reads[kind]), weight)[:, None]
        cos_sin = self.network.model.rotary_emb(reads["q"], torch.arange(self.stop)[None])
        q, k = apply_rotary_pos_emb(projected["q"], projected["k"], *cos_sin)
        scores = q @ k.transpose(-1, -2) * attention.head_dim**-0.5
        later = torch.ones(self.stop, self.stop, dtype=torch.bool).triu(1)
        return (scores.masked_fill(later, -torch.inf).softmax(-1) @ projected["v"])[:, 0]

    def with_input(self, target: str, stream: Tensor) -> Tensor:
        """The metric of the clean prompt when one input of a node reads another stream there."""
        if target == "logits":
            return self.recorded([(self.network.model.norm, lambda x: stream)])[1]
        layer, head, kind = place_of(target)
        block = self.layers[layer]
        if head is None:  # the norm's output goes to the MLP alone
            return self.recorded([(block.post_attention_layernorm, lambda x: stream)])[1]
        reads = dict.fromkeys("qkv", self.clean["x", layer]) | {kind: stream}
        z = self.head(layer, head, **reads)
        return self.recorded([(block.self_attn.o_proj, self.put(layer, head, z))])[1]

    def put(self, layer: int, head: int, z: Tensor):
        """A hook before o_proj, after which this is the z of that head."""

        def replaced(x):
            x = x.clone()
            x[..., self.part(layer, head)] = z
            return x

        return replaced

    def reads(self, target: str, seen: dict) -> Tensor:
        """The stream that a node reads."""
        if target == "logits":
            return self.reads(f"m{len(self.layers) - 1}", seen) + seen["mlp", len(self.layers) - 1]
        layer, head, _ = place_of(target)
        attention = self.layers[layer].self_attn.o_proj(seen["z", layer]) if head is None else 0
        return seen["x", layer] + attention

    @torch.no_grad()
    def edge_patched(self, source: str, target: str) -> Tensor:
        """The metric when this edge alone carries its source's corrupted output."""
        change = self.written(self.corrupted, source) - self.written(self.clean, source)
        return self.with_input(target, self.reads(target, self.clean) + change)

    @torch.no_grad()
    def path_patched(
        self, sender: str, receiver: str, sender_at: str | None, receiver_at: str | None
    ) -> Tensor:
        """The metric after the three passes of path patching, from a head."""
        own_layer, own_head, _ = place_of(sender)
        held = {i: self.clean["z", i].clone() for i in range(len(self.layers))}
        at, part = self.positions(sender_at), self.part(own_layer, own_head)
        held[own_layer][:, at, part] = self.corrupted["z", own_layer][:, at, part]
        second, direct = self.recorded(
            [(self.layers[i].self_attn.o_proj, lambda x, z=z: z) for i, z in held.items()]
        )
        if receiver == "logits":
            return direct
        stream, at = self.reads(receiver, self.clean).clone(), self.positions(receiver_at)
        stream[:, at] = self.reads(receiver, second)[:, at]
        return self.with_input(receiver, stream)

    def positions(self, name: str | None) -> slice | list[int]:
        return slice(None) if name is None else [int(self.pairs.positions[name][0])]
