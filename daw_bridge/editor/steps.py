"""The steps of a document: each is in the journal on the disk before it counts.

Several pages make them: a step made of another version than the newest is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

from daw_bridge.editor.answers import changes_json
from daw_bridge.editor.document import Command, Document, Draft, History
from daw_bridge.editor.journal import Journal, Step
from daw_bridge.editor.renderer import Outdated


class NotReady(Exception):
    """The recording is still being opened, or could not be."""


class Steps:
    """The steps of a document, for any thread; where a method says that `lock` is held, its caller holds it."""

    def __init__(self, taken: Callable[[History, dict[str, Any]], None]) -> None:
        """Begin without a document.

        Args:
            taken: called, while `lock` is held, with the history after a step and the answer to it.
        """
        self.lock = threading.Lock()
        self.history: History | None = None
        self.is_ready = False  # whether steps can be made
        self._journal: Journal | None = None
        self._taken = taken

    def close(self) -> None:
        """Close the journal."""
        with self.lock:
            if self._journal is not None:
                self._journal.close()

    def resume(self, journal: Journal) -> bool:
        """Take a journal into use, and return whether its history goes on; `lock` is held."""
        self._journal = journal
        if journal.history is not None and journal.history.version:
            self.history = journal.history
        return self.history is not None

    def begin(self, document: Document, name: str) -> None:
        """Begin with a document, unless a history goes on; `lock` is held."""
        assert self._journal is not None
        if self.history is None:
            self.history = self._journal.begin(document, name)

    def begin_with(self, change: Callable[[Draft], None]) -> None:
        """Do a first step, which can be undone, before any page is notified; `lock` is held."""
        assert self.history is not None
        if command := _command(self.history, change):
            self._record(self.history, "do", command)
            self.history.do(command)

    def newest_version(self) -> int:
        """Return the number of the newest version; NotReady where there is none yet."""
        with self.lock:
            if not self.is_ready or self.history is None:
                raise NotReady
            return self.history.version

    def document(self, version: int) -> Document:
        """Return the document of the newest version; Outdated for another, NotReady where there is none yet."""
        with self.lock:
            return self._checked(version).document

    # Each raises Outdated, NotReady, RhythmError, or OutputError where it cannot be stored.

    def commit(self, version: int, command_of: Callable[[History], Command]) -> dict[str, Any]:
        """Do a command, and return the answer to it."""
        with self.lock:
            history = self._checked(version)
            command = command_of(history)
            if not command:
                return step_json(history, Command())
            self._record(history, "do", command)
            history.do(command)
            return self._answered(history, command)

    def change(self, version: int, change: Callable[[Draft], None]) -> dict[str, Any]:
        """Do what changes a draft of the document, and return the answer to it."""
        return self.commit(version, lambda history: _command(history, change))

    def turn(self, version: int, step: Literal["undo", "redo"]) -> dict[str, Any]:
        """Take a step back, or do it again; where there is none, nothing happens."""
        with self.lock:
            history = self._checked(version)
            if not (history.can_undo if step == "undo" else history.can_redo):
                return step_json(history, Command())
            self._record(history, step)
            return self._answered(history, history.undo() if step == "undo" else history.redo())

    def _checked(self, version: int) -> History:
        if not self.is_ready or self.history is None:
            raise NotReady
        if version != self.history.version:
            raise Outdated(self.history.version)
        return self.history

    def _record(self, history: History, step: Step, command: Command | None = None) -> None:
        assert self._journal is not None
        self._journal.record(history.version + 1, step, command)

    def _answered(self, history: History, command: Command) -> dict[str, Any]:
        answer = step_json(history, command)
        self._taken(history, answer)
        return answer


def _command(history: History, change: Callable[[Draft], None]) -> Command:
    draft = Draft(history.document, history.known_ids)
    change(draft)
    return draft.command()


def step_json(history: History, command: Command | None = None) -> dict[str, Any]:
    """Return where a history stands, and what a command changed, as pages have it."""
    answer: dict[str, Any] = {
        "version": history.version,
        "can_undo": history.can_undo,
        "can_redo": history.can_redo,
    }
    return answer if command is None else answer | {"changes": changes_json(command)}
