"""Where log lines go: to stderr, and where all of them are requested, to a file.

Names in them come from others: a line is one line, and no line is a command to a terminal.
"""

import logging
import os
import sys
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from transform.confined import is_link
from transform.errors import SettingsError
from transform.terminal import one_line, printable

_PACKAGES = ("transform", "daw_bridge", "training")
_LOG_BYTES = 2**20
_log = logging.getLogger(__name__)


class _ToStderr(logging.Handler):
    """Writes to the stderr of the moment: a progress bar lets what it prints pass above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:  # as where a program has no terminal on Windows
            print(self.format(record), file=sys.stderr, flush=True)


class _LogFile(RotatingFileHandler):
    """A log file that ends, with a word about it, where it cannot be written any more."""

    def handleError(self, record: logging.LogRecord) -> None:
        self.setLevel(logging.CRITICAL + 1)
        with suppress(OSError, ValueError):  # the disk is still full
            self.close()
        err = sys.exc_info()[1]
        why = err.strerror if isinstance(err, OSError) else err
        _log.warning("nothing more is written to %s: %s", self.baseFilename, why)


class _Lines(logging.Formatter):
    """Writes a message on one line, whatever names are in it; only a traceback has lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def set_up_logging(quiet: bool, verbose: bool) -> None:
    """Send log lines to stderr: errors only, warnings, or with `verbose` all, then to the log file, too."""
    if quiet and verbose:
        raise SettingsError("-q and -v contradict each other", hint="give one of them")
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(level)
        if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
            handler = _ToStderr()
            handler.setFormatter(_Lines("%(levelname)s: %(message)s"))
            logger.addHandler(handler)
    if verbose:
        _log_to_file()


def _log_to_file() -> None:
    """Add the log file to where log lines go; the last megabytes of it are retained."""
    loggers = [logging.getLogger(package) for package in _PACKAGES]
    if any(isinstance(handler, _LogFile) for handler in loggers[0].handlers):
        return
    path = log_folder() / "redrum.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_taken = os.path.lexists(path) and (is_link(path) or not path.is_file() or path.stat().st_nlink > 1)
        if is_link(path.parent) or is_taken:
            _log.warning("there is no log file: %s is a link, or no file, or in a folder that is a link", path)
            return
        handler = _LogFile(path, maxBytes=_LOG_BYTES, backupCount=2, encoding="utf-8", delay=True)
    except OSError as err:
        _log.warning("there is no log file: %s", err)
        return
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for logger in loggers:
        logger.addHandler(handler)
    _log.debug("this is also in %s: redrum %s", path, " ".join(sys.argv[1:]))


def close_log_file() -> None:
    """Close the log file until the next line: while it is open, Windows lets no process begin a new one."""
    for handler in logging.getLogger(_PACKAGES[0]).handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()


def log_folder() -> Path:
    """Return where the log file lies: in $REDRUM_DATA, else the platform's place for logs."""
    if chosen := os.environ.get("REDRUM_DATA"):
        return Path(chosen) / "logs"
    from platformdirs import user_log_path

    return user_log_path("redrum", appauthor=False)
