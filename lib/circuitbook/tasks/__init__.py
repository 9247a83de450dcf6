"""The paper's four tasks, and one more: `get_task(name).prompts(tokenizer, n, seed)`.

A module per task; `base`, `metrics`, `texts` and `words` hold what they share. The same definitions
serve any English tokenizer and the mini suite's: only the words differ (`lexicon`).
"""

from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.registry import TASKS, get_task
from circuitbook.tasks.words import single_token

__all__ = ["TASKS", "PromptPairs", "Task", "get_task", "single_token"]
