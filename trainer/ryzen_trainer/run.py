"""What a training loop says of itself, written where its node's agent looks.

    run = ryzen_trainer.attach()
    for step, batch in enumerate(run.steps(loader)):
        with run.section("forward"):
            loss = model(batch)
        ...
        run.report(loss=loss_value, tokens=n)

Everything goes into the beat page (`ryzen_protos.beat_page`): memory that the agent reads four to eight times a second.
Nothing here waits, takes a lock, makes a system call in the loop or raises into it.

The first record is written when the first step begins; until then the page only says that the process is there.
A step is done when the next one begins, when `steps()` is asked for the next item, or at `finish()`. Time is
charged to the innermost section that is open; the step outside any section is the section "".

A page has one writer: call from one thread. A forked child writes to it no more.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable, Iterable, Iterator
from time import monotonic_ns
from typing import TYPE_CHECKING, TypeVar

from ryzen_protos import beat_batch, beat_self_checks
from ryzen_protos.beat_page import NAMES, RING_SECTIONS, BeatWriter, Event, Measures, Skip
from ryzen_protos.beat_records import given_bits
from ryzen_protos.beat_self_checks import SelfCheck
from ryzen_trainer.evidence import Collectives
from ryzen_trainer.failure import Nudge
from ryzen_trainer.first_batch import first_batch
from ryzen_trainer.sections import NamedSection, Pause, Section

if TYPE_CHECKING:
    from ryzen_trainer.throughput.device_clock import DeviceClock

__all__ = ["END", "PAUSE", "RESUME_AT_MOST", "Item", "Run", "Section", "resume_at_most"]

Item = TypeVar("Item")

RESUME_AT_MOST = "RYZEN_RESUME_AT_MOST"
"""Set by the rendezvous handler after a rollback: checkpoints of later steps are tainted."""

PAUSE = "(pause) "
"""What the section of a declared pause begins with; the coordinator calls no pause a stall."""

END = "(end)"
"""The section after the last step. The coordinator calls it no stall, the agent does not probe an interpreter that
may be finalising."""

STEPS_ON_DEVICE = 16
"""Steps that a device may lag behind and still be timed."""

# RuntimeError: what torch raises for a tensor of more than one element.
_NOT_STORABLE = (struct.error, TypeError, ValueError, OverflowError, RuntimeError)


class Run:
    """The three calls of a loop (`steps` or `step`, `section`, `report`), and what the checkpointer says."""

    def __init__(
        self,
        page: BeatWriter,
        nudge: Nudge,
        resume_at_most: int | None = None,
        collectives: Collectives | None = None,
    ) -> None:
        self.resume_at_most = resume_at_most
        """After a rollback: the newest step whose checkpoint may be resumed from. None: any."""
        self.role = ""
        """Of this rank in the parallel layout, as `attach` was told."""
        self.device_clock: DeviceClock | None = None
        """Where the rank computes on a GPU: sections are timed there too."""
        self._batch_read = False
        self.at_next_step: Callable[[], object] | None = None
        """Called once, when the next step begins; it may ask for the step after that."""
        self._page = page
        self._nudge = nudge
        self._sections: dict[str, Section] = {}
        self._store, self._enter = page.progress, page.enter
        self._pause = 0  # index of the outermost declared pause, 0 for none
        self._section = 0  # index of the innermost section that is open
        self._outer: list[int] = []  # of those around it
        self._in_step = False
        self._begun = False
        self._step = self._done = 0
        self._started = self._entered = 0
        self._count_collectives = (collectives or Collectives()).begun
        self._collectives = 0  # begun when the running step began
        self._finished = False
        self._spent = [0] * NAMES  # ns of the running step by section
        self._tokens = self._samples = self._step_tokens = 0
        self._given = 0
        self._flops_per_token = self._flops_per_step = 0.0
        self._measured = (0.0, 0.0, 0.0, 0.0)
        self._on_device: dict[int, tuple[int, int, int, int]] = {}  # steps done that the device may not have done

    @property
    def attached(self) -> bool:
        """Whether an agent can see this run."""
        return True

    @property
    def number(self) -> int:
        """Of the running step, as the script counts them; 0 before the first."""
        return self._step

    def step(self, number: int) -> None:
        """Step `number` begins; the one before is done."""
        now = monotonic_ns()
        if self._in_step:
            self._end_step(now)
        elif self.device_clock is not None:
            self.device_clock.forget_step()
        if self.at_next_step is not None:
            awaited, self.at_next_step = self.at_next_step, None
            awaited()
        self._step = number
        self._collectives = self._count_collectives()
        if self._finished:  # a second loop
            self._finished, self._section = False, 0
        if self.device_clock is not None:
            self.device_clock.begin_step()
        self._in_step = self._begun = True
        self._started = self._entered = now
        self._spent = [0] * NAMES
        self._beat(now)

    def steps(self, items: Iterable[Item], start: int = 0) -> Iterator[Item]:
        """Each item is one step, numbered from `start`. The wait for an item is the section "data" of its step."""
        source = iter(items)
        number = start
        while True:
            self.step(number)
            with self.section("data"):
                try:
                    item = next(source)
                except StopIteration:
                    self._in_step = False
                    return
                self.batch_read(item)
            yield item
            number += 1

    def batch_read(self, batch: object) -> None:
        """What the rank reads; `steps(loader)` says it. The first one that says anything is kept as a digest: two
        data-parallel ranks that read the same are named. Later ones are passed over, as is all after the first step."""
        if self._batch_read or self._done:
            return
        found = first_batch(batch, self.role)
        if found is not None:
            self._batch_read = True
            with contextlib.suppress(*_NOT_STORABLE):
                self._page.put(beat_batch.AT, beat_batch.pack(found))

    def section(self, name: str) -> Section:
        """`with run.section("forward"):` names what the step does. The same object each time; sections nest."""
        found = self._sections.get(name)
        if found is None:
            found = self._sections[name] = NamedSection(self, self._section_index(name))
        return found

    def pause(self, name: str = "") -> Section:
        """`with run.pause("evaluation"):` a wait that is meant, however long: nobody calls it a stall.

        What is entered within it counts as the pause. Declare it on the rank that is waited for; the others may.
        """
        found = self._sections.get(PAUSE + name)
        if found is None:
            found = self._sections[PAUSE + name] = Pause(self, self._section_index(PAUSE + name))
        return found

    def now_in(self, name: str = "") -> None:
        """From now on the step does `name`, "" for nothing in particular: for callbacks, which have no block to put it
        in. Sections that are entered within count as ever."""
        index = self._section_index(name)
        if self._outer:
            self._outer[0] = index
        else:
            self._mark(index)

    def report(
        self,
        *,
        loss: object = None,
        tokens: int = 0,
        samples: int = 0,
        grad_norm: object = None,
        learning_rate: object = None,
        flops: object = None,
    ) -> None:
        """Figures of the running step. `tokens` and `samples` are of this step and are summed up.

        `flops` need not be given where `measures` has said what a token or a step is worth.
        A tensor on an accelerator is passed over, for reading it would wait for the device; give floats.
        """
        tokens, samples = _count(tokens), _count(samples)
        self._tokens += tokens
        self._step_tokens += tokens
        self._samples += samples
        a, b, c, d = _figure(loss), _figure(grad_norm), _figure(learning_rate), _figure(flops)
        if d is None and (self._flops_per_token or self._flops_per_step):
            d = self._step_tokens * self._flops_per_token + self._flops_per_step
        self._given = given_bits(a, b, c, d)
        self._measured = (a or 0.0, b or 0.0, c or 0.0, d or 0.0)
        self._beat(monotonic_ns())

    def measures(
        self,
        *,
        flops_per_token: float = 0.0,
        flops_per_step: float = 0.0,
        hardware_factor: float = 1.0,
        peak_flops: float | None = None,
    ) -> None:
        """What this rank's work is worth, and what its device could do: said once, before the loop; for MFU.

        FLOPs of the model, forward and backward: a token's (`ryzen_trainer.throughput` has three ways to them), or a
        step's where tokens say little. `hardware_factor`: FLOPs computed for each of these (HFU). `peak_flops`: a
        second, dense; None or 0 for a device whose peak is not known: no MFU then.
        """
        given = [_figure(each) or 0.0 for each in (flops_per_token, flops_per_step, hardware_factor, peak_flops)]
        found = Measures(*(each if 0.0 <= each < math.inf else 0.0 for each in given))
        self._flops_per_token, self._flops_per_step = found.flops_per_token, found.flops_per_step
        with contextlib.suppress(*_NOT_STORABLE):
            self._page.measures(found)

    def computes_on(self, uuid: str, pci: str = "") -> None:
        """The GPU of this rank (UUID, PCI address), so that a fault of it is laid to this rank and to no other.

        `attach()` finds it out for a script that uses CUDA; for other devices say it.
        """
        with contextlib.suppress(AttributeError, *_NOT_STORABLE):
            self._page.device(uuid, pci)

    def sum_done(self, started_ns: int, ended_ns: int) -> None:
        """A sum of gradients over the ranks is done; `ryzen_trainer.communication` says it. Times: CLOCK_MONOTONIC."""
        with contextlib.suppress(*_NOT_STORABLE):
            self._page.sum_done(started_ns, ended_ns)

    def checkpoint_committed(self, step: int) -> None:
        """The checkpoint of `step` is whole on disk; a restart would resume from it."""
        self._tell(Event.CHECKPOINT, step)

    def step_skipped(self, *, nonfinite: bool = False) -> None:
        """The running step's gradients were not used: a spike, or `nonfinite`."""
        self._tell(Event.STEP_SKIPPED, self._step, Skip.NONFINITE if nonfinite else Skip.SPIKE)

    def ask_for_rollback(self, step: int) -> None:
        """Ask the coordinator to resume from a checkpoint of `step` or before (that many steps done are good)."""
        self._tell(Event.ROLLBACK_WANTED, step)

    def checked(self, done: int, digest: int, group: int = 0) -> None:
        """The parameters after `done` steps have this digest (64 bits); compared with the others of `group`."""
        with contextlib.suppress(*_NOT_STORABLE):
            self._page.check(done, digest, group)

    def self_checked(self, found: SelfCheck) -> None:
        """How a check of this rank's own arithmetic stands."""
        with contextlib.suppress(*_NOT_STORABLE):
            self._page.put(*beat_self_checks.pack(found))
            if found.differed:
                self._nudge.send()

    def finish(self, *, done: bool = True) -> None:
        """The loop is over: the last step is done. Called at exit too, except after an uncaught exception.

        `done=False`: what had begun turned out to be no step, as for callbacks that hear of the end of a step only.

        From here on the rank is in the section "(end)": it may take its time, and its agent does not look into it.
        """
        now = monotonic_ns()
        if self._in_step and done:
            self._end_step(now)
        self._in_step = False
        if self._begun and not self._finished:
            self._finished = True
            self._section, self._entered = self._section_index(END), now
            self._beat(now)
        self._nudge.send()

    def detach(self) -> None:
        """From now on every call does nothing; the page stays as it is. For the child of a fork."""
        self._in_step = False
        with contextlib.suppress(BufferError):
            self._page.close()
        self._nudge.close()

    # ------------------------------------------------------------------ inside

    def failed(self, error_type: str, message: str) -> None:
        """Stamp an uncaught exception; the last step is not done."""
        self._in_step = False
        with contextlib.suppress(*_NOT_STORABLE):
            self._page.failure(error_type, message)
            self._nudge.send()

    def _tell(self, kind: Event, step: int, detail: int = 0) -> None:
        with contextlib.suppress(*_NOT_STORABLE):
            self._page.event(kind, step, detail)
            self._nudge.send()

    def _section_index(self, name: str) -> int:
        try:
            return self._page.section_index(name)
        except _NOT_STORABLE:
            return 0

    def _end_step(self, now: int) -> None:
        self._in_step = False
        self._done += 1
        self._spent[self._section] += now - self._entered
        seconds = [spent * 1e-9 for spent in self._spent[:RING_SECTIONS]]
        tokens, self._step_tokens = self._step_tokens, 0
        with contextlib.suppress(*_NOT_STORABLE):
            place = self._page.step_done(
                self._step, self._started, now - self._started, tokens, self._collectives, 0.0, seconds
            )
            if self.device_clock is not None:
                self._device_ends_step(self.device_clock, place, tokens)

    def _device_ends_step(self, clock: DeviceClock, place: int, tokens: int) -> None:
        """Steps that the device has done meanwhile are entered again, with its times."""
        clock.finish_step(self._section, place)
        self._on_device[place] = self._step, self._started, tokens, self._collectives
        for times in clock.passed():
            step, started, tokens, collectives = self._on_device.pop(times.place)
            seconds = [times.sections_s.get(index, 0.0) for index in range(RING_SECTIONS)]
            self._page.step_done(step, started, int(times.step_s * 1e9), tokens, collectives, 0.0, seconds, times.place)
        for lost in [each for each in self._on_device if each < place - STEPS_ON_DEVICE]:
            del self._on_device[lost]

    def _mark(self, index: int) -> None:
        """The time until now belongs to the section that was open; `index` is open from now on."""
        now = monotonic_ns()
        self._spent[self._section] += now - self._entered
        if self.device_clock is not None:
            self.device_clock.mark(self._section)
        self._section = section = self._pause or index
        self._entered = now
        if self._begun:
            try:  # not contextlib.suppress: this runs dozens of times a step
                self._enter(section, now)
            except _NOT_STORABLE:
                return

    def _beat(self, now: int) -> None:
        """All there is to say, in a record."""
        if not self._begun:
            return
        try:
            self._store(
                self._step, self._done, self._section, now, self._started,
                self._tokens, self._samples, self._collectives, self._given, *self._measured,
            )  # fmt: skip
        except _NOT_STORABLE:  # a step below zero, say: the loop shall not stop for that
            return


def resume_at_most(text: str) -> int | None:
    """A number of steps, as the handler exports it; None for no limit or for what is no number of steps."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _count(value: object) -> int:
    """A number of tokens or samples; 0 for what cannot be one, for it is added up for ever."""
    try:
        count = value if type(value) is int else int(value)  # type: ignore[call-overload]
    except _NOT_STORABLE:
        return 0
    return count if 0 <= count < 1 << 40 else 0


def _figure(value: object) -> float | None:
    """A number, or a scalar tensor that lies in host memory; None for all else."""
    if value is None or isinstance(value, float):
        return value
    device = getattr(value, "device", None)
    if device is not None and str(getattr(device, "type", device)) != "cpu":
        return None
    if hasattr(value, "full_tensor"):  # sharded: to read it is a collective
        return None
    try:
        return float(value.detach() if hasattr(value, "detach") else value)  # type: ignore[arg-type]
    except _NOT_STORABLE:
        return None
