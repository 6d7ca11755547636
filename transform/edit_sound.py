"""What an editor takes out of a recording and puts into it: the sounds of its strokes, each for itself.

What is taken out of a stroke's time is its class's stem, or the sound that the recording repeats there (see
transform/clusters.py), which leaves alone what sounds along. Where a stem is taken out, the stroke before it
rings on, as it decayed, and never louder than what was there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property

import numpy as np

from transform.audio import Progress, Recording
from transform.cleaning import (
    FADE_S,
    LEVEL_S,
    beginning_level,
    rms,
    with_drawn_out_tail,
    with_end,
    without_swells,
)
from transform.clusters import Repeat
from transform.edit_kit import KitMaker, StrokeKit
from transform.edit_patches import Patch, PeakGuard, PutIn, TakenOut
from transform.events import CLASSES, DrumEvent
from transform.hits import LEAD_S, LONGEST_S, CachedStems, StemCutter
from transform.listening import Listening
from transform.onsets import TOGETHER_S
from transform.separator import StemReader, Stems
from transform.settings import RenderSettings
from transform.signal import BlockCache, Samples, overlapping_blocks
from transform.strokes import Stroke
from transform.velocity import LEVEL_EXPONENT

_SAME_STROKE_S = 0.03  # a stroke that was detected as another class is no further away
_MOST_GAIN = 10 ** (9 / 20)  # by which a stroke's own sound is turned up, as in takes
_END_FADE_S = 0.02  # of what is taken out, where no other stroke follows
_LEVEL_BLOCK_S = 0.01
_SILENT = 1e-6  # level of a stroke whose stems hold nothing
# When a sound that repeats is taken out, not the stem (tests/bench/edit_removal.py): strokes that always fall
# together with others, or are always followed by them, are not told apart from these by repeating.
_FEWEST_ALIKE = 5  # strokes that repeat it
_MOST_ALONG = 0.7  # proportion of them that a class which repeats nothing falls together with
_MOST_SWELLS_DB = -25.0  # of what grows louder in it, against the sound
_CACHED_BYTES = 96 * 2**20  # of patches
_STEM_BYTES = 160 * 2**20  # more than a minute in stereo
_MASK_BYTES = 128 * 2**20  # of more than 20 minutes: where these are cached, stems are quick to read
_BLOCK_S = 4


def own_gain(before: Stroke, after: Stroke) -> float | None:
    """Return the gain that makes a stroke as strong as another; None: it is another sound, or too soft."""
    if (before.drum_class, before.articulation) != (after.drum_class, after.articulation):
        return None
    gain = (after.velocity / before.velocity) ** LEVEL_EXPONENT
    return gain if gain <= _MOST_GAIN else None


class OpenStems:
    """Stands for a separator that has separated a recording: whatever is detected in it has these stems."""

    def __init__(self, stems: StemReader, recording: Recording) -> None:
        self._masked = stems if isinstance(stems, Stems) else None
        if self._masked is not None:
            self._masked.cache_masks(_MASK_BYTES)
        self._stems, self._recording = CachedStems(stems, recording.sample_rate, _STEM_BYTES), recording

    def open(self, *_: object) -> StemReader:
        """Return the stems."""
        return self._stems

    def separate(self, report: Progress) -> None:
        """Separate as much of the recording as is cached then; `report` is called between blocks."""
        recording = self._recording
        if 4 * recording.n_samples * recording.n_channels * len(CLASSES) <= _STEM_BYTES:
            for block in overlapping_blocks(recording.n_samples, _BLOCK_S * recording.sample_rate):
                report("separate", block.start / recording.n_samples)
                self._stems.read(block.start, block.stop)
        elif self._masked is not None:
            self._masked.separate(report)


class StrokeSounds:
    """The sounds of the strokes of a recording, as they were detected or corrected."""

    def __init__(
        self, detected: Listening, strokes: tuple[Stroke, ...], maker: KitMaker, settings: RenderSettings
    ) -> None:
        """Take strokes into use; nothing is cut before it is needed.

        Args:
            detected: what was detected by itself, at its attacks.
            strokes: what is in the recording, by onset.
            maker: makes a kit of the hits.
            settings: of the kit.
        """
        recording = detected.recording
        self.recording, self.rate, self.detected = recording, recording.sample_rate, strokes
        self.strokes = tuple(s for s in strokes if round(s.onset_s * self.rate) < recording.n_samples)
        self.index = {stroke.id: k for k, stroke in enumerate(self.strokes)}
        self.events, self.classes = _as_detected(self.strokes, detected.events)
        self._lead = round(LEAD_S * self.rate)
        self.attacks = [self.sample(stroke) for stroke in self.strokes]
        self._detected = detected
        self._by_class = {
            c: [(a, k) for k, a in enumerate(self.attacks) if c in self.classes[k]] for c in CLASSES
        }
        self._repeats: dict[int, Repeat | None] = {}
        self._stems_of: dict[int, frozenset[str]] = {}
        self._sounds_itself: dict[int, bool] = {}
        self._patches: BlockCache[Patch, Samples] = BlockCache(n_bytes=_CACHED_BYTES)
        self.guard = PeakGuard(recording, self.sound)
        self.kit = StrokeKit(maker, self.listening, lambda: self.cutter, settings)

    def with_settings(self, settings: RenderSettings) -> StrokeSounds:
        """Return the sounds of the same strokes with the kit of other settings; what was cut is shared."""
        _ = self.cutter
        other = copy(self)
        other._patches = BlockCache(n_bytes=_CACHED_BYTES)
        other.guard = PeakGuard(self.recording, other.sound)
        other.kit = self.kit.with_settings(settings)
        return other

    def sample(self, stroke: Stroke) -> int:
        """Return the sample at which a stroke begins."""
        return round(stroke.onset_s * self.rate)

    @cached_property
    def listening(self) -> Listening:
        """The strokes as what is detected in the recording."""
        return replace(self._detected, events=self.events)

    @cached_property
    def cutter(self) -> StemCutter:
        """What cuts the strokes out of the recording and its stems."""
        assert self.listening.stems is not None
        return StemCutter(self.recording, self.events, self.listening.stems, at_attacks=True)

    # Where strokes are

    def start(self, attack: int) -> int:
        """Return where the touched region of a stroke begins."""
        return max(0, attack - self._lead)

    def stop(self, k: int) -> int:
        """Return where a detected stroke ends: where its class is struck again, or has rung out."""
        longest = max(LONGEST_S[c] for c in self.classes[k])
        return min(self.attacks[k] + round(longest * self.rate), self.recording.n_samples, self._again(k))

    def _again(self, k: int) -> int:
        """Return the next attack of a stroke's classes; past the recording's end where there is none."""
        later = [self.recording.n_samples + 1]
        for c in self.classes[k]:
            own = self._by_class[c]
            following = bisect_right(own, (self.attacks[k], len(self.strokes)))
            later += [attack for attack, _ in own[following : following + 1]]
        return min(later)

    def ringing_into(self, k: int) -> Iterator[int]:
        """Yield the earlier strokes of a stroke's class that may ring into it, the latest first."""
        own = self._by_class[self.strokes[k].drum_class]
        longest = round(LONGEST_S[self.strokes[k].drum_class] * self.rate)
        first = bisect_left(own, (self.attacks[k] - longest, -1))
        last = bisect_left(own, (self.attacks[k], -1))
        for _, j in reversed(own[first:last]):
            yield j

    # What they sound like

    def sound(self, patch: Patch) -> Samples:
        """Return what a patch adds to the recording, shape (C, stop - start), those used last cached."""
        return self._patches.get(patch, self._computed)

    def _computed(self, patch: Patch) -> Samples:
        return self._taken_out(patch) if isinstance(patch, TakenOut) else self._put_in(patch)

    def _taken_out(self, patch: TakenOut) -> Samples:
        k, gains = patch.index, dict(patch.before)
        own, before = self._apart(k, patch.start, patch.stop, gains)
        out = np.float32(patch.gain - 1) * own
        for j, rings in before.items():
            out += np.float32(gains[j] - 1) * rings
        return out * self._weights(k, patch.start, patch.stop)

    def _apart(
        self, k: int, start: int, stop: int, among: Collection[int] = ()
    ) -> tuple[Samples, dict[int, Samples]]:
        """Return what a stroke is in samples [start, stop) of the recording, and what rings there of others.

        Args:
            k: the stroke.
            start: where it begins, with its lead.
            stop: a later sample.
            among: which strokes of its class before it are returned where they ring into it.
        """
        if (repeat := self.repeat(k)) is not None:
            clusters = self.cutter.clusters
            rings = {j: self.repeat(j) for j in among}
            before = {j: clusters.sound(own, start, stop) for j, own in rings.items() if own is not None}
            return clusters.sound(repeat, start, stop), before
        own = self._stem(k, start, stop)
        last = next(self.ringing_into(k), None)
        rings_on = self._ringing(last, k, own)  # of the stroke before, had this one not been
        return own - rings_on, {last: rings_on} if last is not None and last in among else {}

    def _weights(self, k: int, start: int, stop: int) -> Samples:
        """Return how far a stroke is taken out, (T,): an end and the next one's beginning add up to 1."""
        place = np.arange(start, stop, dtype=np.float64)
        rise = (place - (self.attacks[k] - self._lead)) / max(1, self._lead)
        if (end := self._next_in_stems(k, stop)) is not None:
            fall = (end - place) / max(1, self._lead)
        elif stop < self.recording.n_samples:
            fall = (stop - place) / round(_END_FADE_S * self.rate)
        else:
            fall = np.ones(len(place))
        return np.asarray(np.clip(np.minimum(rise, fall), 0, 1), dtype=np.float32)

    def _next_in_stems(self, k: int, stop: int) -> int | None:
        """Return where the next stroke in its stems cuts a stroke, at `stop` at the latest; None: nowhere."""
        first = bisect_right(self.attacks, self.attacks[k] + round(TOGETHER_S * self.rate))
        for j in range(first, bisect_left(self.attacks, stop)):
            if self.repeat(k) is None and not self.stems_of(k).isdisjoint(self.stems_of(j)):
                return self.attacks[j]
        return stop if self._again(k) == stop else None

    def stems_of(self, k: int) -> frozenset[str]:
        """Return the classes whose stems hold a stroke.

        Where the separator disagrees with what was detected, its class's stem holds none of it: it is in the
        stems that grow louder there, of classes that nothing is struck of.
        """
        if k not in self._stems_of:
            self._stems_of[k] = self.classes[k] | self._elsewhere(k)
        return self._stems_of[k]

    def _elsewhere(self, k: int) -> frozenset[str]:
        """Return the classes in whose stems a stroke is that its own stems do not hold."""
        together = round(TOGETHER_S * self.rate)
        attack = self.attacks[k]
        near = slice(
            bisect_left(self.attacks, attack - together), bisect_right(self.attacks, attack + together)
        )
        struck = frozenset().union(*self.classes[near])
        following = self.attacks[near.stop : near.stop + 1] or [self.recording.n_samples]
        return self.cutter.rising(attack, following[0], self.classes[k], set(CLASSES) - struck)

    def _stem(self, k: int, start: int, stop: int) -> Samples:
        """Return what the stems of a stroke hold."""
        stems = self.cutter.stems.read(start, stop, sorted(self.stems_of(k)))
        return np.asarray(stems.sum(axis=0))

    def lane(self, patch: Patch) -> str:
        """Return the class in whose stem a patch is: of what is taken out, the one that holds most of it."""
        if isinstance(patch, PutIn):
            return patch.stroke.drum_class
        found = sorted(self.stems_of(patch.index))
        if len(found) == 1:
            return found[0]
        stems = self.cutter.stems.read(self.attacks[patch.index], patch.stop, found)
        return found[int(np.argmax(np.square(stems).sum(axis=(1, 2))))]

    def repeat(self, k: int) -> Repeat | None:
        """Return the sound that a stroke repeats, where that holds nothing else."""
        if k not in self._repeats:
            self._repeats[k] = self._found_repeat(k)
        return self._repeats[k]

    def _found_repeat(self, k: int) -> Repeat | None:
        if self.events[k].flam_ms or len(self.classes[k]) > 1:
            return None
        clusters = self.cutter.clusters
        if (repeat := clusters.stroke_of(self.events[k])) is None:
            return None
        like = clusters.events_like(repeat)
        if len(like) < _FEWEST_ALIKE:
            return None
        for others in (self._unexplained(c) for c in CLASSES if c != self.strokes[k].drum_class):
            n_along = sum(_has_near(others, event.onset_s, TOGETHER_S) for event in like)
            if n_along > _MOST_ALONG * len(like):
                return None
        sound = clusters.sound(repeat, self.start(self.attacks[k]), self.stop(k))
        swells = sound - without_swells(sound, self.rate, self._lead)
        return repeat if rms(swells) <= 10 ** (_MOST_SWELLS_DB / 20) * rms(sound) else None

    def _unexplained(self, drum_class: str) -> list[float]:
        """Return the onsets of a class's strokes that repeat no sound of their own."""
        events = (self.events[k] for _, k in self._by_class[drum_class])
        return [event.onset_s for event in events if self.cutter.clusters.stroke_of(event) is None]

    def _ringing(self, before: int | None, k: int, own: Samples) -> Samples:
        """Return what of a stroke's stem the stroke before it would be, had it rung on.

        Args:
            before: the stroke before.
            k: the stroke.
            own: the stem from where the stroke is taken out.
        """
        none, start = np.zeros_like(own), self.start(self.attacks[k])
        if before is None or (begin := self.start(self.attacks[before])) >= start:
            return none
        if (repeat := self.repeat(before)) is not None:
            rings = self.cutter.clusters.sound(repeat, start, start + own.shape[1])
        else:
            sound = self._stem(before, begin, start)
            level = beginning_level(sound[:, self.attacks[before] - begin :], self.rate)
            if level <= _SILENT:
                return none
            longest_s = LONGEST_S[self.strokes[before].drum_class]
            drawn_out = with_drawn_out_tail(sound, self.rate, level, longest_s)[:, sound.shape[1] :]
            rings = none
            rings[:, : drawn_out.shape[1]] = _ended(drawn_out, self.rate)[:, : own.shape[1]]
        return _never_louder(rings, own, self.rate)

    def own_sound(self, k: int) -> Samples:
        """Return what a detected stroke sounds like alone, with its lead: what is taken out of the recording.

        Where it was cut in mid-ring it rings on, as hits do.
        """
        attack, longest_s = self.attacks[k], LONGEST_S[self.strokes[k].drum_class]
        if (repeat := self.repeat(k)) is not None:
            stop = min(self.cutter.clusters.end(repeat), attack + round(longest_s * self.rate))
        else:
            stop = self._next_in_stems(k, self.stop(k)) or self.stop(k)
        start = attack - self._lead
        begun = self._lead + round(self.events[k].flam_ms / 1000 * self.rate)
        sound = without_swells(self._apart(k, start, stop)[0], self.rate, begun)
        if stop - attack < round(LEVEL_S * self.rate):
            sound = _ended(sound, self.rate)  # of a beginning alone nobody knows how it would ring on
        else:
            sound = with_end(sound, self.rate, self._lead, longest_s)
        sound[:, : self._lead] *= self._weights(k, start, attack)
        return sound

    def _put_in(self, patch: PutIn) -> Samples:
        out = np.zeros((self.recording.n_channels, patch.stop - patch.start), dtype=np.float32)
        played = self.played(patch)
        if played is None:
            return out
        begin = self.sample(patch.stroke) - self._lead
        sound = played[:, patch.start - begin : patch.stop - begin].copy()
        if played.shape[1] > patch.stop - begin:
            sound = _ended(sound, self.rate)  # cut by the class's next stroke, or by the recording's end
        out[:, : sound.shape[1]] = np.float32(patch.gain) * sound
        return out

    def played(self, patch: PutIn) -> Samples | None:
        """Return what plays a stroke that is put in, with its lead, to its end; None where nothing can."""
        if (own := self._own_of(patch)) is not None:
            k, gain = own
            return np.float32(gain) * self.own_sound(k)
        placement = self.kit.placement(patch.stroke)
        return np.float32(placement.gain) * self.kit.bank.sound(placement.hit) if placement else None

    def _own_of(self, patch: PutIn) -> tuple[int, float] | None:
        """Return which detected stroke's own sound plays a stroke, and its gain; None where the kit does."""
        if (k := patch.origin) is None or (gain := own_gain(self.strokes[k], patch.stroke)) is None:
            return None
        if k not in self._sounds_itself:
            beginning = self.own_sound(k)[:, self._lead :]
            self._sounds_itself[k] = beginning_level(beginning, self.rate) > _SILENT
        return (k, gain) if self._sounds_itself[k] else None

    def notes(self, patches: Iterable[Patch]) -> list[str]:
        """Return a sentence for each way in which what the kit plays is not as requested."""
        added = (patch for patch in patches if isinstance(patch, PutIn) and self._own_of(patch) is None)
        return self.kit.notes(patch.stroke for patch in added)


def _as_detected(
    strokes: Sequence[Stroke], found: Sequence[DrumEvent]
) -> tuple[list[DrumEvent], list[frozenset[str]]]:
    """Return strokes as events, and the classes whose stems hold each of them.

    A stroke at which only another class was detected is in the stem of that class, too.

    Args:
        strokes: by onset.
        found: what was detected by itself, by onset.
    """
    original = {(event.onset_s, event.drum_class): event for event in found}
    claimed = {(stroke.onset_s, stroke.drum_class) for stroke in strokes}
    onsets = [event.onset_s for event in found]
    events, classes = [], []
    for stroke in strokes:
        event, own = stroke.event(), {stroke.drum_class}
        if (same := original.get((stroke.onset_s, stroke.drum_class))) is not None:
            event = replace(event, flam_ms=same.flam_ms)
        else:
            near = slice(
                bisect_left(onsets, stroke.onset_s - _SAME_STROKE_S),
                bisect_right(onsets, stroke.onset_s + _SAME_STROKE_S),
            )
            own |= {e.drum_class for e in found[near] if (e.onset_s, e.drum_class) not in claimed}
        events.append(event)
        classes.append(frozenset(own))
    return events, classes


def _has_near(onsets_s: Sequence[float], onset_s: float, within_s: float) -> bool:
    """Tell whether one of some onsets, in order, is near another."""
    return bisect_left(onsets_s, onset_s - within_s) < bisect_right(onsets_s, onset_s + within_s)


def _ended(sound: Samples, sample_rate: int) -> Samples:
    """Return a sound with its end faded out."""
    fade = min(sound.shape[1], round(FADE_S * sample_rate))
    if fade:
        sound[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return sound


def _never_louder(sound: Samples, than: Samples, sample_rate: int) -> Samples:
    """Return a sound turned down wherever its level is above that of another, both of shape (C, T)."""
    size = max(1, round(_LEVEL_BLOCK_S * sample_rate))
    n_blocks = -(-sound.shape[1] // size)
    padded = (np.pad(x, ((0, 0), (0, n_blocks * size - x.shape[1]))) for x in (sound, than))
    own, other = (np.square(x).reshape(len(x), n_blocks, size).sum(axis=(0, 2)) for x in padded)
    gain = np.sqrt(np.minimum(1.0, other / np.maximum(own, 1e-20)))
    middles = (np.arange(n_blocks) + 0.5) * size
    return np.asarray(sound * np.interp(np.arange(sound.shape[1]), middles, gain).astype(np.float32))
