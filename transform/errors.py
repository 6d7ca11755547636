"""The errors that Redrum tells its user about, each with the command's exit code."""

from pathlib import Path


class RedrumError(Exception):
    """Something the user can act on: the message is what is wrong, the hint the next step."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(RedrumError):
    """A setting, an option or a combination of them is not possible."""

    exit_code = 2


class AudioError(RedrumError):
    """A recording is missing, broken or holds no usable sound."""


class RhythmError(RedrumError):
    """A MIDI file, a rhythm's name or a rhythm's content is not usable."""


class OutputError(RedrumError):
    """A result cannot be written: the file exists, the folder is read-only or the disk is full."""


class ExistsError(OutputError):
    """A result would take the place of something that lies there, in `path`."""

    def __init__(
        self, path: Path, *, hint: str = "choose another name, or overwrite it with --overwrite"
    ) -> None:
        super().__init__(f"{path} exists already", hint=hint)
        self.path = path


class CheckpointError(RedrumError):
    """A preset or a weights file is missing, damaged or of another version."""


class DeviceError(RedrumError):
    """The requested device is not on this machine."""

    exit_code = 3


class DawError(RedrumError):
    """The digital audio workstation is missing or did not answer as expected."""

    exit_code = 3
