"""All checks run on one method, and their outcome in words."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.api import UserError
from benchmark.conformance import toy
from benchmark.conformance.checks import CHECKS, backbone_damage
from benchmark.conformance.subject import Check, ContractViolation, Subject


@dataclass(frozen=True)
class CheckResult:
    """The result of a check: `problem` is None where the clause holds."""

    clause: str
    capability: bool
    problem: str | None

    def __str__(self) -> str:
        if self.problem is None:
            return f"  ok      {self.clause}"
        return f"  {'weak' if self.capability else 'broken':7} {self.clause}: {self.problem}"


def verify(subject: Subject) -> Iterator[CheckResult]:
    """The results of all checks that apply to the method, one by one.

    Raises UserError where the method cannot be loaded.
    """
    subject.card()
    for check in CHECKS:
        try:
            applies = check.applies(subject)
        except Exception as error:
            yield CheckResult(check.clause, check.capability, _message(error))
            continue
        finally:
            _renew_backbone()
        if applies:
            yield CheckResult(check.clause, check.capability, problem(check, subject))


def problem(check: Check, subject: Subject) -> str | None:
    """What a check finds wrong; an exception of the method's is a finding too."""
    try:
        check.test(subject)
    except Exception as error:
        return _message(error)
    finally:
        _renew_backbone()
    return None


def _renew_backbone() -> None:
    """A damaged toy CLIP must not reach the next check."""
    if backbone_damage():
        toy.backbone.cache_clear()


def _message(error: Exception) -> str:
    if isinstance(error, ContractViolation):
        return str(error)
    if isinstance(error, UserError):
        return f"the method refused: {error}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}, line {last.lineno}"
    return f"the method raised {type(error).__name__}: {error} ({where})"
