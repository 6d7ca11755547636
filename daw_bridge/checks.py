"""Checks of a machine or a DAW, and how they can fail."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transform.errors import RedrumError

Status = Literal["ok", "failed", "absent"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check; the cure is empty where all is well."""

    name: str
    status: Status
    found: str
    cure: str = ""


class ProblemError(RedrumError):
    """A part is there, but of no use."""


def checked(name: str, look: Callable[[], str], cure: str) -> Check:
    """Return the check that `look` makes; where that fails, with the error's own cure, if it has one."""
    try:
        return Check(name=name, status="ok", found=look())
    except RedrumError as err:
        return Check(name=name, status="failed", found=err.message, cure=err.hint or cure)
    except Exception as err:  # whatever is wrong here, the other checks go on
        why = str(err) or type(err).__name__
        trace = traceback.extract_tb(err.__traceback__)[-1]
        found = f"{why.splitlines()[0]} ({Path(trace.filename).name}:{trace.lineno})"
        return Check(name=name, status="failed", found=found, cure=cure)
