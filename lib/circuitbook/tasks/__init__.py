"""The paper's four tasks: `get_task(name).prompts(tokenizer, n, seed)`.

A module per task; `base`, `metrics` and `texts` hold what they share. The same definitions serve
Pythia's tokenizer and
the mini suite's: only the words differ (`lexicon`).
"""

from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.registry import TASKS, get_task
from circuitbook.tasks.texts import single_token

__all__ = ["TASKS", "PromptPairs", "Task", "get_task", "single_token"]
