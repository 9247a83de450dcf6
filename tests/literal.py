"""A slow literal twin of attribution and circuits, from the definitions: one prompt at a time, every position, float64.

The input of every node is written out as the sum of what its sources wrote, plus the attention biases, which belong to no
node. `edit` may replace what any edge carries. Works on transformers' own GPT-NeoX; uses nothing of the library but names.
"""

from __future__ import annotations

import copy

import torch
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb


class Literal:
    def __init__(self, network):
        self.network = copy.deepcopy(network).double().eval().requires_grad_(False)
        self.body, self.heads = self.network.base_model, network.config.num_attention_heads
        self.d_head = network.config.hidden_size // self.heads

    def embed(self, tokens):
        return self.body.embed_in(tokens)

    def run(self, embeddings, edit=lambda source, target, written: written):
        """(what every source wrote {name: [pos, d]}, logits [pos, vocab]) from embeddings [pos, d]."""
        written, bias = {"input": embeddings}, 0

        def read(target):
            return sum(edit(source, target, value) for source, value in written.items()) + bias

        positions = torch.arange(len(embeddings))[None]
        cos, sin = self.body.rotary_emb(embeddings[None], positions)
        for i, layer in enumerate(self.body.layers):
            attention, new = layer.attention, {}
            for h in range(self.heads):
                qkv = []
                for k, kind in enumerate("qkv"):
                    x = layer.input_layernorm(read(f"a{i}.h{h}<{kind}>"))
                    rows = slice((3 * h + k) * self.d_head, (3 * h + k + 1) * self.d_head)
                    weight, b = attention.query_key_value.weight[rows], attention.query_key_value.bias[rows]
                    qkv.append((x @ weight.T + b)[None, None])
                q, k = apply_rotary_pos_emb(qkv[0], qkv[1], cos, sin)
                pattern = q[0, 0] @ k[0, 0].T / self.d_head**0.5
                pattern = pattern.masked_fill(torch.ones_like(pattern).triu(1).bool(), -torch.inf).softmax(-1)
                out = attention.dense.weight[:, h * self.d_head:(h + 1) * self.d_head]
                new[f"a{i}.h{h}"] = pattern @ qkv[2][0, 0] @ out.T
            new[f"m{i}"] = layer.mlp(layer.post_attention_layernorm(read(f"m{i}")))
            written |= new                             # parallel: heads do not feed the MLP of their layer
            bias = bias + attention.dense.bias
        return written, self.network.lm_head(self.body.final_layer_norm(read("logits")))

    def loss(self, pairs, i, embeddings, edit=lambda source, target, written: written):
        _, logits = self.run(embeddings, edit)
        return -pairs.subset([i]).metric(logits[pairs.end[i]][None])[0]

    def circuit(self, pairs, edges):
        """Metric [n] with every edge that is not in `edges` (names) patched with its source's corrupted output."""
        out = []
        for i in range(len(pairs)):
            corrupted, _ = self.run(self.embed(pairs.corrupted[i]))
            patch = lambda source, target, value: value if f"{source}->{target}" in edges else corrupted[source]
            out.append(-self.loss(pairs, i, self.embed(pairs.clean[i]), patch))
        return torch.stack(out)

    def score(self, pairs, graph, points, epsilon=1e-4):
        """Scores {edge name: mean over prompts} at the given points: each edge is shifted by +- epsilon times the
        difference of its source's output, and the central difference of the loss is taken. No gradients."""
        total = dict.fromkeys(graph.edge_names, 0.0)
        for i in range(len(pairs)):
            clean, corrupted = self.embed(pairs.clean[i]), self.embed(pairs.corrupted[i])
            before, after = self.run(clean)[0], self.run(corrupted)[0]
            for t in points:
                z = clean + t * (corrupted - clean)
                for name in total:
                    def loss(e):
                        shift = lambda s, v, w: w + e * (after[s] - before[s]) if f"{s}->{v}" == name else w
                        return self.loss(pairs, i, z, shift)
                    total[name] += float(loss(epsilon) - loss(-epsilon)) / (2 * epsilon) / len(points) / len(pairs)
        return total
