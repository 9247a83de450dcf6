"""Dask's scheduler and worker without the HTTP server that each of them otherwise opens.

Its routes ask nobody who they are. In a module of its own, since it imports distributed.
"""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, Worker


class QuietScheduler(Scheduler):
    """A scheduler that listens to its workers and clients alone."""

    def start_http_server(self, *_args: Any, **_options: Any) -> None:
        """No dashboard, no metrics: nobody asked for them."""


class QuietWorker(Worker):
    """A worker that listens to scheduler and workers alone."""

    def start_http_server(self, *_args: Any, **_options: Any) -> None:
        """As for `QuietScheduler`."""
