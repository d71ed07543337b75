"""Run a script or module as if Python had been started with it, and leave no trace of having done so.

`__main__` is a module of its own without a spec, as a script's is: `multiprocessing` and data loaders' workers find its
classes by its file. An uncaught exception goes to whatever `sys.excepthook` stands there by then, without our frames.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType

_kept: list[object] = []
"""The `__main__` that was ours: Python clears the names of a module that nobody holds."""


def read(path: str) -> bytes:
    """The source. Raises OSError, or ValueError for what is no source text."""
    source = Path(path).read_bytes()
    if b"\0" in source:
        raise ValueError("no source text")
    return source


def run(source: bytes, path: str, arguments: list[str]) -> None:
    """Returns, or raises, as the script does."""
    main = _fresh_main()
    whole = os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118 - Python's own way, no normalising
    main.__file__, main.__cached__ = whole, None  # type: ignore[attr-defined]
    main.__loader__ = SourceFileLoader("__main__", whole)
    sys.argv = [path, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))  # noqa: PTH120
    _run(lambda: exec(compile(source, whole, "exec", dont_inherit=True), main.__dict__))  # noqa: S102


def run_module(name: str, arguments: list[str]) -> None:
    """Never returns: ends the interpreter as the module does."""
    _fresh_main()
    sys.argv = ["-m", *arguments]
    _run(lambda: runpy._run_module_as_main(name))  # type: ignore[attr-defined]
    raise SystemExit(0)


def _run(script: Callable[[], object]) -> None:
    try:
        script()
    except SystemExit:
        raise
    except BaseException:
        _hide_own_frames()
        raise


def _fresh_main() -> ModuleType:
    _kept.append(sys.modules.get("__main__"))
    main = ModuleType("__main__")
    main.__dict__.update(__builtins__=sys.modules["builtins"], __annotations__={}, __doc__=None)
    sys.modules["__main__"] = main
    return main


def _hide_own_frames() -> None:
    former = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        own, frame = where, where
        while frame is not None:
            if frame.tb_frame.f_code.co_filename == __file__:
                own = frame.tb_next
            frame = frame.tb_next
        sys.last_traceback = own
        former(kind, error.with_traceback(own), own)

    sys.excepthook = hook
