"""Where the models compute, and with how many threads."""

import logging
import os
from contextlib import suppress

from transform.errors import DeviceError, SettingsError

_log = logging.getLogger(__name__)


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Return how many threads compute by default: one core is left to a DAW, where there are several."""
    return max(1, n_cores() - 1)


def set_up_device(name: str, threads: int | None) -> str:
    """Let the models compute with so many threads, and return the device that a name stands for.

    Without a number it is that of $OMP_NUM_THREADS, else `default_threads`.
    """
    device = resolve_device(name)

    import torch

    if threads or "OMP_NUM_THREADS" not in os.environ:  # which PyTorch has followed already
        torch.set_num_threads(threads or default_threads())
    with suppress(RuntimeError):  # it was set before in this process
        torch.set_num_interop_threads(1)  # nothing here works on two things at once
    _log.info("the models run on %s; %d threads of the processor compute", device, torch.get_num_threads())
    return device


def check_device_name(name: str) -> None:
    """Raise SettingsError for a name that no device has."""
    if name not in ("auto", "cpu", "cuda", "mps"):
        raise SettingsError(f"--device is {name!r}", hint="the devices are auto, cpu, cuda and mps")


def resolve_device(name: str) -> str:
    """Return the device that a name stands for, after checking that it is there."""
    check_device_name(name)
    if name == "cpu":
        return name
    import torch

    if name == "auto":  # never mps: these models have not been run there
        return "cuda" if torch.cuda.is_available() else "cpu"
    is_there = torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()
    if not is_there:
        raise DeviceError(f"PyTorch finds no {name} device on this machine", hint="use --device auto")
    return name
