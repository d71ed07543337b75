"""FLOPs of a transformer by arithmetic. No torch in here.

Source: PaLM (Chowdhery et al. 2022, arXiv 2204.02311), appendix B: a token costs 6 N in the products with the N
parameters (2 in the forward, 4 in the backward) and 12 L H Q T in those of attention (L layers, H heads of width Q, T
tokens that are attended to). Of attention the full square counts, causal or not, as there. What is computed twice to
save memory counts for hardware FLOPs (HFU), never for model FLOPs (MFU).
"""

from __future__ import annotations

from typing import NamedTuple

FORWARD_AND_BACKWARD = 6
"""FLOPs a parameter and token: a multiply and an add in the forward, two of each in the backward."""
FORWARD = 2


class FlopsPerToken(NamedTuple):
    """`model`: what the result needs. `hardware`: what is computed for it; more, where activations are recomputed."""

    model: float
    hardware: float


def of_transformer(
    *,
    parameters: int,
    layers: int,
    heads: int,
    head_width: int,
    sequence_length: int,
    active_parameters: int | None = None,
    recomputed_layers: float = 0.0,
) -> FlopsPerToken:
    """FLOPs of training on one token (forward and backward).

    `parameters`: those that are multiplied by. An embedding that is only looked up is none; the last projection is
    one, tied to the embedding or not. `active_parameters`: of a mixture of experts, those that a token meets (router,
    chosen and shared experts, all that is dense); without it all of them count. `recomputed_layers`: how many of the
    layers run their forward again in the backward (activation checkpointing).

    Raises ValueError for what no transformer has, in one line.
    """
    sizes = {"parameters": parameters, "layers": layers, "heads": heads, "head_width": head_width}
    for name, value in {**sizes, "sequence_length": sequence_length}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, at least 1 is needed")
    active = parameters if active_parameters is None else active_parameters
    if not 0 < active <= parameters:
        raise ValueError(f"active_parameters is {active}, from 1 to parameters ({parameters}) is allowed")
    if not 0 <= recomputed_layers <= layers:
        raise ValueError(f"recomputed_layers is {recomputed_layers}, from 0 to layers ({layers}) is allowed")
    attended = 2 * heads * head_width * sequence_length  # multiply-adds of one layer's attention: scores and mixture
    forward = FORWARD * (active + layers * attended)
    model = float(FORWARD_AND_BACKWARD * (active + layers * attended))
    return FlopsPerToken(model, model + forward * recomputed_layers / layers)
