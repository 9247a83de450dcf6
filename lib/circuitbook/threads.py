"""How torch's threads wait for each other: without spinning.

Between two parallel pieces of work the threads of torch's OpenMP library (libgomp) spin for some
milliseconds. Alone on a machine that is quicker, up to twice for small work. Beside another
process, whose cores they then occupy, it can be tens of times slower. OMP_WAIT_POLICY=PASSIVE has
them sleep; ACTIVE is for a machine of one's own (see "How fast is it?"). libgomp reads it when
torch is loaded, so `circuitbook` sets it when it is imported, if torch is not there yet and the
user has set neither this variable nor GOMP_SPINCOUNT; a notebook's kernel and the workers of a
sweep get it in their environment.
"""

from __future__ import annotations

from collections.abc import Mapping

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def waiting_policy(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to this environment; nothing where the user has decided.

    >>> waiting_policy({})
    {'OMP_WAIT_POLICY': 'PASSIVE'}
    >>> waiting_policy({"GOMP_SPINCOUNT": "1000"})
    {}
    """
    if any(name in environment for name in WAITING):
        return {}
    return {"OMP_WAIT_POLICY": "PASSIVE"}
