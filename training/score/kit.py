"""What fine-tuning on a kit gained: held-out hits, coded and redrummed, before and after."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from training.data.kits import SAMPLE_RATE, Kit, OneShot
from training.data.rhythms import Groove
from training.data.synthesis import SegmentRecipe, Synthesiser, pseudo_target, render_batch
from training.score.codec import round_trip
from training.score.measures import Audio, any_onset_f, log_mel_distance_db
from training.score.scores import class_counts, interval, pooled
from training.score.transcriber import as_events, whole_kits
from transform.audio import Recording
from transform.codec import Codec
from transform.engine import Redrummer
from transform.errors import AudioError
from transform.events import CLASSES, Rhythm, nearest_class
from transform.latent import LatentModel
from transform.rhythm_transformer import RhythmNet
from transform.settings import RenderSettings
from transform.transcriber import Transcriber

_log = logging.getLogger(__name__)
_LENGTH_S = 4.0
_FEWEST_STROKES = 8
_HELD_OUT = 1 / 6  # of a kit's hits


@dataclass(frozen=True)
class KitGain:
    """Distances in dB before and after, and how much lower they are (0..1), with its 95 % interval."""

    before: float
    after: float
    lower_by: float
    low: float
    high: float
    n: int  # recordings

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> KitGain:
        """Return the gain of paired distances; the interval is a bootstrap over the pairs."""
        pairs = np.array([before, after], dtype=np.float64)
        drawn = np.random.default_rng(seed).integers(pairs.shape[1], size=(2000, pairs.shape[1]))
        resampled = 1 - pairs[1][drawn].mean(axis=1) / pairs[0][drawn].mean(axis=1)
        old, new = map(float, pairs.mean(axis=1))
        return cls(old, new, 1 - new / old, *interval(resampled), pairs.shape[1])

    def cells(self) -> dict[str, str]:
        """Return the row of a table."""
        change, low, high = (0.0 - part for part in (self.lower_by, self.high, self.low))
        changed = f"{change:+.0%} ({low:+.0%} to {high:+.0%})"
        return {"before": f"{self.before:.2f} dB", "after": f"{self.after:.2f} dB", "change": changed}


def split_hits(kit: Kit, seed: int) -> tuple[Kit, Kit | None]:
    """Return a kit without its held-out hits, and those: about a sixth, of voices that have several.

    They are layers between others where there are any, of as many voices as possible. None are held out of a
    kit whose voices have one hit each.
    """
    rng = np.random.default_rng(seed)
    voices = [hits for c in CLASSES for hits in kit.voices(c).values() if len(hits) > 1]
    order = sorted(rng.permutation(len(voices)).tolist(), key=lambda i: -len(voices[i]))
    held_out: list[OneShot] = []
    n_target = max(1, round(_HELD_OUT * len(kit.one_shots)))
    for turn in range(max(map(len, voices), default=0)):
        for i in order:
            inner = voices[i][1:-1] or voices[i][:1]
            if turn < len(inner) and len(held_out) < n_target:
                held_out.append(inner[(len(inner) // 2 + turn) % len(inner)])
    if not held_out:
        return kit, None
    left = tuple(shot for shot in kit.one_shots if not any(shot is other for other in held_out))
    return replace(kit, one_shots=left), replace(kit, one_shots=tuple(held_out))


def with_held_out(left: Kit, held_out: Kit) -> Kit:
    """Return a kit in which hits that were held out play instead of the others of their voices."""
    voices = {(shot.drum_class, shot.articulation) for shot in held_out.one_shots}
    others = (shot for shot in left.one_shots if (shot.drum_class, shot.articulation) not in voices)
    return replace(left, one_shots=(*held_out.one_shots, *others))


def filled(kit: Kit) -> Kit:
    """Return a kit in which the nearest class that it has is the stand-in for each that it lacks."""
    own = {shot.drum_class for shot in kit.one_shots}
    lent = [
        replace(shot, drum_class=drum_class, articulation="")
        for drum_class in CLASSES
        if drum_class not in own
        for shot in kit.one_shots
        if shot.drum_class == nearest_class(drum_class, own)
    ]
    return replace(kit, one_shots=(*kit.one_shots, *lent))


def some_layers(kit: Kit, rng: np.random.Generator) -> Kit:
    """Return a kit with one or two hits of each voice, so that all are drawn alike, not the extremes most."""
    chosen: list[OneShot] = []
    for drum_class in CLASSES:
        for hits in kit.voices(drum_class).values():
            n = min(len(hits), int(rng.integers(1, 3)))
            chosen += [hits[i] for i in rng.choice(len(hits), n, replace=False)]
    return replace(kit, one_shots=tuple(chosen))


def played(kit: Kit, grooves: Sequence[Groove], *, n: int, seed: int) -> list[SegmentRecipe]:
    """Return recipes of a kit, as it is and without any room, that plays rhythms as they were played."""
    rng = np.random.default_rng(seed)
    settings, whole = replace(whole_kits(_LENGTH_S), effects=0.0), filled(kit)
    recipes: list[SegmentRecipe] = []
    for _ in range(100 * n):
        maker = Synthesiser([some_layers(whole, rng)], grooves, settings, pool=None)
        recipe = maker.draw(1, rng)[0]
        if len(recipe.strokes) >= _FEWEST_STROKES:
            recipes.append(recipe)
        if len(recipes) == n:
            break
    return recipes


def rendered(recipes: Sequence[SegmentRecipe]) -> list[Audio]:
    """Return the sound (T,) of each recipe."""
    return [render_batch([recipe])[0].cpu().numpy() for recipe in recipes]


def coded_distances(codec: Codec, originals: Sequence[Audio]) -> list[float]:
    """Return by how many dB recordings differ from what the codec makes of them, as in the benchmark."""
    return [log_mel_distance_db(round_trip(codec, audio), audio) for audio in originals]


def redrummed(
    codec: Codec, net: RhythmNet, transcriber: Transcriber, recipes: Sequence[SegmentRecipe], device: str
) -> list[tuple[Audio, SegmentRecipe]]:
    """Return renders (T,) of the latent engine, and the kit itself playing the same rhythms.

    Recording i plays the exact rhythm of recording i + 1. One in which no drums are detected is left out.
    """
    model = LatentModel(codec, net, device=device)
    redrummer = Redrummer(transcriber, load_latent=lambda: model)
    settings = RenderSettings(engine="latent", length=_LENGTH_S, align="seconds")
    made = []
    for source, target in zip(recipes, (*recipes[1:], recipes[0]), strict=True):
        oracle = pseudo_target(source, target)
        events = sorted(as_events(target, np.ones(len(target.strokes), dtype=bool)), key=lambda e: e.onset_s)
        recording = Recording.from_samples(rendered([source])[0], SAMPLE_RATE, "kit")
        try:
            take = redrummer.redrum(recording, Rhythm(tuple(events), _LENGTH_S, None, "rhythm"), settings)
        except AudioError as err:
            _log.info("a render is left out: %s", err)
            continue
        made.append((take.read(0, take.n_samples)[0], oracle))
    return made


def latent_distances(
    codec: Codec, net: RhythmNet, transcriber: Transcriber, recipes: Sequence[SegmentRecipe], device: str
) -> list[float]:
    """Return by how many dB the renders of `redrummed` differ from the kit itself."""
    made = redrummed(codec, net, transcriber, recipes, device)
    return [log_mel_distance_db(audio, rendered([oracle])[0]) for audio, oracle in made]


def coded_transcriptions(
    codec: Codec, transcriber: Transcriber, originals: Sequence[Audio]
) -> tuple[float, float]:
    """Return how well transcriptions of coded recordings agree with those of the recordings.

    Mean F of onsets of any class within 20 ms, and of classes within 50 ms, pooled.
    """
    onsets, classes = [], []
    for audio in originals:
        before, after = (
            transcriber.events(transcriber.infer(torch.from_numpy(sound)))
            for sound in (audio, round_trip(codec, audio))
        )
        onsets.append(any_onset_f(before, after, window_s=0.02))
        classes.append(pooled(class_counts(before, after)).f_measure)
    return float(np.mean(onsets)), float(np.mean(classes))
