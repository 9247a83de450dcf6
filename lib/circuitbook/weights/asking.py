"""Asking a Hugging Face hub, asking again while there is hope, and one clear error in the end.

huggingface_hub raises many kinds of errors, often one inside another. `ask` sorts them: what may
pass (429, 5xx, a lost connection) is tried again with growing waits; what will not becomes a
HubError that names the way out.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tenacity import RetryCallState, Retrying, retry_if_exception

log = logging.getLogger(__name__)


T = TypeVar("T")


PASSING = (408, 429, 500, 502, 503, 504)  # HTTP states that pass


# huggingface_hub's HTTP library differs between its versions (httpx, httpx2); this is the root of
# its errors.
HTTP_ERROR = [
    kind for kind in HfHubHTTPError.__bases__[0].__mro__ if kind.__module__ != "builtins"
][-1]


# RuntimeError is what hf_xet, the hub's other way of sending large files, raises.
NETWORK_ERRORS = (HTTP_ERROR, ConnectionError, TimeoutError, RuntimeError)


class HubError(RuntimeError):
    """A checkpoint could not be had from the hub. The message says what to do."""


class HubUnreachable(HubError):
    """The hub did not answer: no network, offline mode, or trouble that did not pass. A cached copy
    will do."""


@dataclass(frozen=True)
class Retry:
    """How often and when to ask again: waits of about `base`, 2 `base`, 4 `base`, ... seconds,
    `tries` - 1 of them.

    A wait that the hub asks for (Retry-After) counts instead, up to `longest` seconds.
    """

    tries: int = 5
    base: float = 1.0
    longest: float = 300.0

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"Retry.tries is {self.tries}; at least 1 is needed")


USUAL = Retry()
ONCE = Retry(tries=1)


def ask(call: Callable[[], T], repo: str, revision: str | None, retry: Retry) -> T:
    """`call()`, again after errors that may pass; HubError in the end.

    Errors that are not the hub's, such as a full disk, go through unchanged.
    """
    if offline():
        raise HubUnreachable(_advice(OfflineModeIsEnabled(), repo, revision))
    again = Retrying(
        retry=retry_if_exception(_may_pass),
        wait=lambda state: _wait(state, retry),
        stop=lambda state: (
            state.attempt_number >= retry.tries or state.upcoming_sleep > retry.longest
        ),
        before_sleep=lambda state: log.warning(
            "%s: %s; asking again in %.1f s", repo, _short(_error(state)), state.upcoming_sleep
        ),
        reraise=True,
    )
    try:
        return again(call)
    except Exception as error:
        if not _from_the_hub(error):
            raise
        away = _may_pass(error) or _is_any(error, OfflineModeIsEnabled)
        raise (HubUnreachable if away else HubError)(_advice(error, repo, revision)) from error


def _wait(state: RetryCallState, retry: Retry) -> float:
    """Seconds until the next attempt: what the hub asks for, or twice as long as before, spread."""
    _, asked = _status(_error(state))
    if asked is not None:
        return asked
    return retry.base * 2 ** (state.attempt_number - 1) * SystemRandom().uniform(0.5, 1.5)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and what it was raised from: huggingface_hub often wraps the telling one. The
    outermost comes first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain


def _is_any(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in _chain(error))


def _from_the_hub(error: BaseException) -> bool:
    """Whether the error came from talking to the hub, as opposed to the disk or to a bug."""
    if _is_any(error, *NETWORK_ERRORS, EntryNotFoundError):
        return True
    without_number = isinstance(error, OSError) and error.errno is None
    return isinstance(error, json.JSONDecodeError) or without_number


def _status(error: BaseException | None) -> tuple[int | None, float | None]:
    """HTTP status of an error, and the seconds that the answer asked to wait (Retry-After, or the
    hub's RateLimit)."""
    for cause in _chain(error):
        response = getattr(cause, "response", None)
        if response is not None:
            return response.status_code, _asked_wait(response.headers)
    return None, None


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    after = (headers.get("Retry-After") or "").strip()
    if after.isdigit():
        return float(after)
    if after:
        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
        except (TypeError, ValueError):
            pass
    # such as "api";r=0;t=55: none left for 55 s
    limit = re.search(r"\br=0;\s*t=(\d+)", headers.get("RateLimit") or "")
    return float(limit[1]) if limit else None


def _may_pass(error: BaseException) -> bool:
    if not _from_the_hub(error):
        return False
    status, _ = _status(error)
    if status is not None:
        return status in PASSING
    if _is_any(error, OfflineModeIsEnabled):
        return False
    return _is_any(error, *NETWORK_ERRORS) or "Consistency check failed" in str(error)


def _short(error: BaseException | None) -> str:
    """The first line of what the innermost error says."""
    innermost = _chain(error)[-1]
    return (str(innermost).strip() or type(innermost).__name__).splitlines()[0]


def _advice(error: BaseException, repo: str, revision: str | None) -> str:
    """What went wrong with `repo`, and the way out."""
    hub = endpoint() or constants.ENDPOINT
    what = f"{repo} at {revision}" if revision else repo
    status, asked = _status(error)
    if _is_any(error, OfflineModeIsEnabled):
        return (
            f"{what} is not in the cache and HF_HUB_OFFLINE is set: "
            "unset it, or download it once with network"
        )
    if _is_any(error, RevisionNotFoundError):
        return (
            f"{repo} has no revision {revision} on {hub}: "
            "see which steps it has with circuitbook.weights.hub.list_steps"
        )
    if _is_any(error, GatedRepoError):
        return (
            f"{repo} is gated: accept its terms on {hub}/{repo}, "
            "then log in (`hf auth login`, or set HF_TOKEN)"
        )
    if _is_any(error, RepositoryNotFoundError):
        return (
            f"{repo} was not found on {hub}: check the name, and whether it should be a local "
            "folder (there is none of that name); if the repository is private, log in first "
            "(`hf auth login`, or set HF_TOKEN)"
        )
    if status in (401, 403):
        return (
            f"{hub} refuses access to {what} ({status}): "
            "log in as one who may read it (`hf auth login`, HF_TOKEN)"
        )
    if status == 429:
        wait = f" It asks to wait {asked:.0f} s." if asked else ""
        return (
            f"{hub} has had too many requests from here to serve {what}.{wait} "
            "Wait, or log in for a higher limit"
        )
    if status is not None:
        return f"{hub} answers {status} for {what}: try again later (5xx is trouble on its side)"
    if "Consistency check failed" in str(error):
        first = str(error).splitlines()[0]
        return f"a file of {what} kept arriving truncated: {first} Try again later"
    return (
        f"{hub} cannot be reached for {what} ({_short(error)}): check the network and HF_ENDPOINT. "
        "What was downloaded once stays in the cache, and the mini suite needs no network"
    )


def endpoint() -> str | None:
    """HF_ENDPOINT as it is now; huggingface_hub itself reads it only once. None: the usual hub."""
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids asking, now or when huggingface_hub was imported."""
    return constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in {
        "1",
        "ON",
        "YES",
        "TRUE",
    }
