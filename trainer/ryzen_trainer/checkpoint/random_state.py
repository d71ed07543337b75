"""The random generators of one rank: Python, NumPy where it is loaded, torch, and the rank's CUDA device."""

from __future__ import annotations

import random
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """A snapshot in plain numbers and byte tensors, so that it is read back without unrestricted pickle."""

    python: tuple[Any, ...]
    torch: Tensor
    numpy: tuple[str, list[int], int, int, float] | None
    cuda: Tensor | None

    @classmethod
    def capture(cls) -> RandomState:
        """As they are now."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return cls(random.getstate(), torch.get_rng_state(), _numpy_state(), cuda)

    def restore(self) -> None:
        """Put every generator back that exists here. A generator without a saved state is left alone."""
        version, words, gauss = self.python
        random.setstate((version, tuple(words), gauss))
        torch.set_rng_state(self.torch)
        if self.numpy is not None:
            import numpy as np

            name, keys, position, has_gauss, cached = self.numpy
            np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
        if self.cuda is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.cuda)

    def same_outside_torch(self, other: RandomState) -> bool:
        """Whether nobody has drawn from Python's or NumPy's generator between the two."""
        return (self.python, self.numpy) == (other.python, other.numpy)

    def as_plain(self) -> dict[str, Any]:
        """For the checkpoint."""
        return asdict(self)


def reseed(step: int) -> None:
    """For a rank that the checkpoint knows no state of: not the random numbers of step 0 once more."""
    seed = (torch.initial_seed() + 0x9E3779B97F4A7C15 * (step + 1)) % (1 << 63)
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(seed % (1 << 32))


def _numpy_state() -> tuple[str, list[int], int, int, float] | None:
    if "numpy" not in sys.modules:
        return None
    import numpy as np

    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)
