"""Python imports this at start wherever the lab put this folder first on PYTHONPATH: torchrun and its ranks.

It loads the lab's hook in ranks only, a forked one included but not the `ryzen-worker` before it, and then runs the
`sitecustomize` that it hides, if there is one.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys


def _run_hidden() -> None:
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - before pathlib is worth its import
    others = [each for each in sys.path if os.path.abspath(each) != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def _is_stub() -> bool:
    return any(os.path.basename(each) == "ryzen-worker" for each in sys.orig_argv[1:2])  # noqa: PTH119


if "RANK" in os.environ and not _is_stub() and "RYZEN_LAB_SOCKET" in os.environ:
    import ryzen_lab_hook  # type: ignore[import-not-found]  # beside this file, found through PYTHONPATH

    ryzen_lab_hook.start()
_run_hidden()
