"""Where files of Hugging Face repositories are fetched from; http_download fetches them."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmark.data.sources import Offer, stays_below
from benchmark.errors import MISSING, UserError


@dataclass(frozen=True)
class HubFile:
    """One file of a repository: its path there, and what the hub says of it."""

    path: str
    url: str
    size: int | None = None  # bytes
    sha256: str | None = None


def address(offer: Offer) -> str:
    """The address of a file of the hub. Raises UserError where its library is put offline."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _failed(offer, "cannot be fetched while HF_HUB_OFFLINE is set; unset it")
    return _url(offer, offer.file or "", offer.revision)


def matching(offer: Offer) -> list[HubFile]:
    """The files that a pattern with '*' matches, all of one commit.

    Raises UserError where the repository is unknown or gated, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    address(offer)
    try:
        about: Any = HfApi(endpoint=constants.ENDPOINT).repo_info(
            offer.repo or "",
            repo_type=offer.repo_type,
            revision=offer.revision or constants.DEFAULT_REVISION,
            files_metadata=True,
        )
    except GatedRepoError as error:
        raise _failed(
            offer, "asks for an account: accept its terms on its page and run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise _failed(offer, "is not on the hub, or not for you") from error
    # The library below huggingface_hub has changed more than once, and its errors with it.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise _failed(offer, f"could not be fetched ({reason})") from error
    found = [each for each in about.siblings if fnmatch.fnmatch(each.rfilename, offer.file or "")]
    if not found:
        raise _failed(offer, "is not on the hub: no file matches")
    return [_hub_file(offer, each, about.sha) for each in sorted(found, key=lambda f: f.rfilename)]


def _hub_file(offer: Offer, file: Any, commit: str) -> HubFile:
    if not stays_below(file.rfilename):
        raise _failed(offer, f"has the path '{file.rfilename[:60]}', which leads out of its folder")
    stored_elsewhere = file.lfs or {}
    return HubFile(
        file.rfilename,
        _url(offer, file.rfilename, commit),
        file.size,
        stored_elsewhere.get("sha256"),
    )


def secrets() -> Mapping[str, str]:
    """The header by which the hub knows its user; empty without a login."""
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _url(offer: Offer, file: str, revision: str | None) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(offer.repo or "", file, repo_type=offer.repo_type, revision=revision)


def _failed(offer: Offer, why: str) -> UserError:
    return UserError(f"{offer.file} of {offer.repo} {why}", exit_code=MISSING)
