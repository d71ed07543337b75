"""The nursery: one process a torchrun that has imported what takes long, and forks a rank for each stub that asks.

It is started by the first stub, or before that by one that wants no rank (founding.py), as `python nursery.py STUB
LISTENER LOCK TORCHRUN` (pid and descriptors). It has one thread, no signal handler and no connection but those to its
stubs, so that a fork is safe. It never runs a line of the training script, the modules that the user names excepted.

Who ends whom:
    a rank ends             the kernel says so (pidfd): its stub is told, and ends like it
    a stub ends             its connection closes: the rank and its process group are killed
    torchrun ends           pidfd: all ranks are killed, the files removed, the nursery ends
    the nursery ends        PR_SET_PDEATHSIG kills the ranks; the stubs see it and remove the files
    while it still imports  PR_SET_PDEATHSIG ties it to the stub that has started it

An ended rank stays a zombie for a moment, so that an agent can read its exit code (/proc/PID/stat, field 52).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time

if not sys.flags.safe_path:
    del sys.path[0]  # this file's folder, which is no place to import from
_SHADOW = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shadow")  # noqa: PTH100, PTH118, PTH120
sys.path[:] = [each for each in sys.path if each != _SHADOW]
for _name in ("sitecustomize", "usercustomize"):
    sys.modules.pop(_name, None)

from pathlib import Path  # noqa: E402

from ryzen_trainer.worker import newborn, preload, standby, surroundings, wire  # noqa: E402
from ryzen_trainer.worker.children import Child, Parked  # noqa: E402
from ryzen_trainer.worker.errors import WireError  # noqa: E402
from ryzen_trainer.worker.place import PRELOAD, peer, remove, start_ticks, state  # noqa: E402
from ryzen_trainer.worker.wire import Fields  # noqa: E402

REQUEST_S_MAX = 10.0
"""For one request, once its stub is connected. Too low: a stub on a busy node starts cold."""

ZOMBIE_S = 0.5
"""After its stub has gone. torchrun looks ten times a second or oftener, agents at least four."""


class Nursery:
    """See the module's header."""

    def __init__(self, listener: socket.socket, lock: int, torchrun: int) -> None:
        self._listener: socket.socket | None = listener
        self._lock = lock
        self._torchrun = torchrun
        self._socket_file = Path(os.fsdecode(listener.getsockname()))
        self._children: dict[int, Child] = {}
        self._parked: dict[int, Parked] = {}  # by local rank; each of them is a child, too
        self._to_park: dict[int, tuple[float, Fields]] = {}  # when, and for whom
        self._key = b""
        self._preloaded: preload.Preloaded | None = None
        self._refuses = ""
        self._note = ""  # for the first rank's user
        self._waiting: tuple[socket.socket, Fields, list[int]] | None = None

    def prepare(self) -> None:
        """Take the first request, and import for all that follow."""
        while self._waiting is None:
            self._waiting = self._take()
        _, request, _ = self._waiting
        self._key = wire.only(request, b"key")
        first = os.fsdecode(wire.only(request, b"first path"))
        if first:
            sys.path.insert(0, first)
        try:
            self._preloaded = preload.Preloaded(os.environ.get(PRELOAD, ""))
        except preload.PreloadError as error:
            self._refuses = str(error)
        else:
            names = ", ".join(["torch", *self._preloaded.user_names])
            self._note = f"the nursery (pid {os.getpid()}) has imported {names} in {self._preloaded.seconds:.1f} s"
        if first:
            with contextlib.suppress(ValueError):
                sys.path.remove(first)
        self._write_status()

    def serve(self) -> newborn.Newborn:
        """Returns in the forked rank only; the nursery ends in here."""
        waiting, self._waiting = self._waiting, None
        while True:
            if waiting is not None and (child := self._answer(*waiting)) is not None:
                return child
            if (child := self._park()) is not None:
                return child
            waiting = self._wait()

    def _write_status(self) -> None:
        status = {
            "pid": os.getpid(),
            "modules": [*preload.MODULES, *(self._preloaded.user_names if self._preloaded else [])],
            "seconds": round(self._preloaded.seconds, 3) if self._preloaded else None,
            "refuses": self._refuses,
            "parked": {rank: {"pid": each.pid, "device": each.device, "seconds": each.seconds}
                       for rank, each in self._parked.items() if each.device},
        }  # fmt: skip
        path = self._socket_file.with_suffix(".json")
        aside = path.with_name(f".{path.name}")
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps(status) + "\n")
            aside.replace(path)

    # ------------------------------------------------------------- one turn of the loop

    def _wait(self) -> tuple[socket.socket, Fields, list[int]] | None:
        """Until something happens. A request where there is a new one."""
        wait_ms = self._next_ms(self._reap())
        if self._listener is None and not self._children:
            os._exit(0)  # another nursery has taken over
        poll = select.poll()
        if self._listener is not None:
            poll.register(self._listener.fileno(), select.POLLIN)
        poll.register(self._torchrun, select.POLLIN)
        by_descriptor: dict[int, Child] = {}
        for child in self._children.values():
            if not child.ended:
                by_descriptor[child.pidfd] = child
            if child.channel is not None:
                by_descriptor[child.channel.fileno()] = child
        for each in by_descriptor:
            poll.register(each, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(wait_ms)}
        if self._torchrun in ready:
            self._end()
        for descriptor in ready & by_descriptor.keys():
            self._look_at(by_descriptor[descriptor], descriptor)
        if self._listener is not None and self._listener.fileno() in ready:
            return self._take()
        return None

    def _look_at(self, child: Child, descriptor: int) -> None:
        if descriptor == child.pidfd:
            found = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if found is not None and not child.ended:
                self._has_ended(child, found.si_code == os.CLD_EXITED, found.si_status)
        elif child.channel is not None and descriptor == child.channel.fileno():
            if isinstance(child, Parked) and self._is_ready(child, child.channel):
                return
            child.channel.close()
            child.channel = None
            if not child.ended:
                child.kill()
            child.forgotten_at_s = time.monotonic()

    def _has_ended(self, child: Child, exited: bool, status: int) -> None:
        child.ended = True
        if child.worker_file is not None:
            remove(child.worker_file)
        self._forget_parked(child)
        if not exited:
            child.kill()  # what a killed rank leaves in its group; torchrun's own means do not reach there
        if child.channel is not None:
            wait_status = status << 8 if exited else status
            with contextlib.suppress(OSError):
                wire.send(child.channel, [(b"ended", b"%d" % wait_status)])

    def _reap(self) -> list[float]:
        """In how many seconds there is one more to reap, of each."""
        now_s = time.monotonic()
        waits = []
        for child in list(self._children.values()):
            if not child.ended or child.forgotten_at_s is None:
                continue
            left_s = child.forgotten_at_s + ZOMBIE_S - now_s
            if left_s > 0:
                waits.append(left_s)
                continue
            os.waitpid(child.pid, 0)
            child.close()
            del self._children[child.pid]
        return waits

    def _next_ms(self, waits_s: list[float]) -> float | None:
        """Milliseconds until something is due."""
        now_s = time.monotonic()
        waits_s = [*waits_s, *(max(0.0, at_s - now_s) for at_s, _ in self._to_park.values())]
        return min(waits_s) * 1000 + 1 if waits_s else None

    def _end(self) -> None:
        """torchrun is gone, and with it the job on this node."""
        for child in self._children.values():
            if not child.ended:
                child.kill()
            if child.worker_file is not None:
                remove(child.worker_file)
        self._leave()
        os._exit(0)

    def _leave(self) -> None:
        """No more requests: the next stub founds another nursery."""
        if self._listener is None:
            return
        self._to_park.clear()
        for each in list(self._parked.values()):
            each.kill()
            self._forget_parked(each)
        lock = self._socket_file.with_suffix(".lock")
        remove(self._socket_file, self._socket_file.with_suffix(".json"), lock)
        self._listener.close()
        self._listener = None
        os.close(self._lock)

    # ------------------------------------------------------------- requests

    def _take(self) -> tuple[socket.socket, Fields, list[int]] | None:
        assert self._listener is not None  # noqa: S101
        channel, _ = self._listener.accept()
        channel.settimeout(REQUEST_S_MAX)
        try:
            if peer(channel)[1] == os.getuid():
                request, descriptors = wire.receive(channel, descriptors_max=3)
                if request and request[0][0] in {wire.RANK, wire.FOUND}:
                    return channel, request, descriptors
        except (OSError, WireError):
            pass
        channel.close()
        return None

    def _answer(self, channel: socket.socket, request: Fields, descriptors: list[int]) -> newborn.Newborn | None:
        """A fork, or the reason why there is none. Returns something in the child only."""
        try:
            kind, why = self._refusal(request)
            if not kind and request[0][0] == wire.FOUND:
                kind = b"founded"
            if not kind:
                return self._fork(channel, request, descriptors)
            wire.send(channel, [(kind, os.fsencode(why))])
        except (OSError, WireError) as error:  # a broken request, or there is no process to be had
            with contextlib.suppress(OSError):
                wire.send(channel, [(b"cold", os.fsencode(str(error)))])
        for each in descriptors:
            os.close(each)
        channel.close()
        return None

    def _refusal(self, request: Fields) -> tuple[bytes, str]:
        if wire.only(request, b"key") != self._key:
            return b"cold", "two environments have one key"
        if self._refuses:
            return b"cold", self._refuses
        if self._preloaded is not None and (path := self._preloaded.changed()):
            self._leave()
            return b"again", path
        if what := surroundings.unlike(request):
            return b"cold", f"the nursery has another {what}"
        why = preload.why_not_fork(self._sockets() + 1, set(self._children))  # and the one to this stub
        return (b"cold", why) if why else (b"", "")

    def _fork(self, channel: socket.socket, request: Fields, descriptors: list[int]) -> newborn.Newborn | None:
        local_rank = int(surroundings.environment(request).get(b"LOCAL_RANK", b"0"))
        if self._note:
            wire.try_send(channel, [(b"note", os.fsencode(self._note))])
            self._note = ""
        if standby.is_wanted(request):
            self._to_park[local_rank] = (time.monotonic() + standby.PARK_AFTER_S, request)
        pid = self._hand_over(local_rank, channel, request, descriptors)
        if not pid:
            own, affinity = os.getpid(), os.sched_getaffinity(0)
            pid = os.fork()
            if pid == 0:
                newborn.stand_alone(own)
                self._let_go()
                return newborn.Newborn(channel, request, descriptors, affinity)
        for each in descriptors:
            os.close(each)
        child = Child(pid, channel)
        child.worker_file = self._socket_file.with_name(f"worker-{local_rank}")
        self._children[pid] = child
        with contextlib.suppress(OSError):  # an agent knows less without it
            stub = peer(channel)[0]
            text = f"{stub} {start_ticks(stub)} {pid} {start_ticks(pid)}\n"
            aside = child.worker_file.with_name(f".{child.worker_file.name}.{pid}")
            aside.write_text(text)
            aside.replace(child.worker_file)
        return None

    # ------------------------------------------------------------- parked processes

    def _park(self) -> newborn.Newborn | None:
        """Fork for one local rank that has waited long enough. Returns in that child, and when it is to be a rank."""
        now_s = time.monotonic()
        local_rank = next((each for each, (at_s, _) in self._to_park.items() if at_s <= now_s), None)
        if local_rank is None:
            return None
        request = self._to_park.pop(local_rank)[1]
        former = self._parked.get(local_rank)
        if former is not None and standby.fits(former.request, request):
            return None
        self._discard(local_rank)
        if preload.why_not_fork(self._sockets(), set(self._children)):
            return None
        own, affinity = os.getpid(), os.sched_getaffinity(0)
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            newborn.stand_alone(own)
            ours.close()
            self._let_go()
            found, descriptors = standby.wait(theirs, request)
            channel = socket.socket(fileno=descriptors[0])
            return newborn.Newborn(channel, found, descriptors[1:], affinity)
        theirs.close()
        ours.settimeout(standby.HAND_OVER_S_MAX)
        self._parked[local_rank] = parked = Parked(pid, ours, request)
        self._children[pid] = parked
        return None

    def _is_ready(self, parked: Parked, channel: socket.socket) -> bool:
        """Hear what it says. False where it is gone, or will be."""
        with contextlib.suppress(OSError, WireError, ValueError):
            said, _ = wire.receive(channel)
            if said and said[0][0] == b"parked":
                parked.device, parked.seconds = os.fsdecode(said[0][1]), float(wire.only(said, b"seconds"))
                self._write_status()
                return True
        return False

    def _hand_over(self, local_rank: int, channel: socket.socket, request: Fields, descriptors: list[int]) -> int:
        """The pid of the parked process that is the rank now; 0 where a fresh fork must be made."""
        parked = self._parked.get(local_rank)
        if parked is None or not standby.fits(parked.request, request):
            self._discard(local_rank)
            return 0
        if not parked.device or parked.channel is None:  # not ready: for the generation after this one
            return 0
        try:
            if state(parked.pid) not in b"SR":
                raise InterruptedError("somebody has stopped it")
            wire.send(parked.channel, request, [channel.fileno(), *descriptors])
        except OSError:
            self._discard(local_rank)
            return 0
        self._forget_parked(parked)
        parked.close()
        return parked.pid

    def _discard(self, local_rank: int) -> None:
        if (parked := self._parked.get(local_rank)) is not None:
            parked.kill()
            self._forget_parked(parked)

    def _forget_parked(self, child: Child) -> None:
        for local_rank, each in list(self._parked.items()):
            if each is child:
                del self._parked[local_rank]
                self._write_status()

    def _sockets(self) -> int:
        """As many are open on purpose: the listener, and a connection to each child."""
        return sum(each.channel is not None for each in self._children.values()) + 1

    def _let_go(self) -> None:
        """In the child: nothing of the nursery's stays open."""
        for child in self._children.values():
            child.close()
        if self._listener is not None:
            self._listener.close()
            os.close(self._lock)
        os.close(self._torchrun)


def _be_silent() -> None:
    """Up to here what modules say at their import goes where the first rank's does; from here on nothing is held."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):
            stream.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for each in (0, 1, 2):
        os.dup2(null, each)
    if null > 2:
        os.close(null)


def main(stub: int, listener: int, lock: int, torchrun: int) -> newborn.Newborn:
    newborn.die_with_parent(stub)
    for each in (lock, torchrun):
        os.set_inheritable(each, False)
    nursery = Nursery(socket.socket(fileno=listener), lock, torchrun)
    os.set_inheritable(listener, False)
    nursery.prepare()
    _be_silent()

    newborn.outlive_parent()
    return nursery.serve()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:])).live()
