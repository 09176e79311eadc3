"""Files of Hugging Face repositories; huggingface_hub resumes and retries by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.data.sources import Offer
from benchmark.errors import MISSING, UserError


def fetch(offer: Offer, folder: Path, endpoint: str | None = None) -> Path:
    """Fetch a file, or all files of a pattern with '*', and return the file or the folder.

    Raises UserError where the repository is unknown or gated, the file is not in it, or the hub
    cannot be reached.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return _download(offer, folder, endpoint)
    except GatedRepoError as error:
        raise _failed(
            offer, "asks for an account: accept its terms on its page and run `hf auth login`"
        ) from error
    except LocalEntryNotFoundError as error:
        raise _failed(
            offer,
            "could not be fetched: the hub did not answer as it should, or HF_HUB_OFFLINE is set",
        ) from error
    except (EntryNotFoundError, RepositoryNotFoundError) as error:
        raise _failed(offer, "is not on the hub, or not for you") from error
    # The library below huggingface_hub has changed more than once, and its errors with it.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise _failed(offer, f"could not be fetched ({reason})") from error


def _download(offer: Offer, folder: Path, endpoint: str | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    repo, file = offer.repo or "", offer.file or ""
    disable_progress_bars()  # the caller shows progress
    options: dict[str, Any] = {
        "repo_type": offer.repo_type,
        "revision": offer.revision,
        "local_dir": folder,
        "endpoint": endpoint,
    }
    if "*" in file:
        return Path(str(snapshot_download(repo, allow_patterns=[file], **options)))
    return Path(str(hf_hub_download(repo, file, **options)))


def _failed(offer: Offer, why: str) -> UserError:
    return UserError(f"{offer.file} of {offer.repo} {why}", exit_code=MISSING)
