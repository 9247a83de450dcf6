"""The exercises' checks: give one your function, and it says in a sentence what is wrong with it.

    check_faithfulness(my_function)
        ->  Not right yet: Your value is the ratio m / b: ... (Seen on 4 inputs.)

Inputs are plain tensors, lists and sets; the values compared with are the library's own, on shipped
checkpoints where the exercise is about a model. Every check takes a function of the inputs that its
docstring lists, in that order, and returns a `checking.Feedback`. `CHECKS` lists them with their
typical mistakes. What a book's build runs is the same.
"""

# in the order of the chapters, since `CHECKS` fills as they are imported
# isort: off
from circuitbook.teaching.exercises.abilities import check_emergence, check_logit_difference
from circuitbook.teaching.exercises.circuit_edges import (
    EDGE_POINTS,
    check_edge_score,
    edge_tensors,
)
from circuitbook.teaching.exercises.circuits import check_dead_edges, check_faithfulness
from circuitbook.teaching.exercises.circuits_over_training import check_jaccard
from circuitbook.teaching.exercises.components import check_copy_score, check_induction_score
from circuitbook.teaching.exercises.after_formation import check_balance, check_self_repair
from circuitbook.teaching.exercises.algorithm import check_class_share, check_effect
from circuitbook.teaching.exercises.real_model import check_mover
from circuitbook.teaching.exercises.stability import check_ewma, check_weighted_jaccard
from circuitbook.teaching.exercises.common import CHECKS
# isort: on

__all__ = [
    "check_balance",
    "check_class_share",
    "check_copy_score",
    "check_dead_edges",
    "check_edge_score",
    "check_effect",
    "check_emergence",
    "check_ewma",
    "check_faithfulness",
    "check_induction_score",
    "check_jaccard",
    "check_logit_difference",
    "check_mover",
    "check_self_repair",
    "check_weighted_jaccard",
    "CHECKS",
    "EDGE_POINTS",
    "edge_tensors",
]
