"""What PyTorch's hooks say, told to the run. See the package for what a step is.

All of it happens in the thread that trains. Nothing here may raise into the script: what cannot be seen is not told.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from ryzen_trainer import attaching
from ryzen_trainer.auto.quiet import quietly
from ryzen_trainer.auto.when_imported import when_imported
from ryzen_trainer.run import Run

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from ryzen_trainer.auto.model import Model

_FRAMES_UP_MAX = 12


def watch() -> Watcher | None:
    """Attach this rank, and watch what its script does with torch. None where no agent could see it."""
    run = attaching.run_of_this_process()
    if not run.attached:
        return None
    watcher = Watcher(run)
    attaching.when_asked.append(watcher.fall_silent)
    when_imported("torch.optim.optimizer", watcher.install)
    when_imported("torch.utils.data.dataloader", watcher.install_loader)
    return watcher


class Watcher:
    """One a rank."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._silent = False
        self._pid, self._thread = os.getpid(), threading.get_ident()
        self._handles: list[Any] = []
        self._main: Callable[[], Optimizer | None] = lambda: None
        self._begun = False
        self._batch: Any = None
        self._step = 0
        self._models: list[Model] = []
        self._gradients: Any = None

    def install(self) -> None:
        """`torch.optim.optimizer` is loaded."""
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        if not self._silent:
            self._handles += [
                register_optimizer_step_pre_hook(quietly(self._before_step, self._give_up)),
                register_optimizer_step_post_hook(quietly(self._after_step, self._give_up)),
            ]
            atexit.register(self._end)

    def install_loader(self) -> None:
        """A wait for a batch has no hook: its iterator's `__next__` is wrapped; it passes on once we are silent."""
        kind: Any = getattr(sys.modules["torch.utils.data.dataloader"], "_BaseDataLoaderIter", None)
        following = getattr(kind, "__next__", None)
        if following is None or self._silent:
            return

        def __next__(iterator: Any) -> Any:  # noqa: N807 - it stands for that
            if self._silent or threading.get_ident() != self._thread:
                return following(iterator)
            with self._run.section("data"):
                batch = following(iterator)
                if not self._begun:  # an evaluation may come before the training: the last one before a step counts
                    self._batch = batch
                return batch

        kind.__next__ = __next__

    def fall_silent(self) -> None:
        """The script speaks for itself from now on."""
        self._let_go()
        for each in self._handles:
            each.remove()
        self._handles.clear()

    def _give_up(self) -> None:
        """From within a hook. Those of optimizers stay and do nothing, for torch does not bear that one goes while it
        calls them. The loop counts as over, or its silence would be taken for a hang."""
        self._let_go()
        self._run.finish(done=False)

    def _let_go(self) -> None:
        self._silent = True
        for model in self._models:
            model.let_go()
        self._models.clear()

    # ------------------------------------------------------------- hooks

    def _before_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if not self._is_main(optimizer):
            return
        if not self._begun:
            self._begun = True
            self._run.batch_read(self._batch)
            self._batch = None
            self._begin(_steps_of(optimizer) or 0)
        self._run.now_in("optimizer")
        for model in self._models:
            model.around = "optimizer"

    def _after_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if not self._is_main(optimizer):
            return
        run = self._run
        if self._gradients is None:
            self._look_at(optimizer)
        norm = self._gradients.after_step(optimizer, self._step)
        rate = optimizer.param_groups[0].get("lr")
        figures = [model.take() for model in self._models]
        losses = [each.loss for each in figures if each.loss is not None]
        flops = sum(each.flops for each in figures)
        run.report(
            loss=losses[0] if losses else None, grad_norm=norm, learning_rate=rate,
            tokens=sum(each.tokens for each in figures), samples=sum(each.samples for each in figures),
            flops=flops or None,
        )  # fmt: skip
        self._begin(self._step + 1)

    def _begin(self, step: int) -> None:
        self._step = step
        self._run.now_in()
        self._run.step(step)
        for model in self._models:
            model.around = ""

    def _end(self) -> None:
        if not self._silent and os.getpid() == self._pid:
            self._run.finish(done=False)

    # ------------------------------------------------------------- within

    def _is_main(self, optimizer: Optimizer) -> bool:
        """The first one that steps, and after it is gone the next; in the process and thread that we speak for."""
        if self._silent or os.getpid() != self._pid or threading.get_ident() != self._thread:
            return False
        main = self._main()
        if main is None:
            if _is_initialisation():
                return False
            self._main = ref(optimizer)
        return main is None or main is optimizer

    def _look_at(self, optimizer: Optimizer) -> None:
        """Once, in the first step."""
        from ryzen_trainer.auto.gradients import Gradients
        from ryzen_trainer.auto.model import models_of

        self._gradients = Gradients()
        self._models = models_of(optimizer, self._run, self._give_up)


def _steps_of(optimizer: Optimizer) -> int | None:
    """Steps done as the optimizer's own state has it, restored ones included; None where it has none. Read once in a
    process: on a GPU it may be a wait."""
    for state in optimizer.state.values():
        if isinstance(state, dict) and "step" in state:
            return int(state["step"])
    return None


def _is_initialisation() -> bool:
    """torch.distributed.checkpoint makes an optimizer's state by a step of its own before it loads one."""
    frame = sys._getframe(1)
    for _ in range(_FRAMES_UP_MAX):
        if frame.f_code.co_name == "_init_optim_state":
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
