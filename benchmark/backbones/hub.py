"""Weights in the cache of the Hugging Face hub. Imports no torch.

Nothing here reaches the network unless it is told to fetch.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmark.errors import MISSING, UserError, nearest

HUB, TIMM = "hf-hub:", "timm:"  # prefixes of names
NETWORK = (socket.gaierror, ConnectionError, TimeoutError)


@contextmanager
def offline() -> Iterator[None]:
    """The hub library answers from its cache alone for as long as this lasts."""
    from unittest import mock  # brings asyncio along, which takes as long as all of `list`

    from huggingface_hub import constants

    with (
        mock.patch.object(constants, "HF_HUB_OFFLINE", True),
        mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}),
    ):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """The hub library does not log its attempts: what fails in the end is said once."""
    from huggingface_hub import logging

    usual = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(usual)


def unreachable(repo: str) -> Exception | None:
    """Why the hub does not answer; None where it does, whatever it says.

    Asked once before anything is fetched: the library itself tries every file six times, which
    takes a minute without a network and many where requests are swallowed, and has no setting for
    it. For the time to answer it has one, HF_HUB_ETAG_TIMEOUT.
    """
    from huggingface_hub import constants, get_session, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        url = hf_hub_url(repo, "config.json")
        get_session().head(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # of whatever carries its requests
        return error
    return None


def from_hub(name: str, fetch: bool) -> Path:
    """The weights file of a `hf-hub:` or `timm:` name; its configuration lies beside it.

    Fetched only where `fetch` and where the hub answers. Raises UserError where it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    if name.startswith(HUB):
        repo, config = name.removeprefix(HUB), "open_clip_config.json"
        files = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    else:
        repo, config = _timm_repo(name), "config.json"
        files = ["model.safetensors", "pytorch_model.bin"]
    silent = unreachable(repo) if fetch else None
    cached = not fetch or silent is not None
    try:
        with quiet():
            known = Path(hf_hub_download(repo, config, local_files_only=cached))
            # one revision for all its files
            options: dict[str, Any] = {"revision": known.parent.name, "local_files_only": cached}
            return _first(files, lambda file: Path(hf_hub_download(repo, file, **options)))
    except Exception as error:  # of the hub library, or of whatever carries its requests
        raise missing(name, (silent or error) if fetch else None) from error


def _first(files: list[str], get: Callable[[str], Path]) -> Path:
    """The first file that can be had: safetensors before what must be unpickled."""
    # also raised for a file that the cache lacks
    from huggingface_hub.errors import EntryNotFoundError

    for file in files[:-1]:
        with suppress(EntryNotFoundError):
            return get(file)
    return get(files[-1])


def _timm_repo(name: str) -> str:
    import timm
    from timm.models import get_pretrained_cfg

    name = name.removeprefix(TIMM)
    try:
        config = get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # a known architecture, but no such weights
        config = None
    if config is None or not config.hf_hub_id:
        near = nearest(name, timm.list_pretrained())
        raise UserError(f"unknown backbone '{TIMM}{name}': {near}")
    return str(config.hf_hub_id)


def why(error: BaseException) -> str:
    """What a failed download says first; where the network failed, what that said."""
    chain = [error]
    while below := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(below)
    for each in chain:
        if isinstance(each, NETWORK):
            return f"the network says: {each.strerror or each}"
    return str(error).strip().partition("\n")[0] or type(error).__name__


def missing(name: str, reason: Exception | None = None) -> UserError:
    """The error for weights that are not on this machine, or that could not be fetched."""
    if reason:
        return UserError(
            f"the weights of {name} could not be fetched ({why(reason)}); "
            "check the name, or try again with a network",
            exit_code=MISSING,
        )
    return UserError(
        f"the weights of {name} are not on this machine and nothing is downloaded by itself; "
        f"run `python -m benchmark prepare --backbone {name}` where there is a network",
        exit_code=MISSING,
    )
