"""Decides when a run of dead letters stops a consumer: for a defect of ours, not for one workspace (ADR 0019)."""

from __future__ import annotations

from collections.abc import Iterable

DEAD_IN_A_ROW = 20


class DeadRuns:
    """Counts the dead letters since the last event that was handled, of any workspace.

    A full run means a defect when it spans workspaces, or when no other workspace's event was ever handled by this
    process, which is the case of an installation with one workspace. A run of one workspace among several is taken
    for that workspace's own messages: they are set aside, and the others' go on.
    """

    def __init__(self, limit: int = DEAD_IN_A_ROW) -> None:
        self._limit = limit
        self._dead: set[str] = set()
        self._handled: set[str] = set()
        self.length = 0

    def handled(self, workspaces: Iterable[str]) -> None:
        """Notes events that were handled; any of them ends the run."""
        for workspace in workspaces:
            self.length = 0
            self._dead.clear()
            if len(self._handled) < 2:  # one besides any given one is all that has to be known
                self._handled.add(workspace)

    def died(self, workspace: str) -> bool:
        """Notes a dead letter that was no refusal. Returns whether the consumer must stop."""
        self.length += 1
        if len(self._dead) < 2:
            self._dead.add(workspace)
        spans_workspaces = len(self._dead) > 1
        return self.length >= self._limit and (spans_workspaces or not self._handled - self._dead)
