"""How far apart two ways to the same number may lie: by their roundings, on whatever machine.

Another batch, another number of threads or wider vectors add the same numbers up in another order,
and each order rounds differently. That moves a result by some multiple of its dtype's epsilon times
the size of what was added, and by nothing else.

Three kinds of comparison have no place here: what must be the same to the last bit (a value read
back, the same run twice, counts, masks), for which there is ==; a number worked out by hand, for
which pytest.approx will do; and what differs by more than rounding (finite differences, an integral
over few points, another draw), whose bound stands where it is used.
"""

from __future__ import annotations

import numpy as np
import torch


def assert_close(got, want, *, rounds: float, dtype: torch.dtype | None = None, size=None) -> None:
    """got equals want but for rounding: they differ by rounds * eps(dtype) * size at most.

    got, want: tensors, arrays, columns or numbers of the same shape (or want a single number). NaN
        and infinity must stand in the same places.
    rounds: by how many roundings the two ways may differ: 10 for a sum of a few numbers or a
        softmax, 100 for a pass through a network and back. (On one machine's three vector widths
        and up to four threads they differed by a quarter of that.)
    dtype: what they were computed in, where what is handed over has lost it (a column of a table,
        float(tensor)); otherwise the coarser of the two floating dtypes. A plain number is float64.
    size: the largest absolute value that went into the result, where that is not the largest in
        want: a small difference of large logits is as rough as the logits are.
    """
    (a, eps_a), (b, eps_b) = _numbers(got), _numbers(want)
    assert a.shape == b.shape or b.ndim == 0, f"shapes {a.shape} and {b.shape} differ"
    eps = torch.finfo(dtype).eps if dtype else max(eps_a, eps_b)
    b = np.broadcast_to(b, a.shape)
    finite = np.isfinite(b)
    np.testing.assert_array_equal(a[~finite], b[~finite])  # NaN equals NaN here
    assert np.isfinite(a[finite]).all(), "what should be finite is not"
    if size is None:
        size = np.abs(b[finite]).max(initial=0)
    apart = np.zeros(a.shape)
    apart[finite] = np.abs(a[finite] - b[finite])
    assert size >= 0, f"no size: {size}"
    _judge(apart, eps * float(size), rounds, a, b)


def _numbers(values) -> tuple[np.ndarray, float]:
    """(values in float64, epsilon of the dtype they came in: 0 for whole numbers)."""
    if isinstance(values, torch.Tensor):
        dtype = values.dtype
        eps = torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
        return values.detach().cpu().double().numpy(), eps
    array = np.asarray(values)
    eps = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
    return array.astype(np.float64), eps


def _judge(apart: np.ndarray, rounding: float, rounds: float, got, want) -> None:
    worst = float(apart.max(initial=0))
    if worst > rounds * rounding:
        place = tuple(map(int, np.unravel_index(apart.argmax(), apart.shape)))
        a, b = float(got[place]), float(want[place])
        taken = f"{worst / rounding:.0f} roundings" if rounding else "and neither is rounded"
        raise AssertionError(
            f"{a!r} is not {b!r} (at {place}): they differ by {worst:.2g}, {taken}; "
            f"{rounds:g} roundings of {rounding:.2g} may be"
        )
