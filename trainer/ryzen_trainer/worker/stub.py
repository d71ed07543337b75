"""`ryzen-worker SCRIPT ...`: what torchrun starts, and what stands for the rank in torchrun's eyes.

It hands all that it has inherited to the nursery, which forks the rank, and then lives as long as the rank: it passes
signals on, ends as the rank ended, and takes the rank with it when it is killed or when torchrun is gone (the nursery
sees its connection close). Where the rank cannot be forked, this process becomes the rank: a cold start, with one line
that says why.

`ryzen-worker --found SCRIPT ...` is no rank: it founds the nursery that such a stub would ask for, waits until that has
imported, and ends (founding.py).

Every import here is paid for at each start of a rank, by all ranks of a node at once while everybody waits for them.
Python itself starts in 14 ms of CPU; pathlib, re, contextlib, enum and what they bring would double that. So paths are
strings, and the C modules below `socket` and `signal` are used as they are: CPython has both under these names in all
its versions, with the same functions and plain numbers in place of enums. What only some starts need is imported
there ("late"). Nor is anything of the kind needed later: the same process then waits for as long as the rank lives.
"""

from __future__ import annotations

import _socket
import os
import resource
import select
import sys

from ryzen_trainer.worker import surroundings, wire
from ryzen_trainer.worker.errors import Cold, WireError
from ryzen_trainer.worker.place import COLD, CONTEXT, FORK, RANKS_OWN, WARM, Place, reached_or_locked, start_ticks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

USAGE_EXIT_CODE = 2
ANSWER_S_MAX = 300.0
"""The first answer waits for the imports. Too low: a slow file system's cold start is paid twice."""

ATTEMPTS = 4
"""A nursery may end, or find its modules out of date, while this asks."""

_HERE = os.path.dirname(__file__)
_TO_THE_GROUP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
"""What torchrun sends to a rank's process group, and what a terminal would: its data loader workers get it too."""

_KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
         signal.SIGXFSZ, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}  # fmt: skip
"""Not passed on: cannot be caught, or are about this process."""

FOUND = "--found"


def main() -> None:
    """Never returns."""
    founds = sys.argv[1:2] == [FOUND]
    mode, words = _parsed(sys.argv[2:] if founds else sys.argv[1:])
    try:
        stub = Stub(mode, words, founds)
        stub.start()
    except Cold as why:
        if founds:
            raise SystemExit(0) from None  # each rank will say it for itself
        _say(f"cold start: {why}")
        option = ["-m"] if mode == surroundings.MODULE else []
        os.execv(sys.executable, [sys.executable, "-u", *option, *words])  # noqa: S606 - a list, no shell
    if not founds:
        stub.follow()


class Stub:
    """Raises Cold where there can be no nursery for this process. `founds`: it wants no rank, only a nursery."""

    def __init__(self, mode: bytes, words: list[str], founds: bool = False) -> None:
        if os.environ.get(COLD, "0") not in {"", "0"}:
            raise Cold(f"{COLD} is set")
        if (warm := os.environ.get(WARM, "")) not in {"", FORK, CONTEXT}:
            raise Cold(f"{WARM} is {warm!r}: {FORK} or {CONTEXT} is expected")
        self._descriptors, streams = surroundings.standard_descriptors()
        self._torchrun = os.getppid()
        try:
            self._torchrun_fd = os.pidfd_open(self._torchrun)
            ticks = start_ticks(self._torchrun)
        except OSError as error:
            raise Cold(f"torchrun cannot be watched: {error.strerror}") from None
        first = _first_path(mode, words[0])
        self._place = Place(self._torchrun, ticks, first)
        self._request = [(wire.FOUND if founds else wire.RANK, b"")]
        self._request += [(b"key", self._place.key), (b"first path", os.fsencode(first))]
        if founds:
            self._descriptors = []
        else:
            try:
                self._request += surroundings.read(mode, words)
            except OSError as error:
                raise Cold(f"the working directory: {error.strerror}") from None
            self._request.append((b"streams", streams))
        self._channel: _socket.socket | None = None
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._rank = 0
        self._nursery = 0  # where this stub has founded it

    # ------------------------------------------------------------- until there is a rank

    def start(self) -> None:
        """Until a rank runs, or the nursery is there. Raises Cold."""
        # What is ignored here (SIGHUP under nohup) may be for the rank, which runs before this process hears of it:
        # blocked it waits for `follow`.
        ignored = {each for each in _TO_THE_GROUP if signal.getsignal(each) == signal.SIG_IGN}
        signal.pthread_sigmask(signal.SIG_BLOCK, ignored)
        try:
            self._ask_until_answered()
        except Cold:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            raise

    def _ask_until_answered(self) -> None:
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        reason = ""
        for _ in range(ATTEMPTS):
            channel, lock = reached_or_locked(self._place)
            try:
                if channel is None:
                    self._found(lock)
                    continue
                channel.settimeout(ANSWER_S_MAX)
                wire.send(channel, self._request, self._descriptors)
                if self._is_answered(channel):
                    return
                reason = "they end"
            except TimeoutError:
                raise Cold(f"the nursery has not answered for {ANSWER_S_MAX:.0f} s") from None
            except OSError as error:
                reason = str(error.strerror)  # it has ended meanwhile
            except WireError as error:
                raise Cold(str(error)) from None
        raise Cold(f"no nursery stays at {self._place.socket}: {reason}")

    def _is_answered(self, channel: _socket.socket) -> bool:
        """False where another nursery must be asked."""
        poll = select.poll()
        for each in (channel.fileno(), self._torchrun_fd):
            poll.register(each, select.POLLIN)
        while True:
            ready = poll.poll(ANSWER_S_MAX * 1000)
            if any(descriptor == self._torchrun_fd for descriptor, _ in ready):
                self._leave_with_torchrun()
            if not ready:
                raise Cold(f"the nursery has not answered for {ANSWER_S_MAX:.0f} s")
            answer, _ = wire.receive(channel)
            if not answer:
                return False
            kind, value = answer[0]
            if kind == b"note":
                _say(os.fsdecode(value))
            elif kind == b"cold":
                raise Cold(os.fsdecode(value))
            elif kind == b"started":
                self._channel, self._rank = channel, int(value)
                return True
            else:
                return kind == b"founded"

    def _found(self, lock: int) -> None:
        """Start the nursery: not our child for long, in a session of its own, with the lock and a listening socket."""
        try:
            listener = self._place.listen()
            kept = (listener.fileno(), lock, self._torchrun_fd)
            for each in kept:
                os.set_inheritable(each, True)
            words = [sys.executable, "-u", f"{_HERE}/nursery.py", str(os.getpid()), *map(str, kept)]
            self._nursery = os.posix_spawn(
                sys.executable, words, _nursery_environment(), setsid=True, setsigmask=(),
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            )  # fmt: skip
            os.set_inheritable(self._torchrun_fd, False)
            listener.close()
        except OSError as error:
            raise Cold(f"the nursery cannot be started: {error.strerror}") from None
        finally:
            os.close(lock)

    def _leave_with_torchrun(self) -> None:
        """Torchrun is gone, and there is no rank yet. Never returns."""
        if self._nursery:
            os.kill(self._nursery, signal.SIGKILL)
            os.waitpid(self._nursery, 0)
            self._place.clean_up()
        os._exit(1)

    # ------------------------------------------------------------- while it runs

    def follow(self) -> None:
        """Live as long as the rank, end as it ended."""
        channel = self._channel
        assert channel is not None  # noqa: S101 - `start` has set it
        woken = _catch_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        poll = select.poll()
        for each in (channel.fileno(), self._torchrun_fd, woken):
            poll.register(each, select.POLLIN)
        channel.settimeout(5.0)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if woken in ready:
                self._pass_on(os.read(woken, 64))
            if channel.fileno() in ready:
                self._end(channel)
            if self._torchrun_fd in ready:
                self._kill_group()
                os._exit(1)

    def _pass_on(self, numbers: bytes) -> None:
        for number in numbers:
            try:
                if number in _TO_THE_GROUP:
                    os.killpg(self._rank, number)
                else:
                    os.kill(self._rank, number)
            except (ProcessLookupError, PermissionError):
                pass

    def _end(self, channel: _socket.socket) -> None:
        status: int | None = None
        try:
            answer, _ = wire.receive(channel)
            status = int(wire.only(answer, b"ended")) if answer else None
        except (OSError, ValueError):  # WireError is one
            pass
        if status is None:
            self._kill_group()
            self._place.clean_up()
            _say("the nursery has died, and the rank with it")
            status = signal.SIGKILL
        end_like(status)

    def _kill_group(self) -> None:
        try:
            os.killpg(self._rank, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def end_like(status: int) -> None:
    """Exit with the same code, or die by the same signal without a core of our own. Never returns."""
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _catch_signals() -> int:
    """A descriptor, readable when a signal has come; its bytes are the numbers."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for each in signal.valid_signals() - _KEPT:
        signal.signal(each, _noted)  # one that was ignored, too (nohup): the rank may have a handler of its own
    return woken


def _noted(_number: int, _frame: object) -> None:
    """The wakeup descriptor tells which."""


def _nursery_environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in RANKS_OWN}
    # OpenBLAS starts its threads when it is loaded, and a process with threads cannot be forked; see newborn.py.
    environment["OPENBLAS_NUM_THREADS"] = "1"
    former = environment.get("PYTHONPATH")
    shadow = f"{_HERE}/shadow"
    environment["PYTHONPATH"] = os.pathsep.join([shadow, former]) if former else shadow
    return environment


def _first_path(mode: bytes, target: str) -> str:
    """What Python puts first on `sys.path`: the script's folder, links followed; the working directory for a module."""
    if sys.flags.safe_path:
        return ""
    try:
        if mode == surroundings.MODULE:
            return os.getcwd()
        return os.path.dirname(os.path.realpath(target))
    except OSError as error:
        raise Cold(f"the working directory: {error.strerror}") from None


def _parsed(words: list[str]) -> tuple[bytes, list[str]]:
    """Mode, and the script or module with its arguments. Exit code 2 and one line for anything else."""
    if words and words[0] == "-m":
        mode, words = surroundings.MODULE, words[1:]
    else:
        mode = surroundings.SCRIPT
    if not words or words[0].startswith("-"):
        given = f"{words[0]} is not allowed" if words else "nothing to run"
        _say(f"{given}: torchrun ... --no-python ryzen-worker [-m MODULE | SCRIPT] [ARGUMENT...]")
        raise SystemExit(USAGE_EXIT_CODE)
    return mode, words


def _say(line: str) -> None:
    """One line to the user. A closed stderr is no reason not to train."""
    try:
        sys.stderr.write(f"ryzen-worker: {line}\n")
        sys.stderr.flush()
    except (OSError, AttributeError):
        pass
