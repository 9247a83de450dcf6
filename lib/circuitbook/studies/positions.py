"""Circuits with positions beside circuits without: how many edges of a prompt does each keep?

At the last checkpoint of a model, on prompts of all the templates of a task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.positions import PositionCurve, find_at_positions, size_on_prompts
from circuitbook.circuits.spans import Spans, each_position, spans_of, whole_prompts
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.enough import FEWEST, at_last, last_circuits
from circuitbook.studies.held_out import next_prompts
from circuitbook.suites import Suite
from circuitbook.tasks import PromptPairs, Task, get_task

KINDS = ("everywhere", "numbers", "spans", "between")
