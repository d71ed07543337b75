"""In the forked child: from the fork to the first line of the script, and nothing of the nursery left in sight.

A rank that was started cold is a fresh `python -u [-m] TARGET ...` below torchrun. This makes the same of a copy of the
nursery: a session and a process group of its own, the stub's surroundings, `__main__`, `sys.argv`, `sys.path[0]`, the
site customisations in the rank's environment, random sources of its own.

The script's frames stand on two of ours. Python prints the traceback of an uncaught exception through
`sys.excepthook`: ours takes the two away and hands on to whatever hook stands there by then.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import runpy
import signal
import site
import socket
import sys
import threading
import types
from importlib.machinery import SourceFileLoader
from typing import Any

from ryzen_trainer.worker import surroundings, wire
from ryzen_trainer.worker.wire import Fields

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
_PR_SET_PDEATHSIG = 1
_OPENBLAS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads64_",
             "openblas_set_num_threads")  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """SIGKILL when the thread that has started this process ends. At once where it has."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def stand_alone(nursery: int) -> None:
    """Right after the fork, before anything else."""
    die_with_parent(nursery)
    os.setsid()


class Newborn:
    """A child that knows which rank it is to be.

    `affinity`: the nursery's. `descriptors`: of the standard streams that are open, as the request says.
    """

    def __init__(self, channel: socket.socket, request: Fields, descriptors: list[int], affinity: set[int]) -> None:
        self._channel = channel
        self._request = request
        self._descriptors = descriptors
        self._affinity = affinity

    def live(self) -> None:
        """Become the rank and run the script to its end; the interpreter then finalises as ever."""
        mode = wire.only(self._request, b"mode")
        words = [os.fsdecode(each) for each in wire.every(self._request, b"argument")]
        try:
            surroundings.put_on_streams(self._request, self._descriptors)
            surroundings.put_on(self._request)
            _make_own(self._affinity)
            main = _fresh_main()
            first = os.fsdecode(wire.only(self._request, b"first path"))
            code = None if mode == surroundings.MODULE else _read_script(words[0])
        except BaseException as error:  # noqa: BLE001 - nothing of the script has run yet: a cold start can still be had
            self._say(b"cold", f"{type(error).__name__}: {error}")
            os._exit(0)
        self._say(b"started", str(os.getpid()))
        self._channel.close()
        del self._channel, self._request
        _customise()
        if not sys.flags.safe_path:
            sys.path.insert(0, first)
        importlib.invalidate_caches()
        if code is None:
            sys.orig_argv = [sys.executable, "-u", "-m", *words]
            sys.argv = ["-m", *words[1:]]
            _run(lambda: runpy._run_module_as_main(words[0]))  # type: ignore[attr-defined]
        else:
            sys.orig_argv = [sys.executable, "-u", *words]
            sys.argv = words
            path = os.path.join(os.getcwd(), words[0])  # noqa: PTH109, PTH118 - Python's own way, no normalising
            main.__file__, main.__cached__ = path, None  # type: ignore[attr-defined]
            main.__loader__ = SourceFileLoader("__main__", path)
            _run(lambda: exec(compile(code, path, "exec", dont_inherit=True), main.__dict__))  # noqa: S102

    def _say(self, kind: bytes, text: str) -> None:
        wire.try_send(self._channel, [(kind, os.fsencode(" ".join(text.split())))])


def _run(script: Any) -> None:
    try:
        script()
    except SystemExit:
        raise
    except BaseException:
        _hide_own_frames()
        raise


def _hide_own_frames() -> None:
    former = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, where: types.TracebackType | None) -> None:
        while where is not None and where.tb_frame.f_code.co_filename.startswith(_HERE):
            where = where.tb_next
        sys.last_traceback = where
        former(kind, error.with_traceback(where), where)

    sys.excepthook = hook


def _read_script(path: str) -> bytes:
    """Raises OSError or ValueError where it is no source file: that is for a fresh interpreter to run, or to refuse."""
    with open(path, "rb") as file:  # noqa: PTH123
        source = file.read()
    if b"\0" in source:
        raise ValueError(f"{path} is no source text")
    return source


def _fresh_main() -> types.ModuleType:
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=sys.modules["builtins"], __annotations__={}, __doc__=None)
    sys.modules["__main__"] = main
    return main


def _customise() -> None:
    """What Python does at its start; the nursery was spared it."""
    site.execsitecustomize()
    if site.ENABLE_USER_SITE:
        site.execusercustomize()


def _make_own(nursery_affinity: set[int]) -> None:
    """What a copy of another process has in common with its siblings, and must not."""
    threading.current_thread()._set_native_id()  # type: ignore[attr-defined]
    loaded = sys.modules
    if "multiprocessing.process" in loaded:
        loaded["multiprocessing.process"].current_process().authkey = os.urandom(32)
    if "numpy.random" in loaded:
        loaded["numpy.random"].seed()
    torch: Any = loaded.get("torch")
    if torch is not None:
        torch.default_generator.seed()
        if torch.cuda.is_initialized():  # of a parked process; without a context there is nothing to seed
            torch.cuda.seed_all()
        _set_threads(torch, nursery_affinity)
    # random does so by itself after a fork.


def _set_threads(torch: Any, nursery_affinity: set[int]) -> None:
    """As many as a fresh process would take: OMP_NUM_THREADS was read in the nursery, the affinity may be another."""
    affinity = os.sched_getaffinity(0)
    if affinity != nursery_affinity and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, torch.get_num_threads() * len(affinity) // len(nursery_affinity)))
    given = (os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
    wanted = next((int(each) for each in given if each.isdigit() and int(each)), len(affinity))
    _set_openblas_threads(min(wanted, len(affinity)))  # it takes no more than there are CPUs for it


def _set_openblas_threads(threads: int) -> None:
    """The nursery has loaded it with one thread."""
    if threads < 2:
        return
    with open("/proc/self/maps") as file:  # noqa: PTH123
        paths = {line.split()[-1] for line in file if "openblas" in line}
    for path in paths:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            found = next((each for each in _OPENBLAS if hasattr(library, each)), None)
            if found is not None:
                getattr(library, found)(threads)
