"""Suites: which models there are, at which steps, after how many tokens, and where their weights
are."""

from circuitbook.suites.finding import load_suite
from circuitbook.suites.suite import Checkpoint, Suite

__all__ = ["Checkpoint", "Suite", "load_suite"]
