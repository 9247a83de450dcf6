"""Where transformers keeps what in each architecture: what the literal twins are written with. Uses
nothing of the library."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import AttentionInterface

# module names: blocks, attention, its output, norm before attention, norm before the MLP,
# embedding, last norm
_NAMES = {
    "gpt_neox": (
        "layers",
        "attention",
        "dense",
        "input_layernorm",
        "post_attention_layernorm",
        "embed_in",
        "final_layer_norm",
    ),
    "gpt2": ("h", "attn", "c_proj", "ln_1", "ln_2", "wte", "ln_f"),
    "llama": (
        "layers",
        "self_attn",
        "o_proj",
        "input_layernorm",
        "post_attention_layernorm",
        "embed_tokens",
        "norm",
    ),
}
ONLY_BEHIND = ("olmo2", "olmo3")  # norms behind attention and MLP, none before
GEMMA = ("gemma2", "gemma3_text")  # both; their weights are stored without the 1
BEHIND = (*ONLY_BEHIND, *GEMMA)
# of Llama: the same names
KIN = ("llama", "olmo", "mistral", "qwen2", "qwen3", "smollm3", *BEHIND)
_NAMES |= dict.fromkeys(KIN, _NAMES["llama"])
_NAMES |= dict.fromkeys(
    GEMMA, (*_NAMES["llama"][:4], "pre_feedforward_layernorm", *_NAMES["llama"][5:])
)


def _capped_attention(module, query, key, value, mask, scaling, softcap=None, **_):
    """Gemma 2's, in the dtype of its inputs, over all that stands before: transformers takes the
    softmax in float32."""
    key, value = (x.repeat_interleave(module.num_key_value_groups, 1) for x in (key, value))
    scores = softcap * (scaling * query @ key.mT / softcap).tanh()
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(later, -torch.inf).softmax(-1)
    return (pattern @ value).transpose(1, 2), pattern


AttentionInterface.register("capped", _capped_attention)


def exact(network):
    """A copy in float64. The norms of Llama and its kin compute in float32 whatever comes in;
    torch's own take their place."""
    network = copy.deepcopy(network).double().eval().requires_grad_(False)
    kind, d = network.config.model_type, network.config.hidden_size
    if kind in KIN:
        for module in list(network.modules()):
            for name, norm in list(module.named_children()):
                if hasattr(norm, "variance_epsilon"):
                    new = nn.RMSNorm(
                        norm.weight.shape, eps=norm.variance_epsilon, dtype=torch.float64
                    )
                    new.weight = norm.weight
                    setattr(module, name, new)
                elif type(norm).__name__ in ("Gemma2RMSNorm", "Gemma3RMSNorm"):
                    new = nn.RMSNorm(norm.weight.shape, eps=norm.eps, dtype=torch.float64)
                    new.weight = nn.Parameter(1 + norm.weight, requires_grad=False)
                    setattr(module, name, new)
                elif type(norm).__name__ == "OlmoLayerNorm":
                    setattr(
                        module,
                        name,
                        nn.LayerNorm(d, eps=1e-5, elementwise_affine=False, dtype=torch.float64),
                    )
    if kind == "gemma2":
        network.set_attn_implementation("capped")
    return network


def ungrouped(network):
    """Where heads share keys and values: every head with its own copy, in place, so that they can
    be patched one by one."""
    heads, shared = (
        network.config.num_attention_heads,
        getattr(network.config, "num_key_value_heads", None),
    )
    if shared and shared < heads:
        for block in network.base_model.layers:
            for linear in (block.self_attn.k_proj, block.self_attn.v_proj):
                rows = linear.weight.unflatten(0, (shared, -1)).repeat_interleave(
                    heads // shared, 0
                )
                linear.weight = nn.Parameter(rows.flatten(0, 1), requires_grad=False)
                if linear.bias is not None:
                    biases = linear.bias.unflatten(0, (shared, -1)).repeat_interleave(
                        heads // shared, 0
                    )
                    linear.bias = nn.Parameter(biases.flatten(), requires_grad=False)
            if (
                network.config.model_type in ONLY_BEHIND
            ):  # as many times the same: the mean square stays
                norm = block.self_attn.k_norm
                rows = norm.weight.unflatten(0, (shared, -1)).repeat_interleave(heads // shared, 0)
                norm.weight = nn.Parameter(rows.flatten(), requires_grad=False)
                norm.normalized_shape = tuple(norm.weight.shape)
            block.self_attn.num_key_value_groups = 1
        network.config.num_key_value_heads = heads
    return network


class Parts:
    """A network's modules by what they are for, and one head's weights."""

    def __init__(self, network):
        self.network, self.config, self.body = network, network.config, network.base_model
        blocks, attention, output, before, between, embed, last = _NAMES[self.config.model_type]
        self.blocks = list(getattr(self.body, blocks))
        self.attention = [getattr(block, attention) for block in self.blocks]
        self.output = [getattr(one, output) for one in self.attention]
        self.behind = self.config.model_type in BEHIND
        self.joint = self.config.model_type in ONLY_BEHIND  # one norm over all heads' queries
        self.norm_attention = [getattr(block, before, None) for block in self.blocks]
        self.norm_mlp = [None if self.joint else getattr(block, between) for block in self.blocks]
        self.mlp = [block.mlp for block in self.blocks]
        self.words, self.norm_final, self.unembed = (
            getattr(self.body, embed),
            getattr(self.body, last),
            network.lm_head.weight,
        )
        self.n_heads = self.config.num_attention_heads
        self.d_head = (
            getattr(self.config, "head_dim", None) or self.config.hidden_size // self.n_heads
        )
        self.parallel = getattr(self.config, "use_parallel_residual", False)

    @property
    def group(self):
        """How many heads share a key and a value."""
        return self.n_heads // getattr(self.config, "num_key_value_heads", self.n_heads)

    def embed(self, tokens):
        x = self.words(tokens)
        return (
            x + self.body.wpe(torch.arange(tokens.shape[-1]))
            if self.config.model_type == "gpt2"
            else x
        )

    def projected(self, layer, head, kind, x):
        """[pos, e]: a head's query, key or value of the stream [pos, d] that it reads. In OLMo 2 it
        is normed together with those that all heads would have of this stream."""
        x = literal_norm(x, self.norm_attention[layer])
        weight, bias = self.read(layer, head, kind)
        if not self.joint or kind == "v":
            return x @ weight.T + bias
        norm, e = getattr(self.attention[layer], f"{kind}_norm"), self.d_head
        whole = getattr(self.attention[layer], f"{kind}_proj").weight
        first = (head if kind == "q" else head // self.group) * e
        root = (((x @ whole.T) ** 2).mean(-1, keepdim=True) + norm.eps).sqrt()
        return x @ weight.T / root * norm.weight[first : first + e]

    def heads_write(self, layer, given):
        """What each head [pos, d] writes, of what their output maps give: in OLMo 2 its share of
        their normed sum."""
        if not self.behind:
            return given
        norm = self.blocks[layer].post_attention_layernorm
        root = deviation(sum(given.values()), norm)
        return {name: value / root * norm.weight for name, value in given.items()}

    def of_heads(self, layer, z):
        """{head: what it writes [..., d]} of what attention gives all of them, [..., head * e]."""
        heads = range(self.n_heads)
        return self.heads_write(
            layer, {head: z[..., self.place(head)] @ self.write(layer, head).T for head in heads}
        )

    def write_scaled(self, layer, head):
        """[d, e]: what a head makes of its z once what a norm behind it divides by is in that."""
        write = self.write(layer, head)
        return self.adds(layer).weight[:, None] * write if self.behind else write

    def adds(self, layer):
        """The module that gives what attention adds to the stream."""
        return self.blocks[layer].post_attention_layernorm if self.behind else self.output[layer]

    def mlp_adds(self, layer):
        """The module that gives what the MLP adds."""
        return self.blocks[layer].post_feedforward_layernorm if self.behind else self.mlp[layer]

    def mlp_writes(self, layer, x):
        """[pos, d]: what the MLP writes, of the stream that it reads."""
        given = self.mlp[layer](literal_norm(x, self.norm_mlp[layer]))
        if not self.behind:
            return given
        return literal_norm(given, self.blocks[layer].post_feedforward_layernorm)

    def prepared(self, layer, q, k, v):
        """q, k and v [pos, e] of a head as attention takes them: normed, clipped, turned by rotary,
        scaled, where the architecture says so."""
        attention, config = self.attention[layer], self.config
        if config.model_type in ("qwen3", "gemma3_text"):
            q, k = literal_norm(q, attention.q_norm), literal_norm(k, attention.k_norm)
        if (most := getattr(config, "clip_qkv", None)) is not None:
            q, k, v = (x.where(x.abs() < most, most * x.sign()) for x in (q, k, v))
        if config.model_type == "gpt2":
            return q / (layer + 1 if config.scale_attn_by_inverse_layer_idx else 1), k, v
        if config.model_type == "smollm3" and not config.no_rope_layers[layer]:
            return q, k, v
        return *self.rotated(layer, q, k), v

    def scores(self, q, k):
        """[query, key]: what the softmax is taken of, of q and k as attention takes them. k may be
        another for each query: [query, key, e]."""
        products = q @ k.T if k.ndim == 2 else (k @ q[..., None])[..., 0]
        if self.config.model_type not in GEMMA:
            return products / self.d_head**0.5
        products = products / self.config.query_pre_attn_scalar**0.5
        return capped(products, self.config.attn_logit_softcapping)

    def logits(self, last):
        """[pos, vocab], of the last stream."""
        logits = literal_norm(last, self.norm_final) @ self.unembed.T
        return capped(logits, getattr(self.config, "final_logit_softcapping", None))

    def value(self, layer, head, x):
        """[e]: what a head passes on of a position whose stream is x [d]."""
        weight, bias = self.read(layer, head, "v")
        value = (weight @ literal_norm(x, self.norm_attention[layer]) + bias)[None]
        return self.prepared(layer, value, value, value)[2][0]

    def place(self, head):
        """Where a head is in the input of the output map."""
        return slice(head * self.d_head, (head + 1) * self.d_head)

    def rotated(self, layer, q, k):
        """q and k [pos, e] after a layer's rotary, if there is any."""
        if self.config.model_type == "gpt2":
            return q, k
        from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

        by_kind = self.config.model_type in ("olmo3", "gemma3_text")
        of_kind = self.config.layer_types[layer : layer + 1] if by_kind else []
        cos, sin = self.body.rotary_emb(q[None], torch.arange(len(q))[None], *of_kind)
        return [x[0, 0] for x in apply_rotary_pos_emb(q[None, None], k[None, None], cos, sin)]

    def read(self, layer, head, kind):
        """Weight [e, d] and bias [e] of one head's q, k or v."""
        attention, e, i = self.attention[layer], self.d_head, "qkv".index(kind)
        if self.config.model_type == "gpt_neox":
            rows = slice((3 * head + i) * e, (3 * head + i + 1) * e)
            return attention.query_key_value.weight[rows], attention.query_key_value.bias[rows]
        if self.config.model_type == "gpt2":
            columns = slice(i * self.n_heads * e + head * e, i * self.n_heads * e + (head + 1) * e)
            return attention.c_attn.weight[:, columns].T, attention.c_attn.bias[columns]
        group = head if kind == "q" else head // self.group
        rows, linear = slice(group * e, (group + 1) * e), getattr(attention, f"{kind}_proj")
        weight = linear.weight[rows]
        none = torch.zeros(e, dtype=weight.dtype)
        return weight, none if linear.bias is None else linear.bias[rows]

    def write(self, layer, head):
        """[d, e]: what a head makes of its z."""
        columns, weight = (
            slice(head * self.d_head, (head + 1) * self.d_head),
            self.output[layer].weight,
        )
        return weight[columns].T if self.config.model_type == "gpt2" else weight[:, columns]

    def output_bias(self, layer):
        bias = getattr(self.output[layer], "bias", None)
        return 0 if bias is None else bias

    def unembedding(self):
        """[vocab, d] with the last norm's weight in it, and its centring."""
        return centred(self.unembed * weight_of(self.norm_final), self.norm_final)


def capped(x, most):
    return x if most is None else most * torch.tanh(x / most)


def centred(x, norm):
    return x if isinstance(norm, nn.RMSNorm) else x - x.mean(-1, keepdim=True)


def weight_of(norm):
    return 1.0 if norm.weight is None else norm.weight


def bias_of(norm):
    bias = getattr(norm, "bias", None)
    return torch.zeros(norm.normalized_shape, dtype=torch.float64) if bias is None else bias


def deviation(x, norm):
    """What the norm divides by, [..., 1]."""
    return (centred(x, norm).square().mean(-1, keepdim=True) + norm.eps).sqrt()


def literal_norm(x, norm):
    if norm is None:
        return x
    return centred(x, norm) / deviation(x, norm) * weight_of(norm) + bias_of(norm)
