"""Peak FLOP/s of devices by data type: dense, as their makers state it. No torch in here.

Data sheets of NVIDIA give tensor figures "with sparsity" where they are larger; half of that is dense. "tf32" is
float32 through tensor cores, "float32" without them. What a data sheet does not say, or what sources disagree about,
is left out: an unknown peak shows no MFU, a wrong one shows a wrong MFU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NVIDIA = "https://www.nvidia.com/en-us/data-center"
_AMD = "https://www.amd.com/en/products/accelerators/instinct"


@dataclass(frozen=True, slots=True)
class Peak:
    """`pattern`: of the device's name as torch and the driver give it. `tflops`: TFLOP/s by data type, dense."""

    device: str
    pattern: str
    tflops: dict[str, float]
    source: str


def _half(bfloat16: float, float8: float | None, tf32: float | None, float32: float | None) -> dict[str, float]:
    """Both types of 16 bits go at one rate on all of these."""
    found = {"bfloat16": bfloat16, "float16": bfloat16, "float8": float8, "tf32": tf32, "float32": float32}
    return {name: value for name, value in found.items() if value is not None}


_HOPPER = _half(989.4, 1978.9, 494.7, 66.9)

PEAKS = (
    Peak("GB200", r"\bGB200\b", _half(2500, 5000, 1250, None), f"{_NVIDIA}/gb200-nvl72/ (a 72nd of the rack)"),
    Peak("B200", r"\bB200\b", _half(2250, 4500, 1100, None), f"{_NVIDIA}/hgx/ (an eighth of HGX B200)"),
    Peak("H200 NVL", r"\bH200 NVL\b", _half(835.5, 1670.5, 417.5, 60), f"{_NVIDIA}/h200/"),
    Peak("H200 SXM", r"\bH200\b", _HOPPER, f"{_NVIDIA}/h200/"),
    Peak("GH200", r"\bGH200\b", _HOPPER, f"{_NVIDIA}/grace-hopper-superchip/"),
    Peak("H100 NVL", r"\bH100 NVL\b", _half(835.5, 1670.5, 417.5, 60), f"{_NVIDIA}/h100/"),
    Peak("H100 PCIe", r"\bH100 PCIe\b", _half(756.5, 1513, 378, 51.2), "H100 architecture white paper, table 2"),
    Peak("H100 SXM", r"\bH100\b", _HOPPER, "H100 architecture white paper, table 2"),
    Peak("H800 SXM", r"\bH800\b(?! PCIe)", _HOPPER, "H100 architecture white paper (same chip)"),
    Peak("A100", r"\bA100\b", _half(312, None, 156, 19.5), f"{_NVIDIA}/a100/"),
    Peak("A800", r"\bA800\b", _half(312, None, 156, 19.5), "A100 architecture white paper (same chip)"),
    Peak("L40S", r"\bL40S\b", _half(362.05, 733, 183, 91.6), f"{_NVIDIA}/l40s/"),
    Peak("L40", r"\bL40\b", _half(181.05, 362, 90.5, 90.5), f"{_NVIDIA}/l40/"),
    Peak("L4", r"\bL4\b", _half(121, 242.5, 60, 30.3), f"{_NVIDIA}/l4/ (halved)"),
    Peak("A10", r"\bA10\b", _half(125, None, 62.5, 31.2), f"{_NVIDIA}/products/a10-gpu/"),
    Peak("V100 SXM2", r"\bV100-SXM2\b", {"float16": 125.0, "float32": 15.7}, f"{_NVIDIA}/v100/"),
    Peak("MI300X", r"\bMI300X\b", _half(1307.4, 2614.9, 653.7, 163.4), f"{_AMD}/mi300/mi300x.html"),
    Peak("MI325X", r"\bMI325X\b", _half(1307.4, 2614.9, 653.7, 163.4), f"{_AMD}/mi300/mi325x.html"),
)  # fmt: skip
"""The first whose pattern is found in a device's name counts."""

DTYPES = ("bfloat16", "float16", "float8", "tf32", "float32")


def peak_flops(device_name: str, dtype: str) -> float | None:
    """Dense FLOP/s of one device; None for one that is not in the table or a type that its data sheet does not name.

    `dtype`: one of `DTYPES`. Raises ValueError for any other.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, one of {', '.join(DTYPES)} is allowed")
    for each in PEAKS:
        if re.search(each.pattern, device_name, re.IGNORECASE):
            tera = each.tflops.get(dtype)
            return None if tera is None else tera * 1e12
    return None


def table() -> str:
    """The peaks as a table of Markdown, for docs/training.md."""
    lines = ["| device | " + " | ".join(DTYPES) + " | source |", "|---|" + "---|" * (len(DTYPES) + 1)]
    for each in PEAKS:
        figures = " | ".join(f"{each.tflops[name]:g}" if name in each.tflops else "-" for name in DTYPES)
        lines.append(f"| {each.device} | {figures} | {each.source} |")
    return "\n".join(lines)
