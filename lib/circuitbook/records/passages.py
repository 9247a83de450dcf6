"""Text to measure on, where no corpus can be had, or the suite's own is another one.

Ordinary English: passages by SmolLM2 itself.

110 passages of about 80 tokens. SmolLM2-135M-Instruct went on from 40 openings written by hand
("The old house", "When the train arrived"), sampled at temperature 1 from the most probable 95% of
its next tokens; what was no plain ASCII was left out. It is the model's own language, not the text
it was trained on: copy suppression measured here need not be what it is on a corpus.
"""

from __future__ import annotations

from circuitbook.paths import DATA

PASSAGES = str(DATA / "smollm2_passages.txt")
"""The file, as measurements take it: passages separated by empty lines."""

LIST_PASSAGES = str(DATA / "list_passages.txt")
"""The same of ordered lists: 100 passages that no run has read, by `mini.list_text.write_lists`."""
