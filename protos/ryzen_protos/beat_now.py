"""The word of a beat page that says in which section the rank is, and since when: all that changes within a step.

A loop with micro-batches enters and leaves dozens of sections a step, each time with caches that hold the model and not
us. To store this word costs half of what a whole record does (scripts/step_parts.py tells what). It is stored at once,
so it needs no checksum: 64 bits, aligned, one instruction of the machine. A reader that gets it torn all the same has a
wrong section for one look.

    bits 0 to 5    index of the section
    bits 6 to 15   how many stores the page has had, records and words together, modulo 1024
    bits 16 to 63  CLOCK_MONOTONIC in ticks of 1024 ns, good for nine years

Zero: never written, as in pages of version 3, where each edge is a record.

A reader copies records before the word, so it may have a word without the record that came with it. That is a section
of the next step under the number of this one, until the next look.
"""

from __future__ import annotations

import mmap

AT = 5112
BYTES = 8

_TICK_BITS, _SEQUENCE_AT, _ENTERED_AT = 10, 6, 16
_SEQUENCES = 1 << 10


class Now:
    """The writer's side."""

    __slots__ = ("_word", "sequence")

    def __init__(self, page: mmap.mmap) -> None:
        self._word = memoryview(page)[AT : AT + BYTES].cast("Q")
        self.sequence = 0
        """How many stores the page has had."""

    def enter(self, section: int, entered_ns: int) -> None:
        """The rank is in `section` since `entered_ns`. Raises ValueError once the page is closed."""
        self.sequence = sequence = self.sequence + 1
        self._word[0] = entered_ns >> _TICK_BITS << _ENTERED_AT | sequence % _SEQUENCES << _SEQUENCE_AT | section

    def release(self) -> None:
        self._word.release()


def newest(word: int, sequence: int, section: int, entered_ns: int) -> tuple[int, int, int]:
    """(stores, section, entered_ns) by the newest record and the word; the record alone where that is the newer one.

    The time in whole ticks, whichever says it: the same entry is the same time. After more than 1,023 words without
    a record the number of stores lags by multiples of 1,024.
    """
    tick, known = word >> _ENTERED_AT, entered_ns >> _TICK_BITS
    later = ((word >> _SEQUENCE_AT) - sequence) % _SEQUENCES
    if tick < known or (tick == known and later > _SEQUENCES // 2):  # a record is stored before its own word
        return sequence, section, known << _TICK_BITS
    return sequence + later, word % (1 << _SEQUENCE_AT), tick << _TICK_BITS


def stores_between(earlier: int, later: int) -> int:
    """How many stores lie between two different states of a page, by their numbers; 1 to 1,024 where that is lost."""
    return later - earlier if later > earlier else (later - earlier) % _SEQUENCES or _SEQUENCES
