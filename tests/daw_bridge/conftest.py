"""What the tests of the command line share."""

import logging

import pytest


@pytest.fixture(autouse=True)
def _own_logging():
    """The command sets up logging for its process; other tests get theirs back."""
    loggers = [logging.getLogger(package) for package in ("transform", "training", "daw_bridge")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers
