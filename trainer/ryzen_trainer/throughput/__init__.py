"""How many FLOPs a step is worth and how many the device could do: what MFU is made of.

    flops = throughput.of_transformer(parameters=..., layers=..., heads=..., head_width=..., sequence_length=...)
    run.measures(flops_per_token=flops.model, peak_flops=throughput.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16"))

From then on `run.report(tokens=n)` is all that is needed. Nothing is divided in the training loop: the agent does it,
over a window of finished steps. Three ways to the numerator: the formula (`flops`), a count of what the model itself
does (`counting`, which needs torch), or a figure of the user's own. Two to the denominator: the makers' data sheets
(`peaks`), or for CPUs a measured matrix product (`device`, which needs torch).
"""

from __future__ import annotations

from ryzen_trainer.throughput.flops import FlopsPerToken, of_transformer
from ryzen_trainer.throughput.peaks import peak_flops

__all__ = ["FlopsPerToken", "of_transformer", "peak_flops"]
