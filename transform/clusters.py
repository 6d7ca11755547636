"""Clusters of like strokes: the one-shots that a recording repeats, solved for together.

Loops made of samples play the same few sounds again and again. Strokes whose aligned waveforms correlate are a
cluster, whatever sounds along with them, and the sounds of all clusters are solved for together. Places, gains
and clusters of the strokes are revised, and the sounds solved for again. A cluster is trusted where its other
strokes predict each of them: that tells samples that repeat from a drum that is struck again.

Source: analysis by synthesis, as Torres, Peeters and Richard, "The Inverse Drum Machine" (2025), do with a
network; here it is a joint least squares (docs/method.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transform.audio import Recording
from transform.events import DrumEvent
from transform.joint_fit import PRE_S, Fit, Floats, Indices, Strokes, solved, windows, with_places
from transform.onsets import TOGETHER_S, first_attack, groups
from transform.signal import Samples

_MOST_STROKES, _MOST_S = 96, 30.0  # that are looked at, however long a recording is
_FEWEST = 3  # strokes of a cluster that is trusted
_REACH_S = 0.01  # how far strokes may lie from where they were transcribed
_BEGINNING_S = 0.05  # over which strokes are compared at first, in the bands of their classes
_BANDS_HZ = {
    "KD": (30.0, 400.0),
    "SD": (150.0, 8_000.0),
    "TT": (50.0, 1_000.0),
    "HH": (4_000.0, 16_000.0),
    "CY": (2_500.0, 16_000.0),
}
_ALIKE, _ALIKE_TOGETHER = 0.85, 0.3  # correlation of strokes that are one sound; where others sound along
_SHORT_S, _LONG_S = 0.3, 1.0  # lengths of the sounds, while strokes are revised and in the end
_N_SETTLING, _N_MOVING = 2, 2  # rounds in which strokes stay in their clusters, and in which they may move
_ITERATIONS, _LAST_ITERATIONS = 2, 8  # of conjugate gradients a round, and in the end
_EXPLAINED = 0.5  # proportion of what is around a stroke that a cluster must explain to have it
_SAME = 0.95  # correlation of the sounds of clusters that are one
_SAME_S = 0.02  # two strokes of a cluster are never closer
_SOFTEST, _SOFTEST_NEW = 0.04, 0.1  # gain of a stroke against the loudest of its cluster
_MOST_CHOICES = 12  # clusters, the largest, that strokes may move to
_HOPELESS, _TRUSTED, _TRUSTED_STROKE = 0.5, 0.9, 0.5  # proportions of strokes that the others predict
_TRUSTED_EVENLY = 0.7  # of their attacks, with all highs
_PREDICTED_S = 0.3  # over which strokes must be predicted
_COUPLED = 0.95  # correlation of the gains of clusters that nothing tells apart


@dataclass(frozen=True, eq=False)
class Repeat:
    """A stroke of a cluster."""

    attack: int  # in samples of the recording
    start: int  # where its cluster's sound begins
    cluster: int
    gain: float


class Clusters:
    """The sounds that a recording repeats, and the strokes that repeat them."""

    def __init__(
        self, sounds: Sequence[Samples], strokes: Sequence[Repeat], trusted: Mapping[DrumEvent, Repeat]
    ) -> None:
        """Take the sounds (C, T) of clusters, all strokes, and those of events whose cluster is trusted."""
        self._sounds, self._strokes, self._trusted = sounds, strokes, trusted
        struck: dict[tuple[int, str], list[str]] = {}
        for event, stroke in trusted.items():
            struck.setdefault((stroke.cluster, event.drum_class), []).append(event.articulation)
        self._articulations = {key: Counter(own).most_common(1)[0][0] for key, own in struck.items()}

    @classmethod
    def of_recording(cls, recording: Recording, events: Sequence[DrumEvent]) -> Clusters:
        """Return the clusters of a recording, none where nothing repeats.

        Args:
            recording: drum audio, any rate, any number of channels; of a long one a section is looked at.
            events: its transcription, sorted by onset.
        """
        own, rate = _section(events), recording.sample_rate
        if len(own) < _FEWEST:
            return cls([], [], {})
        start = max(0, round((own[0].onset_s - 2 * PRE_S) * rate))
        stop = min(recording.n_samples, round((own[-1].onset_s + _LONG_S) * rate))
        search = _Search(recording.mono(start, stop), rate, own, start)
        trusted = search.run()
        if not trusted.any():
            return cls([], [], {})
        sounds = search.sounds
        if recording.n_channels > 1:
            # Microphones are solved together: the same steps for each, so that their sum is that of the sum.
            n_at_once = recording.n_channels if recording.spread_s else 1
            none = [np.zeros((n_at_once, sound.shape[1]), np.float32) for sound in sounds]
            whole = recording.read(start, stop)
            by_channel = [
                solved(whole[c : c + n_at_once], search.strokes, none, rate, _LAST_ITERATIONS)
                for c in range(0, len(whole), n_at_once)
            ]
            sounds = [np.concatenate(own) for own in zip(*by_channel, strict=True)]
        # Of microphones the mix begins where most of them do; the sound, where the first one does.
        views = [recording.views(sound) for sound in sounds] if recording.spread_s else search.sounds
        strokes = search.repeats(start, views)
        by_event = zip(search.strokes.event, strokes, trusted, strict=True)
        return cls(sounds, strokes, {own[i]: stroke for i, stroke, is_sure in by_event if i >= 0 and is_sure})

    def stroke_of(self, event: DrumEvent) -> Repeat | None:
        """Return the stroke of an event, None where its cluster is not trusted."""
        return self._trusted.get(event)

    def events_like(self, stroke: Repeat) -> list[DrumEvent]:
        """Return the events of a stroke's cluster, where that is trusted."""
        return [event for event, other in self._trusted.items() if other.cluster == stroke.cluster]

    def articulation_of(self, event: DrumEvent) -> str:
        """Return how a stroke is struck: as most of its cluster are, where that is trusted."""
        stroke = self._trusted.get(event)
        return self._articulations[stroke.cluster, event.drum_class] if stroke else event.articulation

    def sound(self, stroke: Repeat, start: int, stop: int) -> Samples:
        """Return what a stroke alone sounds like, in samples [start, stop) of the recording, shape (C, T)."""
        return self._sum([stroke], start, stop)

    def others(self, stroke: Repeat, start: int, stop: int) -> Samples:
        """Return what all other strokes add up to, in samples [start, stop) of the recording, shape (C, T)."""
        return self._sum([other for other in self._strokes if other is not stroke], start, stop)

    def end(self, stroke: Repeat) -> int:
        """Return the sample of the recording up to which a stroke's sound is known."""
        return stroke.start + int(self._sounds[stroke.cluster].shape[1])

    def _sum(self, strokes: Iterable[Repeat], start: int, stop: int) -> Samples:
        out = np.zeros((len(self._sounds[0]), stop - start), dtype=np.float32)
        for stroke in strokes:
            sound = self._sounds[stroke.cluster]
            first, last = max(start, stroke.start), min(stop, stroke.start + sound.shape[1])
            if first < last:
                own = sound[:, first - stroke.start : last - stroke.start]
                out[:, first - start : last - start] += np.float32(stroke.gain) * own
        return out


def _section(events: Sequence[DrumEvent]) -> Sequence[DrumEvent]:
    """Return the events of the section of a recording that holds most classes, the earliest of those."""

    def beginning_at(first: int) -> Sequence[DrumEvent]:
        within = events[first : first + _MOST_STROKES]
        return [event for event in within if event.onset_s - within[0].onset_s <= _MOST_S]

    starts = range(0, max(1, len(events) - _MOST_STROKES // 2), _MOST_STROKES // 2)
    return max(map(beginning_at, starts), key=lambda own: len({event.drum_class for event in own}))


class _Search:
    """Finds the clusters of the strokes in a section of a recording, mono."""

    def __init__(self, mono: Samples, sample_rate: int, events: Sequence[DrumEvent], start: int) -> None:
        """Take the section, shape (T,), its events, and where it starts in the recording."""
        self._mono, self._rate, self._events = mono[None], sample_rate, events
        self._pre, self._reach = round(PRE_S * sample_rate), round(_REACH_S * sample_rate)
        self._onsets = _samples(events, sample_rate) - start
        self._spots = _samples([group[0] for group in groups(events)], sample_rate) - start
        self.strokes = self._first()
        length = self._pre + round(_SHORT_S * sample_rate)
        self.sounds = [np.zeros((1, length), np.float32) for _ in range(int(self.strokes.cluster.max()) + 1)]

    def run(self) -> NDArray[np.bool_]:
        """Find strokes and sounds, and return of each stroke whether its cluster is trusted, shape (N,)."""
        for number in range(_N_SETTLING + _N_MOVING):
            self._solve(_ITERATIONS)
            if number == _N_SETTLING and not (self._fit().predicted() > _HOPELESS).any():
                return np.zeros(len(self.strokes.place), dtype=bool)
            self._revise(moves=number >= _N_SETTLING)
            self._merge()
        longer = round((_LONG_S - _SHORT_S) * self._rate)
        self.sounds = [np.pad(sound, ((0, 0), (0, longer))) for sound in self.sounds]
        self._solve(_LAST_ITERATIONS)
        return self._trusted()

    def repeats(self, start: int, views: Sequence[Samples]) -> list[Repeat]:
        """Return the strokes.

        Args:
            start: the sample of the recording at which the section begins.
            views: of the clusters' sounds, in which their attacks are sought, each of shape (V, T).
        """
        attacks = [first_attack(sound, self._rate, self._pre) for sound in views]
        begins = (self.strokes.place + (start - self._pre)).tolist()
        return [
            Repeat(max(0, begin + attacks[cluster]), begin, int(cluster), float(gain))
            for begin, cluster, gain in zip(begins, self.strokes.cluster, self.strokes.gain, strict=True)
        ]

    def _first(self) -> Strokes:
        """Return the strokes, clustered by what they are like in the bands of their classes.

        The cleanest come first. What is struck together with others joins the cluster that it is most
        like; what is alone and like none begins one.
        """
        spectra, norms = self._beginnings()
        near = np.abs(self._onsets[:, None] - self._onsets) <= TOGETHER_S * self._rate
        threshold = np.where(near.sum(axis=1) == 1, _ALIKE, _ALIKE_TOGETHER)
        order = sorted(range(len(near)), key=lambda i: (-threshold[i], -self._events[i].velocity))
        leaders: list[int] = []
        place, gain, cluster = self._onsets.copy(), np.ones(len(near)), np.zeros(len(near), dtype=np.int64)
        for i in order:
            own = [k for k, j in enumerate(leaders) if self._events[j].drum_class == self._events[i].drum_class]
            alike = (
                self._lags(spectra[i] * spectra[[leaders[k] for k in own]].conj()) if own else np.zeros((1, 1))
            )
            best, lag = np.unravel_index(int(alike.argmax()), alike.shape)
            if alike[best, lag] >= threshold[i]:
                cluster[i] = own[best]
                gain[i] = alike[best, lag] * norms[i] / norms[leaders[own[best]]]
                place[i] += lag - self._reach
            else:
                cluster[i] = len(leaders)
                leaders.append(i)
        return Strokes(place, cluster, gain, np.arange(len(near)))

    def _beginnings(self) -> tuple[NDArray[np.complexfloating], Floats]:
        """Return spectra (N, bins) of the strokes' beginnings in their classes' bands, and their norms."""
        reach, length = self._reach, round(_BEGINNING_S * self._rate)
        size = 1 << (length + 3 * reach).bit_length()
        window = np.zeros(size, dtype=np.float32)
        window[: reach + length] = 1
        window[: reach // 2] = np.linspace(0, 1, reach // 2)
        window[reach + length // 2 : reach + length] = (
            np.cos(np.linspace(0, np.pi / 2, length - length // 2)) ** 2
        )
        hz = np.fft.rfftfreq(size, 1 / self._rate)
        spectra = np.fft.rfft(windows(self._mono[0], self._onsets - reach, size) * window)
        for spectrum, event in zip(spectra, self._events, strict=True):
            low, high = _BANDS_HZ[event.drum_class]
            spectrum[(hz < min(low, self._rate / 8)) | (hz > high)] = 0
        norms = np.linalg.norm(np.fft.irfft(spectra), axis=1) + 1e-9
        return spectra / norms[:, None], norms

    def _lags(self, products: NDArray[np.complexfloating]) -> Floats:
        """Return correlations at lags from -reach to reach of products of spectra, shape (N, lags)."""
        whole = np.fft.irfft(products)
        return np.concatenate((whole[:, -self._reach :], whole[:, : self._reach + 1]), axis=1)

    def _fit(self) -> Fit:
        return Fit(self._mono, self.strokes, self.sounds, self._rate)

    def _solve(self, n_iterations: int) -> None:
        self.sounds = solved(self._mono, self.strokes, self.sounds, self._rate, n_iterations)

    def _revise(self, *, moves: bool) -> None:
        """Place and weigh each stroke anew, given all others; moving to the cluster that explains it best.

        A stroke's own cluster explains as much of it as its other strokes predict. Where strokes move, what is
        left unexplained at an onset may become a stroke, too.
        """
        fit, old = self._fit(), self.strokes
        new = with_places(old, self._spots if moves else self._spots[:0])
        share = np.full(len(new.place), _EXPLAINED)
        share[: len(old.place)] = np.maximum(fit.predicted(), _EXPLAINED)
        loudest = np.zeros(len(self.sounds))
        np.maximum.at(loudest, old.cluster, old.gain)
        softest = np.where(new.cluster < 0, _SOFTEST_NEW, _SOFTEST)
        revised, around = new.of(np.arange(len(new.place))), fit.around(new)
        for k in self._choices():
            taken = np.abs(new.place[:, None] - old.place[old.cluster == k]).min(axis=1) < _SAME_S * self._rate
            tested = np.flatnonzero((new.cluster == k) | (moves & ~taken))
            shift, gain, explained = fit.best_of(k, around[tested])
            own = (new.cluster[tested] == k) & (revised.cluster[tested] == k)
            better = own | (
                (new.cluster[tested] != k) & (explained > share[tested]) & (gain > softest[tested] * loudest[k])
            )
            chosen = tested[better]
            share[tested[better & ~own]] = explained[better & ~own]
            revised.place[chosen] = new.place[chosen] + shift[better]
            revised.gain[chosen], revised.cluster[chosen] = gain[better], k
        is_stroke = revised.cluster >= 0
        is_stroke[is_stroke] = revised.gain[is_stroke] > _SOFTEST * loudest[revised.cluster[is_stroke]]
        self.strokes = self._without_doubles(revised.of(is_stroke))

    def _choices(self) -> list[int]:
        """Return the clusters that strokes may move to: the largest of those of several strokes."""
        counts = np.bincount(self.strokes.cluster, minlength=len(self.sounds))
        order = np.argsort(-counts, kind="stable")[:_MOST_CHOICES]
        return [int(k) for k in order if counts[k] > 1]

    def _without_doubles(self, strokes: Strokes) -> Strokes:
        """Return the strokes in order, of those of a cluster that are too close the loudest only."""
        retained: list[int] = []
        for i in np.argsort(-strokes.gain, kind="stable").tolist():
            near = np.abs(strokes.place[retained] - strokes.place[i]) < _SAME_S * self._rate
            if not (near & (strokes.cluster[retained] == strokes.cluster[i])).any():
                retained.append(i)
        return strokes.of(np.array(sorted(retained, key=lambda i: int(strokes.place[i])), dtype=np.int64))

    def _merge(self) -> None:
        """Join clusters whose sounds are alike, the smaller to the larger; what has no strokes left is gone."""
        fit, strokes = self._fit(), self.strokes
        counts = np.bincount(strokes.cluster, minlength=len(self.sounds))
        place, cluster, gain = strokes.place.copy(), strokes.cluster.copy(), strokes.gain.copy()
        for k in np.argsort(counts, kind="stable").tolist():
            larger = [j for j in self._choices() if j != k and counts[j] >= counts[k] > 0]
            alike = {j: fit.alike(k, j) for j in larger}
            j = max(alike, key=lambda j: alike[j][0], default=k)
            if j == k or alike[j][0] < _SAME:
                continue
            own = cluster == k
            place[own] += alike[j][1]
            gain[own] *= alike[j][2]
            cluster[own] = j
            counts[j], counts[k] = counts[j] + counts[k], 0
        used, cluster = np.unique(cluster, return_inverse=True)
        self.sounds = [self.sounds[k] for k in used]
        self.strokes = self._without_doubles(Strokes(place, cluster.astype(np.int64), gain, strokes.event))

    def _trusted(self) -> NDArray[np.bool_]:
        """Return of each stroke whether the others of its cluster predict it, as they do most of them."""
        strokes = self.strokes
        predicted = Fit(self._mono, strokes, self.sounds, self._rate, _PREDICTED_S).predicted()
        with_highs = self._fit().predicted(evenly=True)  # or a mean of strokes that differ would do
        trusted = np.zeros(len(predicted), dtype=bool)
        coupled = self._coupled()
        for k in range(len(self.sounds)):
            own = strokes.cluster == k
            if own.sum() < _FEWEST or coupled[k] or np.median(with_highs[own]) < _TRUSTED_EVENLY:
                continue
            if np.median(predicted[own]) >= _TRUSTED:
                trusted |= own & (predicted >= _TRUSTED_STROKE)
        return trusted

    def _coupled(self) -> NDArray[np.bool_]:
        """Return of each cluster whether another always sounds along, at a strength that nothing sets apart."""
        strokes = self.strokes
        spot = np.abs(strokes.place[:, None] - self._spots).argmin(axis=1)
        gains = np.zeros((len(self.sounds), len(self._spots)))
        gains[strokes.cluster, spot] = strokes.gain
        gains /= np.linalg.norm(gains, axis=1, keepdims=True)
        alike = gains @ gains.T - 2 * np.eye(len(gains))
        return np.asarray(alike.max(axis=1) > _COUPLED)


def _samples(events: Sequence[DrumEvent], sample_rate: int) -> Indices:
    return np.array([round(event.onset_s * sample_rate) for event in events], dtype=np.int64)
