"""What `Run.section` and `Run.pause` return: made once a name, so that entering one allocates nothing."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ryzen_trainer.run import Run


class Section(Protocol):
    """A context manager that never swallows an exception."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


class NamedSection:
    __slots__ = ("_index", "_run")

    def __init__(self, run: Run, index: int) -> None:
        self._run = run
        self._index = index

    def __enter__(self) -> None:
        run = self._run
        run._outer.append(run._section)
        run._mark(self._index)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        run = self._run
        run._mark(run._outer.pop())


class Pause(NamedSection):
    """Within it every section counts as this one."""

    __slots__ = ()

    def __enter__(self) -> None:
        self._run._pause = self._run._pause or self._index
        super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._run._pause == self._index and self._index not in self._run._outer:
            self._run._pause = 0
        super().__exit__(kind, error, where)
