"""Parts of a dataset that are missing, each from the first of its offers that works."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from benchmark.data import offer_files, reading
from benchmark.data.disk_space import full_disk
from benchmark.data.locations import (
    NOTES,
    DatasetLocation,
    dataset_location,
    read_receipt,
    write_receipt,
)
from benchmark.data.prepare_events import PrepareEvent, PrepareRequest
from benchmark.data.sources import Offer, Part
from benchmark.errors import MISSING, UserError


def fetch_missing_parts(request: PrepareRequest) -> Iterator[PrepareEvent]:
    """Fetch what a dataset lacks.

    Raises UserError where its licence was not accepted and where no source gives a part.
    """
    location = dataset_location(request.spec, request.root)
    missing = [part for part in request.spec.parts if not _is_there(part, location)]
    if not missing:
        path = reading.missing_paths(request.spec, location)[0]
        raise UserError(
            f"{request.name}: {location.own} lacks {path}; put it there",
            exit_code=MISSING,
        )
    if request.offline:
        raise UserError(
            f"{request.name} lacks {', '.join(missing[0].gives)} and --offline forbids to fetch it",
            exit_code=MISSING,
        )
    for part in missing:
        _require_no_dead_link(part, location.own)
    with _alone(request):
        for part in missing:
            yield from _part(request, part, location.own)


def _is_there(part: Part, location: DatasetLocation) -> bool:
    return all(location.find(path).exists() for path in part.gives)


def _require_no_dead_link(part: Part, folder: Path) -> None:
    """Raises UserError for a link to what is not there now, which a download would replace."""
    for path in part.gives:
        for place in (folder / path, *(folder / path).parents):
            if place.is_symlink() and not place.exists():
                raise UserError(
                    f"{place} is a link to {place.readlink()}, which is not there; connect the "
                    "drive it lies on, or move the link elsewhere",
                    exit_code=MISSING,
                )


def _part(request: PrepareRequest, part: Part, folder: Path) -> Iterator[PrepareEvent]:
    """One part from the first of its offers that works."""
    offers = _chosen(request, part)
    by_hand = f"by hand: {part.by_hand} (into {folder})" if part.by_hand else ""
    if not offers:
        raise UserError(
            f"{request.name} cannot be fetched without your help; {by_hand or 'see its page'}",
            exit_code=MISSING,
        )
    _require_licence(request)
    failed: list[tuple[str, str]] = []  # labels of offers, and what went wrong with them
    for offer in offers:
        try:
            yield from offer_files.install(request, part, offer, folder)
            return
        except UserError as error:
            yield PrepareEvent(request.name, "note", f"{offer.label}: {error}")
            failed.append((offer.label, str(error)))
    tried = f"{request.name}: no source gave {', '.join(part.gives)} ({_reasons(failed)})"
    raise UserError(
        "; ".join(filter(None, (tried, by_hand or _other_labels(part, offers)))), exit_code=MISSING
    )


def _reasons(failed: Sequence[tuple[str, str]]) -> str:
    """The sentences behind their labels; what several hosts share is said once."""
    by_reason: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for label, sentence in failed:
        by_reason[_place_and_reason(sentence)[1]].append((label, sentence))
    said = []
    for reason, alike in by_reason.items():
        if len(alike) == 1:
            said.append(": ".join(alike[0]))
            continue
        places = [f"{label}{_place_and_reason(sentence)[0]}" for label, sentence in alike]
        said.append(f"{', '.join(dict.fromkeys(places))}: {reason}")
    return "; ".join(said)


def _place_and_reason(sentence: str) -> tuple[str, str]:
    """' at HOST' and the rest of a sentence that begins with a url; '' and the whole of another."""
    url, _, rest = sentence.partition(" ")
    host = urlsplit(url).hostname if url.startswith(("http://", "https://")) else None
    return (f" at {host}", rest) if host else ("", sentence)


def _chosen(request: PrepareRequest, part: Part) -> tuple[Offer, ...]:
    """The offers of the requested label; of a part without any, those that are not opt-in."""
    labels = {offer.label for each in request.spec.parts for offer in each.offers}
    if request.source and request.source not in labels:
        raise UserError(
            f"{request.name} has no source '{request.source}'; "
            f"it has {', '.join(sorted(labels)) or 'none'}"
        )
    named = tuple(offer for offer in part.offers if offer.label == request.source)
    return named or tuple(offer for offer in part.offers if not offer.opt_in)


def _other_labels(part: Part, tried: Sequence[Offer]) -> str:
    others = [offer for offer in part.offers if offer not in tried]
    return f"try --source {others[0].label} ({others[0].doubt})" if others else ""


def _require_licence(request: PrepareRequest) -> None:
    if not request.licence_accepted:
        seen = f" ({request.spec.licence_seen})" if request.spec.licence_seen else ""
        raise UserError(
            f"the licence of {request.name} is: {request.spec.licence}{seen}; "
            f"if you accept it, add --accept-licence {request.name}",
            exit_code=MISSING,
        )
    receipt = read_receipt(request.spec, request.root)
    if receipt.licence != request.spec.licence:
        write_receipt(request.spec, replace(receipt, licence=request.spec.licence), request.root)


@contextmanager
def _alone(request: PrepareRequest) -> Iterator[None]:
    """Two processes must not prepare one dataset at a time."""
    from filelock import FileLock, Timeout

    notes = request.root / NOTES
    try:
        notes.mkdir(parents=True, exist_ok=True)
        with FileLock(notes / f"{request.spec.key}.lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"another process is preparing {request.name}; wait for it", exit_code=MISSING
        ) from error
    except OSError as error:
        raise full_disk(error, notes) from error
