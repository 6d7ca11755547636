"""The one thread that renders: tasks by priority, and a long one lets more urgent ones in between."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from enum import IntEnum
from typing import Any, TypeVar

_T = TypeVar("_T")


THREAD = "redrum-renderer"  # the name of the thread


class Priority(IntEnum):
    """How urgent a task is; the lowest number first."""

    SOUND = 0  # a page waits for samples
    RENDER = 1  # a version
    LONG = 2  # what takes seconds: exports, transcriptions
    AHEAD = 3  # what nobody waits for yet


class Worker:
    """Does tasks in one thread, the most urgent first, those of one priority in order."""

    def __init__(self) -> None:
        self._tasks: list[tuple[Priority, int, Future[Any], Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self._has_changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()

    def submit(self, priority: Priority, task: Callable[[], _T]) -> Future[_T]:
        """Have a task done, and return its result to come; it is cancelled where the worker is closed."""
        future: Future[_T] = Future()
        with self._has_changed:
            if self._is_closed:
                future.cancel()
                return future
            heapq.heappush(self._tasks, (priority, next(self._numbers), future, task))
            self._has_changed.notify()
        return future

    def pause(self, priority: Priority) -> None:
        """Do the tasks that are more urgent than one of this priority, which calls this while it is done.

        Raises:
            InterruptedError: the worker is closed, so the task shall end.
        """
        assert threading.current_thread() is self._thread
        while (found := self._next(below=priority)) is not None:
            _do(*found)
        if self._is_closed:
            raise InterruptedError("the editor is closed")

    def close(self, timeout_s: float) -> None:
        """Cancel what waits, and wait for the task that is being done, which may go on after that time."""
        with self._has_changed:
            self._is_closed = True
            for *_, future, _task in self._tasks:
                future.cancel()
            self._tasks.clear()
            self._has_changed.notify()
        self._thread.join(timeout_s)

    def _next(self, below: int) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._has_changed:
            if not self._tasks or self._tasks[0][0] >= below:
                return None
            *_, future, task = heapq.heappop(self._tasks)
            return future, task

    def _run(self) -> None:
        while not self._is_closed:
            if (found := self._next(below=len(Priority))) is not None:
                _do(*found)
            else:
                with self._has_changed:
                    self._has_changed.wait_for(lambda: self._tasks or self._is_closed)


def _do(future: Future[Any], task: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(task())
    except BaseException as err:  # whoever waits for the result has it
        future.set_exception(err)
