"""Gradients by other rules: what a pass forward does stays, what comes back differs.

A gradient says what an infinitely small change does. Patching changes things by a lot, so several
methods take for a network's nonlinear parts another slope than the true one, at the clean prompt
alone and so at the price of EAP:

-   RelP (Rezaei Jafari et al. 2025, arXiv:2508.21258; here as in the authors' code with its
    defaults): norms divide by a constant (LN-rule), an activation's slope is its value over its
    input (identity rule), both factors of a gated MLP get half of the product's gradient (half
    rule).
-   GIM (Edin et al. 2025, arXiv:2505.17630; as in the authors' package): norms divide by a
    constant, attention has a softmax of temperature 2 on the way back, and the factors of a product
    share its gradient: queries and keys get a quarter, values half, both branches of a gated MLP
    half.

The scores no longer add up to the change of the loss: completeness says nothing about them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from circuitbook.model.layers import Layer
from circuitbook.model.network import Network
from circuitbook.model.parts import MLP, HeadNorm, Norm, with_gradient_times


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What takes the place of the true slopes; the defaults are those."""

    frozen_norms: bool = False
    identity: bool = False
    """Whether an activation's slope is its value over its input."""
    halved: bool = False
    """Whether the branches of a gated MLP get half of the product's gradient each."""
    temperature: float = 1.0
    """Of attention's softmax."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """By what the gradients of queries, keys and values are multiplied."""


RULES_OF = {
    "relp": Rules(frozen_norms=True, identity=True, halved=True),
    "gim": Rules(
        frozen_norms=True, halved=True, temperature=2.0, scales={"q": 0.25, "k": 0.25, "v": 0.5}
    ),
}


def with_rules(network: Network, rules: Rules) -> Network:
    """The same network, whose gradients follow the rules; its tensors are shared."""
    return replace(
        network,
        layers=tuple(_layer(layer, rules) for layer in network.layers),
        norm_final=replace(network.norm_final, frozen=rules.frozen_norms),
        temperature=rules.temperature,
    )


def _layer(layer: Layer, rules: Rules) -> Layer:
    after = {
        kind: replace(what, frozen=rules.frozen_norms) if isinstance(what, HeadNorm) else what
        for kind, what in layer.after.items()
    }
    for kind, factor in rules.scales.items():
        after[kind] = _scaled(factor, after.get(kind))
    return replace(
        layer,
        norm_attention=replace(layer.norm_attention, frozen=rules.frozen_norms),
        norm_mlp=replace(layer.norm_mlp, frozen=rules.frozen_norms),
        norm_in={
            kind: replace(norm, frozen=rules.frozen_norms) for kind, norm in layer.norm_in.items()
        },
        norm_out=_behind(layer.norm_out, rules),
        after=after,
        mlp=_mlp(layer.mlp, rules),
    )


def _mlp(mlp: MLP, rules: Rules) -> MLP:
    activation = _identity_rule(mlp.activation) if rules.identity else mlp.activation
    norm_out = _behind(mlp.norm_out, rules)
    return replace(mlp, activation=activation, halved=rules.halved, norm_out=norm_out)


def _behind(norm: Norm | None, rules: Rules) -> Norm | None:
    """The norm behind the heads, or the MLP, if there is one."""
    return None if norm is None else replace(norm, frozen=rules.frozen_norms)


def _scaled(factor: float, before: Callable[[Tensor], Tensor] | None) -> Callable[[Tensor], Tensor]:
    """What is done before, if anything; then the gradient times a factor."""

    def scaled(x: Tensor) -> Tensor:
        return with_gradient_times(factor, x if before is None else before(x))

    return scaled


STABLE = 1e-6  # added to an activation's input, away from 0, before it divides


def _identity_rule(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The activation, with value over input for its slope."""

    def linear(x: Tensor) -> Tensor:
        value = activation(x).detach()
        away = x.detach() + STABLE * (x.detach().sign() + (x.detach() == 0))
        return value + (value / away) * (x - x.detach())

    return linear
