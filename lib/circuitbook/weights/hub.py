"""Checkpoints from a Hugging Face hub: a revision pinned to its commit, only the files that are
needed, each checked.

huggingface_hub does the work: cache, progress bars, log-in, and going on where a download was cut
off (after a TCP reset it starts the file again). Added here: comparing what arrived with the size
and hash that the hub announces, and, in `asking`, trying again and one clear error in the end.

The usual settings hold: HF_ENDPOINT and HF_HUB_OFFLINE (also when set after the import), HF_TOKEN,
HF_HOME.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

from circuitbook.store.cache import cache_path
from circuitbook.weights.asking import (
    ONCE,
    USUAL,
    HubError,
    HubUnreachable,
    Retry,
    ask,
    endpoint,
)
from circuitbook.weights.files import (
    CONFIG,
    choose_weights,
    git_id,
    join_hashes,
    settings_ids,
    shards,
    tokenizer_names,
    weight_files,
)
from circuitbook.weights.hash_memory import HASHES
from circuitbook.weights.step_names import by_step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubFile:
    """A file as the hub announces it. Large files (git-lfs) have a sha256, the others a git blob
    id."""

    name: str
    size: int | None
    sha256: str | None
    git_id: str | None


@dataclass(frozen=True)
class Listing:
    """The files of one commit."""

    repo: str
    revision: str
    commit: str
    files: dict[str, HubFile]


def list_files(repo: str, revision: str, retry: Retry = USUAL) -> Listing:
    """Commit and files of a revision (branch, tag or commit)."""
    api = HfApi(endpoint=endpoint())
    info = ask(
        lambda: api.model_info(repo, revision=revision, files_metadata=True, timeout=30),
        repo,
        revision,
        retry,
    )
    files = {}
    for sibling in info.siblings or []:
        lfs = sibling.lfs
        size = lfs.size if lfs else sibling.size
        files[sibling.rfilename] = HubFile(
            sibling.rfilename, size, lfs.sha256 if lfs else None, sibling.blob_id
        )
    return Listing(repo, revision, info.sha or revision, files)


def list_steps(
    repo: str, retry: Retry = USUAL, steps_of: Callable[[set[str], str], dict[int, str]] = by_step
) -> dict[int, str]:
    """{step: branch or tag} of a repository, ascending; without network, of those cached.

    steps_of: which names are steps, and of what number. ValueError if two are the same step.
    """
    api = HfApi(endpoint=endpoint())
    cache = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "refs"
    cached = steps_of({path.name for path in cache.glob("*")}, repo)
    try:
        refs = ask(lambda: api.list_repo_refs(repo), repo, None, ONCE if cached else retry)
    except HubUnreachable:
        if not cached:
            raise
        return cached
    return steps_of({ref.name for ref in [*refs.branches, *refs.tags]}, repo)


def fetch(repo: str, revision: str, prefer: str = "safetensors", retry: Retry = USUAL) -> Path:
    """Local folder with config.json, weights and tokenizer files of a revision, downloaded if need
    be.

    `prefer` ("safetensors" or "pickle") decides when the revision has both. Other files, code above
    all, stay where they are. When the hub cannot be reached, a complete copy in the cache is taken.
    HubError when there is no way.
    """
    listing = _listing_or_cache(repo, revision, prefer, retry)
    if isinstance(listing, Path):
        return listing
    weights = choose_weights(listing.files, prefer)
    if CONFIG not in listing.files or weights is None:
        raise HubError(
            f"{repo} at {revision} holds no model (config.json and weights): "
            "choose another step or model"
        )
    wanted = [CONFIG, *tokenizer_names(listing.files), weights]
    for name in wanted:
        path = _download(listing, name, retry)
        if name.endswith(".index.json"):
            wanted += shards(path)  # the loop goes on with them
    _remember_revision(path.with_name(CONFIG), listing, retry)
    tokenizer = _tokenizer_listing(listing, retry)
    if tokenizer.revision != revision:
        paths = [_download(tokenizer, name, retry) for name in tokenizer_names(tokenizer.files)]
        _remember_revision(paths[0], tokenizer, retry)
    return path.parent


def _tokenizer_listing(listing: Listing, retry: Retry) -> Listing:
    """The listing itself, or that of the revision main where only that one has a tokenizer."""
    if tokenizer_names(listing.files):
        return listing
    try:
        main = list_files(listing.repo, "main", retry)
    except HubUnreachable:
        raise
    except HubError:  # there is no such revision
        return listing
    return main if tokenizer_names(main.files) else listing


def _remember_revision(path: Path, listing: Listing, retry: Retry) -> None:
    """Lets the cache know which commit the revision's name stands for, so that it can be found
    without network. `path`: a file of the commit."""
    repo, revision, name = listing.repo, listing.revision, path.name
    if try_to_load_from_cache(repo, name, revision=revision) != str(path):
        ask(
            lambda: hf_hub_download(repo, name, revision=revision, endpoint=endpoint()),
            repo,
            revision,
            retry,
        )


def weights_hash(
    repo: str, revision: str, prefer: str = "safetensors", retry: Retry = USUAL
) -> str:
    """`join_hashes` of the weight files as the hub announces them: nothing large is downloaded."""
    listing = _listing_or_cache(repo, revision, prefer, retry)
    if isinstance(listing, Path):
        return join_hashes([_sha256(path) for path in weight_files(listing, prefer)])
    if (weights := choose_weights(listing.files, prefer)) is None:
        raise HubError(f"{repo} at {revision} holds no weights: choose another step or model")

    def hash_of(name: str) -> str:
        announced = listing.files[name].sha256 if name in listing.files else None
        return announced or _sha256(_download(listing, name, retry))

    names = shards(_download(listing, weights, retry)) if weights.endswith(".json") else (weights,)
    return join_hashes([hash_of(name) for name in names])


def settings(
    repo: str, revision: str, prefer: str = "safetensors", retry: Retry = USUAL
) -> dict[str, str]:
    """{name: id} of config.json and the tokenizer's files, as the hub announces them (see
    `files.settings_ids`)."""
    listing = _listing_or_cache(repo, revision, prefer, retry)
    if isinstance(listing, Path):
        # only what a hub's revision is read from; other tools may have put more into its folder
        ids = settings_ids(listing)
        return {name: ids[name] for name in (CONFIG, *tokenizer_names(ids)) if name in ids}
    tokenizer = _tokenizer_listing(listing, retry).files
    files = [tokenizer[name] for name in tokenizer_names(tokenizer)]
    if CONFIG in listing.files:
        files.append(listing.files[CONFIG])
    return {file.name: file.sha256 or file.git_id or "" for file in files}


def _listing_or_cache(repo: str, revision: str, prefer: str, retry: Retry) -> Listing | Path:
    """The hub's listing; or, when the hub cannot be reached, the revision's folder in the cache.
    With that at hand there is no point in asking often."""
    cached = _cached(repo, revision, prefer)
    try:
        return list_files(repo, revision, ONCE if cached else retry)
    except HubUnreachable:
        if cached:
            return cached
        raise


def _cached(repo: str, revision: str, prefer: str) -> Path | None:
    """The revision's folder in the cache, if its weights are complete."""
    config = try_to_load_from_cache(repo, CONFIG, revision=revision)
    if not isinstance(config, str):
        return None
    try:
        weight_files(Path(config).parent, prefer)
    except FileNotFoundError:
        return None
    return Path(config).parent


def _download(listing: Listing, name: str, retry: Retry) -> Path:
    """One file of a commit: from the cache, or from the hub and then compared with what the hub
    announced."""
    repo, commit = listing.repo, listing.commit
    if name not in listing.files:
        raise HubError(
            f"{repo} at {listing.revision} lacks {name}, which its index of shards names: "
            "choose another step"
        )
    cached = try_to_load_from_cache(repo, name, revision=commit)
    if isinstance(cached, str) and _fault(Path(cached), listing.files[name]) is None:
        return Path(cached)
    damaged = isinstance(cached, str)

    def download() -> str:
        return hf_hub_download(
            repo, name, revision=commit, endpoint=endpoint(), force_download=damaged
        )

    for _ in range(retry.tries):
        path = Path(ask(download, repo, listing.revision, retry))
        fault = _fault(path, listing.files[name])
        if fault is None:
            return path
        damaged = True
        log.warning(
            "%s of %s at %s arrived damaged (%s); fetching it again",
            name,
            repo,
            listing.revision,
            fault,
        )
    raise HubError(
        f"{name} of {repo} at {listing.revision} arrived damaged {retry.tries} times ({fault}): "
        "something on the way to the hub changes what is sent; try from another network, or later"
    )


def _fault(path: Path, announced: HubFile) -> str | None:
    """What is wrong with a file, or None: its size or its hash differs. What was found right is
    read again only where it has changed since."""
    size = path.stat().st_size
    if announced.size not in (None, size):
        return f"{size} bytes instead of {announced.size}"
    if announced.sha256 is not None:
        return None if _sha256(path) == announced.sha256 else "its sha256 differs from the hub's"
    if announced.git_id in (None, git_id(path.read_bytes())):
        return None
    return "its git id differs from the hub's"


def _sha256(path: Path) -> str:
    """`HASHES.sha256`, remembered from one process to the next."""
    digest, data = "", path.resolve()  # the file itself, not a revision's link to it
    try:
        with HASHES.kept_in(cache_path() / "hashes.json"):
            digest = HASHES.sha256(data)
    except OSError:  # of a cache that cannot be written, unless the file cannot be read
        if not digest:
            raise
    return digest


def drop_beyond(budget: float, repo: str, names: Collection[str]) -> int:
    """Drops these revisions of a repository from the cache if the cache takes more than `budget`
    bytes; bytes that were freed.

    Nothing else is dropped: another worker may be reading it.
    """
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        info = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return 0
    used = [
        revision.commit_hash
        for cached in info.repos
        if cached.repo_id == repo
        for revision in cached.revisions
        if revision.refs & set(names)
    ]
    if info.size_on_disk <= budget or not used:
        return 0
    strategy = info.delete_revisions(*used)
    strategy.execute()
    return strategy.expected_freed_size
