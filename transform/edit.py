"""The rhythm inside a recording, edited: what nobody touched stays the recording, sample for sample.

editor = RecordingEditor.open(recording, Redrummer.load())
first, *others = editor.detected
edited = editor.edited(Strokes(editor.detected, (replace(first, onset_s=0.51), *others)))
edited.write(Path("out.wav"))
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from transform.audio import Progress, Recording
from transform.edit_kit import KitMaker, nothing_plays
from transform.edit_sound import OpenStems, StrokeSounds
from transform.edited import Edited, EditedRecording, Replay
from transform.engine import Redrummer
from transform.errors import CheckpointError
from transform.events import CLASSES, Rhythm
from transform.listening import Listening
from transform.mics import MicRecording, check_together
from transform.session_file import EditSession
from transform.settings import RenderSettings
from transform.strokes import Stroke, Strokes, in_order

__all__ = ["Edited", "RecordingEditor", "Stroke", "Strokes"]

_N_SOUNDS = 3  # of what was detected, as corrected and as settings have it, that are cached


class RecordingEditor:
    """A recording that was listened to once, ready to be edited. Not for use by several threads at once."""

    def __init__(
        self, found: Listening, stems: OpenStems, redrummer: Redrummer, settings: RenderSettings
    ) -> None:
        """Take what was detected, at its attacks, and its stems."""
        self.recording = found.recording
        inside = [event for event in found.events if event.onset_s < self.recording.duration_s]
        inside.sort(key=lambda event: (event.onset_s, event.drum_class))
        self.detected: tuple[Stroke, ...] = tuple(  # by onset
            Stroke(f"d{i}", event.drum_class, float(event.onset_s), float(event.velocity), event.articulation)
            for i, event in enumerate(inside)
        )
        self._found = replace(found, events=inside, separator=stems)
        self._stems, self._redrummer, self._settings = stems, redrummer, settings
        self._maker = KitMaker(redrummer, settings.sensitivity)
        self._sounds: list[StrokeSounds] = []  # those used last, the newest first; other settings' as well

    @classmethod
    def open(
        cls,
        recording: Recording,
        redrummer: Redrummer,
        settings: RenderSettings | None = None,
        *,
        progress: Progress | None = None,
    ) -> RecordingEditor:
        """Return the editor of a recording, which is transcribed; nothing else is computed yet.

        Args:
            recording: drum audio; there need be no drums in it.
            redrummer: the models.
            settings: what is detected (sensitivity), what plays strokes that are added (missing, kit_from), and
                all of a replay.
            progress: called with "transcribe" and the fraction done.

        Raises:
            AudioError: the recording cannot be decoded.
            CheckpointError: the preset has no separator.
        """
        settings = settings or RenderSettings()
        if redrummer.separator is None:
            raise CheckpointError(
                "the preset has no separator: nothing can be taken out of a recording",
                hint="use a preset with one: see `redrum presets list`",
            )
        found = redrummer.listen(recording, sensitivity=settings.sensitivity, progress=progress)
        assert found.stems is not None
        return cls(found.at_attacks(), OpenStems(found.stems, recording), redrummer, settings)

    def with_settings(self, settings: RenderSettings) -> RecordingEditor:
        """Return an editor of the recording that plays by other settings; what was computed is shared.

        What is detected stays, at the sensitivity that it was detected at.
        """
        settings = replace(settings, sensitivity=self._settings.sensitivity)
        if settings == self._settings:
            return self
        other = copy(self)
        other._settings = settings
        return other

    def prepare(self, detected: Sequence[Stroke] | None = None, progress: Progress | None = None) -> None:
        """Separate a recording that is not long, and cut its kit: else the first edits do it, and take longer.

        Args:
            detected: what is in the recording; None: what was detected.
            progress: called often, with "separate" or "cut kit" and the fraction done; it may edit the
                recording, and waits for no more than that edit needs.
        """
        report = progress or (lambda stage, fraction: None)
        sounds = self.sounds_of(self.detected if detected is None else detected)
        report("cut kit", 0.0)
        _ = sounds.cutter  # which every edit needs
        self._stems.separate(report)
        sounds.kit.prepare(report)

    def edited(self, strokes: Strokes) -> Edited:
        """Return the recording with its strokes edited; no sound is computed before it is read.

        Raises:
            RhythmError: two strokes have one id.
        """
        sounds = self.sounds_of(strokes.detected)
        return EditedRecording(sounds, in_order(strokes.played))

    def replayed(
        self,
        rhythm_strokes: Sequence[Stroke],
        length_s: float | None = None,
        detected: Sequence[Stroke] | None = None,
    ) -> Edited:
        """Return the recording's drums playing other strokes: the engine's take of them.

        Args:
            rhythm_strokes: what is played; those after the end are not.
            length_s: of the take; None: the recording's.
            detected: what is in the recording; None: what was detected.

        Raises:
            RhythmError: two strokes have one id, or there are more than anybody plays.
            CheckpointError: the preset lacks models of the latent engine that the settings select.
            SettingsError: the settings are not for several microphones.
        """
        if isinstance(self.recording, MicRecording):
            check_together(self._settings)
        length_s = length_s or self.recording.duration_s
        strokes = [stroke for stroke in in_order(rhythm_strokes) if stroke.onset_s < length_s]
        events = tuple(s.event() for s in strokes)
        rhythm = Rhythm(events, length_s, name=self.recording.name, is_placed=True)
        settings = replace(
            self._settings,
            align="seconds",
            length="rhythm",
            start_s=0.0,
            source_bpm=None,
            rhythm_bpm=None,
            bpm=None,
        )
        drums = self.sounds_of(self.detected if detected is None else detected).kit.replay_drums
        notes: tuple[str, ...] = ()
        if not drums.available:
            notes = tuple(nothing_plays(c) for c in CLASSES if any(s.drum_class == c for s in strokes))
        take = self._redrummer.play(drums, rhythm, settings) if strokes and drums.available else None
        return Replay(self.recording, strokes, take, length_s, notes)

    def result(self, session: EditSession) -> Edited:
        """Return what a session of this recording makes of it.

        Raises:
            RhythmError: there are more strokes in a replay than anybody plays.
        """
        if session.mode == "replay":
            return self.replayed(session.played, session.length_s, session.detected)
        return self.edited(Strokes(session.detected, session.played))

    def sounds_of(self, detected: Sequence[Stroke]) -> StrokeSounds:
        """Return the sounds of what is in the recording, as it was corrected."""
        strokes = in_order(detected)
        same = [own for own in self._sounds if own.detected == strokes]
        found = next((own for own in same if own.kit.is_of(self._settings)), None)
        if found is None and same:
            found = same[0].with_settings(self._settings)
        elif found is None:
            found = StrokeSounds(self._found, strokes, self._maker, self._settings)
        self._sounds[:] = [found, *(own for own in self._sounds if own is not found)][:_N_SOUNDS]
        return found
