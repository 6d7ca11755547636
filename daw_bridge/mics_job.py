"""Microphones of one performance, the rhythm that they play, and where the results go."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transform
from daw_bridge.render_job import check_ending, check_outputs, identity, outputs_beside
from daw_bridge.take_report import Report, depth_of, report_of
from transform.errors import SettingsError

if TYPE_CHECKING:
    from transform.audio import AudioFormat, Progress
    from transform.mics import MicRecording

_LATEST_S = 86_400.0  # that a microphone may begin after the first


@dataclass(frozen=True, kw_only=True)
class MicsJob:
    """Microphones of one performance, the rhythm that they play, and where the results go."""

    microphones: "MicRecording"
    rhythm: "transform.Rhythm | transform.Recording"
    outputs: tuple[Path, ...]  # one for each microphone, in their order
    inputs: tuple[Path, ...] = ()
    plot: Path | None = None
    midi: Path | None = None
    overwrite: bool = False
    bit_depth: str | None = None

    def check(self) -> None:
        """Raise an error now for a result that could not be written later."""
        from transform.mic_files import take_formats

        for path, times in Counter(self.outputs).items():
            if times > 1:
                raise SettingsError(f"two microphones would both become {path}", hint="rename one of them")
        take_formats(self.microphones, self.outputs, self.bit_depth)
        check_ending(self.plot, (".png",))
        check_ending(self.midi, (".mid", ".midi"))
        check_outputs([*self.outputs, self.midi, self.plot], self.inputs, overwrite=self.overwrite)

    def run(
        self,
        redrummer: "transform.Redrummer",
        settings: "transform.RenderSettings",
        progress: "Progress | None",
    ) -> Report:
        """Write the results, all or none, and their MIDI and picture, and return the report of them.

        Raises:
            SettingsError: the settings are not for several microphones.
            RedrumError: as `Redrummer.redrum` and `write_mics` raise it.
        """
        from transform.mic_files import MicFiles, write_mics
        from transform.mics import check_together

        check_together(settings)
        began_s = time.perf_counter()
        take = redrummer.redrum(self.microphones, self.rhythm, settings, progress=progress)
        formats = write_mics(
            take,
            self.microphones,
            MicFiles(takes=self.outputs, midi=self.midi),
            bit_depth=self.bit_depth,
            overwrite=self.overwrite,
            progress=progress,
        )
        if self.plot:
            from transform.pictures import plot_take

            plot_take(self.plot, self.microphones, take, overwrite=self.overwrite)
        together = self._reports(formats)
        return {
            "output": str(self.outputs[0]),
            **outputs_beside(self.plot, {}, self.midi),
            **report_of(take, settings.engine, formats[0].subtype),
            **{name: together[0][name] for name in ("sample_rate", "channels", "bit_depth")},
            "together": together,
            "seconds": round(time.perf_counter() - began_s, 3),
        }

    def _reports(self, formats: "Sequence[AudioFormat]") -> list[dict[str, Any]]:
        """Return what each microphone's file is."""
        rate = self.microphones.sample_rate
        return [
            {
                "source": str(mic.recording.path or mic.name),
                "output": str(path),
                "sample_rate": fmt.sample_rate,
                "channels": fmt.n_channels,
                "bit_depth": depth_of(fmt.subtype),
                "offset_s": round(mic.begin / rate, 6),
            }
            for mic, path, fmt in zip(self.microphones.microphones, self.outputs, formats, strict=True)
        ]


def open_mics(
    sources: Sequence[Path],
    files: ExitStack,
    *,
    offsets_s: Sequence[float | None] | None = None,
    listen_to: Path | None = None,
) -> "MicRecording":
    """Return the microphones in sound files, opened and closed by `files`.

    Args:
        sources: one file for each microphone.
        files: closes them.
        offsets_s: when each begins; None: as their files say, or else with the first.
        listen_to: what is transcribed instead of them.

    Raises:
        AudioError: a file is missing or broken, or two do not overlap in time.
        SettingsError: a file is named twice.
    """
    from transform.mics import MicRecording

    check_different(sources)
    opened = [files.enter_context(transform.Recording.open(path)) for path in sources]
    guide = files.enter_context(transform.Recording.open(listen_to)) if listen_to else None
    return MicRecording.of(opened, offsets_s=offsets_s, listen_to=guide)


def check_different(sources: Sequence[Path]) -> None:
    """Raise SettingsError for a file that is named twice."""
    times = Counter(map(identity, sources))
    for path in sources:
        if times[identity(path)] > 1:
            raise SettingsError(f"{path} is named twice among the microphones", hint="leave it out once")


def offsets_of(sources: Sequence[Path], offsets: Sequence[str]) -> list[float | None]:
    """Return when each microphone begins, in seconds, as --offset says; None where it says nothing.

    Args:
        sources: one file for each microphone.
        offsets: "NAME=SECONDS" for some of them, by the file's name or that without its ending; or as many
            "SECONDS" as there are microphones, in their order.

    Raises:
        SettingsError: they are neither, or one is named twice.
    """
    hint = "give --offset NAME=SECONDS for a microphone, or as many --offset SECONDS as there are"
    named = [text for text in offsets if "=" in text]
    if named and len(named) < len(offsets):
        raise SettingsError("--offset is given with names and without", hint=hint)
    if offsets and not named and len(offsets) != len(sources):
        raise SettingsError(f"--offset is given {len(offsets)} times for {len(sources)} microphones", hint=hint)
    if offsets and not named:
        return [_seconds(text) for text in offsets]
    found: list[float | None] = [None] * len(sources)
    for text in named:
        name, _, seconds = text.rpartition("=")
        own = [i for i, path in enumerate(sources) if name in (path.name, path.stem, str(path))]
        if len(own) != 1:
            which = "none" if not own else "several"
            raise SettingsError(f"--offset {text} is for {which} of the microphones", hint=hint)
        if found[own[0]] is not None:
            raise SettingsError(f"--offset is given twice for {sources[own[0]].name}", hint="leave it out once")
        found[own[0]] = _seconds(seconds)
    return found


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not abs(seconds) <= _LATEST_S:
        raise SettingsError(f"--offset is {text[:40]!r}, which is no time in seconds", hint="such as 0.25")
    return seconds
