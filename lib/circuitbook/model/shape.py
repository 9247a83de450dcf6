"""The sizes of a model, read off its config.json; no weights are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# model_type of config.json -> the class of transformers, and who is built so
ARCHITECTURES = {
    "gpt_neox": ("GPTNeoXForCausalLM", "Pythia, mini"),
    "gpt2": ("GPT2LMHeadModel", "GPT-2"),
    "llama": ("LlamaForCausalLM", "Llama, SmolLM, SmolLM2, Amber"),
    "olmo": ("OlmoForCausalLM", "OLMo 1"),
    "olmo2": ("Olmo2ForCausalLM", "OLMo 2"),
    "olmo3": ("Olmo3ForCausalLM", "OLMo 3"),
    "mistral": ("MistralForCausalLM", "Mistral"),
    "qwen2": ("Qwen2ForCausalLM", "Qwen 2 and 2.5"),
    "qwen3": ("Qwen3ForCausalLM", "Qwen 3"),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3"),
    "gemma2": ("Gemma2ForCausalLM", "Gemma 2"),
    "gemma3_text": ("Gemma3ForCausalLM", "Gemma 3 of text alone"),
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes that the graph, the memory plan and the figures need."""

    n_layers: int
    n_heads: int
    """Heads that share keys and values count as heads of their own."""
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    parallel: bool
    """Whether attention and MLP of a layer read the same stream."""
    gated: bool = False
    """Whether the MLP has a third matrix, as in Llama."""
    capped: bool = False
    """Whether attention scores are capped, as in Gemma 2."""
    context: int | None = None
    """The most tokens of a text that the model takes; None where that is not known."""


def shape_of(config: dict[str, Any]) -> Shape:
    """The shape of a supported model from its config.json."""
    from transformers import AutoConfig

    kind = config["model_type"]
    c: Any = AutoConfig.for_model(**config)  # knows each architecture's names and defaults
    d_mlp = (c.n_inner or 4 * c.n_embd) if kind == "gpt2" else c.intermediate_size
    return Shape(
        n_layers=c.num_hidden_layers,
        n_heads=c.num_attention_heads,
        d_model=c.hidden_size,
        d_head=getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads,
        d_mlp=d_mlp,
        d_vocab=c.vocab_size,
        parallel=kind == "gpt_neox" and c.use_parallel_residual,
        gated=kind not in ("gpt_neox", "gpt2"),
        capped=getattr(c, "attn_logit_softcapping", None) is not None,
        context=_longest(c),
    )


def _longest(c: Any) -> int | None:
    """The most tokens of a text for which attention is over all that stand before: the context, or
    the window of the layers that look no further back.
    """
    limits = [getattr(c, "max_position_embeddings", None), window_of(c)]
    return min((limit for limit in limits if limit is not None), default=None)


def window_of(c: Any) -> int | None:
    """How far some layers look back at most, of a configuration; None if all look at everything."""
    windowed = "sliding_attention" in (getattr(c, "layer_types", None) or [])
    if c.model_type == "mistral" or windowed:
        return getattr(c, "sliding_window", None)
    return None


def attention_of(kind: str) -> str:
    """transformers' implementation of attention for a model_type: torch's own, where it has it."""
    model_class: Any = transformers_class(kind)
    return "sdpa" if model_class._supports_sdpa else "eager"  # Gemma 2 caps scores


def transformers_class(kind: str) -> type[PreTrainedModel]:
    """The class of transformers for a model_type of `ARCHITECTURES`."""
    import transformers

    return getattr(transformers, ARCHITECTURES[kind][0])


def count_parameters(config: dict[str, Any]) -> int:
    """How many weights a model with this config.json has; none of them is made."""
    import torch
    from transformers import AutoConfig

    model_class: Any = transformers_class(config["model_type"])
    with torch.device("meta"):
        hf_model = model_class(AutoConfig.for_model(**config))
    return sum(weight.numel() for weight in hf_model.parameters())  # a tied embedding is one
