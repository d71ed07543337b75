"""Sections of a step as a GPU spends them.

The loop only queues work there: by the host's clock a forward is the time it takes to ask for one, and the section that
happens to wait for the device gets all the rest.

At each change of section a CUDA event is recorded on the current stream, some microseconds each. When the last event of
a step has passed, which is asked at a later change of section and never waited for, the step's record in the beat page
is written once more, with the device's durations in place of the host's. What hangs is judged by the host's clock as
ever: this changes figures alone.

Nothing is recorded while a CUDA graph is captured, for it would be captured too: such a step keeps the host's times.
So do all where CUDA has failed, which the script shall hear of from its own calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from ryzen_trainer.run import STEPS_ON_DEVICE

_Event: Any = torch.cuda.Event


class StepTimes(NamedTuple):
    """`place`: what `finish_step` was given; seconds of the device by section, which together are the step."""

    place: int
    step_s: float
    sections_s: dict[int, float]


class _Finished(NamedTuple):
    place: int
    began: Any
    marks: list[tuple[int, Any]]


class DeviceClock:
    """One a rank. `event` makes one that can be timed, `capturing` says whether a graph is being captured."""

    def __init__(self, event: Callable[[], Any] | None = None, capturing: Callable[[], bool] | None = None) -> None:
        self._event = event or _timing_event
        self._capturing = capturing or torch.cuda.is_current_stream_capturing
        self._began: Any = None
        self._marks: list[tuple[int, Any]] = []
        self._finished: deque[_Finished] = deque(maxlen=STEPS_ON_DEVICE)

    def begin_step(self) -> None:
        """Now. Where the step before has just been finished, that moment is both."""
        self._marks = []
        if self._began is None:
            self._began = self._recorded()

    def mark(self, section: int) -> None:
        """Until now it was `section`."""
        event = self._recorded()
        if event is None:
            self._began = None  # a step with a gap is not told
        self._marks.append((section, event))

    def finish_step(self, section: int, place: int) -> None:
        """Until now it was `section`, and the step is over."""
        self.mark(section)
        last = self._marks[-1][1]
        if self._began is not None:
            self._finished.append(_Finished(place, self._began, self._marks))
        self._began, self._marks = last, []

    def forget_step(self) -> None:
        """What had begun was none."""
        self._began, self._marks = None, []

    def passed(self) -> Sequence[StepTimes]:
        """Steps that the device is known to have done since this was asked last."""
        done: list[StepTimes] = []
        try:
            while self._finished and self._finished[0].marks[-1][1].query():
                done.append(_times(self._finished.popleft()))
        except RuntimeError:
            self._finished.clear()
        return done

    def _recorded(self) -> Any:
        try:
            if self._capturing():
                return None
            event = self._event()
            event.record()
        except RuntimeError:
            return None
        return event


def _times(step: _Finished) -> StepTimes:
    sections: dict[int, float] = {}
    before = step.began
    for section, event in step.marks:
        sections[section] = sections.get(section, 0.0) + before.elapsed_time(event) / 1e3
        before = event
    return StepTimes(step.place, step.began.elapsed_time(before) / 1e3, sections)


def _timing_event() -> Any:
    return _Event(enable_timing=True)
