"""A slow literal twin of attribution and circuits, from the definitions: one prompt at a time,
every position, float64.

The input of every node is written out as the sum of what its sources wrote, plus the attention
biases, which belong to no node. `edit` may replace what any edge carries, `see` the keys and values
[to, at, e] that each query sees. Works on transformers'
own models; uses nothing of the library but names.
"""

from __future__ import annotations

import torch
from parts import Parts, exact


def carried(source, target, written):
    return written


def seen(target, own):
    """The key or value [at, e] of a head, the same for all queries."""
    return own.expand(len(own), *own.shape)


class Literal:
    def __init__(self, network):
        self.network = exact(network)
        self.parts = Parts(self.network)
        self.embed = self.parts.embed

    def run(self, embeddings, edit=carried, see=seen):
        """(what each source wrote {name: [pos, d]}, logits [pos, vocab]); embeddings: [pos, d]."""
        parts, written, bias = self.parts, {"input": embeddings}, 0

        def read(target):
            return sum(edit(source, target, value) for source, value in written.items()) + bias

        for i in range(len(parts.blocks)):
            new = {}
            for h in range(parts.n_heads):
                qkv = [parts.projected(i, h, kind, read(f"a{i}.h{h}<{kind}>")) for kind in "qkv"]
                q, k, v = parts.prepared(i, *qkv)
                k, v = see(f"a{i}.h{h}<k>", k), see(f"a{i}.h{h}<v>", v)
                pattern = parts.scores(q, k)
                pattern = pattern.masked_fill(
                    torch.ones_like(pattern).triu(1).bool(), -torch.inf
                ).softmax(-1)
                z = (pattern[:, None] @ v)[:, 0]
                new[f"a{i}.h{h}"] = z @ parts.write(i, h).T
            new = parts.heads_write(i, new)
            if not parts.parallel:  # in a sequential block the MLP reads the heads of its layer
                written |= new
                bias = bias + parts.output_bias(i)
            new[f"m{i}"] = parts.mlp_writes(i, read(f"m{i}"))
            written |= new
            if parts.parallel:
                bias = bias + parts.output_bias(i)
        return written, parts.logits(read("logits"))

    def loss(self, pairs, i, embeddings, edit=carried, see=seen):
        _, logits = self.run(embeddings, edit, see)
        return -pairs.subset([i]).metric(logits[pairs.end[i]][None])[0]

    def circuit(self, pairs, edges):
        """Metric [n] with every edge that is not in `edges` (names) patched with its source's
        corrupted output."""
        out = []
        for i in range(len(pairs)):
            corrupted, _ = self.run(self.embed(pairs.corrupted[i]))

            def patch(source, target, value, corrupted=corrupted):
                return value if f"{source}->{target}" in edges else corrupted[source]

            out.append(-self.loss(pairs, i, self.embed(pairs.clean[i]), patch))
        return torch.stack(out)

    def score(self, pairs, edges, points, epsilon=1e-4):
        """Scores {edge name: mean over prompts} of `edges` (names) at the given points: each edge
        is shifted by +- epsilon times the difference of its source's output, and the central
        difference of the loss is taken. No gradients."""
        total = dict.fromkeys(edges, 0.0)
        for i in range(len(pairs)):
            clean, corrupted = self.embed(pairs.clean[i]), self.embed(pairs.corrupted[i])
            before, after = self.run(clean)[0], self.run(corrupted)[0]
            difference = {source: after[source] - before[source] for source in before}
            for t in points:
                z = clean + t * (corrupted - clean)
                for name in total:
                    up, down = (
                        self.loss(pairs, i, z, shifted(name, by, difference))
                        for by in (epsilon, -epsilon)
                    )
                    slope = float(up - down) / (2 * epsilon)
                    total[name] += slope / len(points) / len(pairs)
        return total


def shifted(edge, by, difference):
    """An edit that adds `by` times its source's difference to what `edge` carries."""

    def edit(source, target, written):
        return written + by * difference[source] if f"{source}->{target}" == edge else written

    return edit
