"""How well the codec reproduces a recording: spectra, waveform, attacks, for its training kits and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.kits import SAMPLE_RATE
from training.data.pack import Pack
from training.data.split import Split
from training.score.measures import any_onset_f, high_energy_db, log_mel_distance_db, pre_echo_db, si_sdr_db
from training.score.scores import cells, class_counts, mean_scores, pooled
from training.score.texture import hiss_db, periodicity, pulses_db, speckle_db
from training.score.transcriber import make_recordings, sides
from training.train.losses import FRAME, SpectralLoss, envelope
from transform.codec import Codec
from transform.events import DrumEvent
from transform.transcriber import Transcriber

Audio = NDArray[np.float32]
Scores = dict[str, float | None]

_TEXTURE = {"periodicity": periodicity, "pulses_db": pulses_db, "speckle_db": speckle_db, "hiss_db": hiss_db}
_NEPER_DB = 20 / np.log(10)
_ATTACK_FRAMES = 20  # of 1 ms, from the onset on
_RISE_DB = 9.0  # of the level within 10 ms, that makes an attack in a recording of unknown onsets
_GAP = 60  # frames of 1 ms between two such attacks, at least


@dataclass(frozen=True)
class Original:
    """A recording that is to be coded and decoded."""

    audio: Audio  # (T,) at 44.1 kHz
    onsets_s: tuple[float, ...]
    name: str
    kind: str  # of the kit, or "loop"
    events: tuple[DrumEvent, ...] = ()  # what is played; none where that is unknown
    hardly_audible: tuple[DrumEvent, ...] = ()


def kit_originals(pack: Pack, split: Split, *, n: int, seed: int, length_s: float = 6.0) -> list[Original]:
    """Return synthetic recordings of whole kits of one side of the split that play that side's rhythms.

    Raises:
        PackError: the pack lacks kits or rhythms of that side.
    """
    return [
        Original(
            item.audio.cpu().numpy(),
            tuple(sorted({e.onset_s for e in item.events})),
            item.kit,
            item.kit_kind,
            item.events,
            item.hardly_audible,
        )
        for item in make_recordings(pack, split, n=n, seed=seed, length_s=length_s)
    ]


def loop_originals(pack: Pack, split: Split, *, n: int, length_s: float = 6.0) -> list[Original]:
    """Return up to `n` regions of the loops of one side, evenly spread, with the attacks that are found."""
    length = round(length_s * SAMPLE_RATE)
    regions = [
        (name, samples[start : start + length].cpu().numpy())
        for name, side, samples in pack.loops
        if side == split
        for start in range(0, max(1, len(samples) - length + 1), length)
    ]
    chosen = np.unique(np.linspace(0, len(regions) - 1, n).round().astype(int)) if regions else ()
    return [Original(audio, attacks_s(audio), name, "loop") for name, audio in (regions[k] for k in chosen)]


def attacks_s(audio: Audio) -> tuple[float, ...]:
    """Return when the level of audio (T,) rises by 9 dB within 10 ms, the steepest rise of each 60 ms."""
    level = 10 * np.log10(envelope(torch.from_numpy(audio)[None])[0].numpy() + 1e-7)
    padded = np.pad(level, (10, 0), mode="edge")
    rise = np.array([level[i] - padded[i : i + 10].max() for i in range(len(level))])
    found: list[int] = []
    for frame in np.argsort(-rise):
        if rise[frame] < _RISE_DB:
            break
        if all(abs(frame - other) >= _GAP for other in found):
            found.append(int(frame))
    return tuple(frame * FRAME / SAMPLE_RATE for frame in sorted(found))


def round_trip(codec: Codec, audio: Audio) -> Audio:
    """Return audio (T,) coded and decoded, without chance."""
    latents = codec.encode(torch.from_numpy(audio)[None]).mu
    return codec.decode(latents, len(audio))[0].numpy()


def compare(decoded: Audio, original: Original, spectra: SpectralLoss) -> Scores:
    """Return the measures of what became of a recording.

    - `mel_db`: log-mel distance of the benchmark (80 bands, one scale);
    - `scales_db`: the same of seven scales and band numbers, without matching the loudness;
    - `stft`: relative error plus difference of logarithms in nepers, mean of five windows;
    - `si_sdr_db`: scale-invariant signal-to-distortion ratio;
    - `attack`: correlation of the envelopes, 1-ms frames, of the 20 ms from an onset on, mean over onsets;
    - `pre_echo_db`: how much louder than in the original the 10 ms before an onset are, against what follows;
    - `averaged_db`: the log-mel distance of powers averaged over 5 bands and 3 frames, blind to speckle;
    - `high_db`, `high_bias_db`: the difference of the energy above 8 kHz, absolute and signed, + is brighter;
    - `periodicity`, `pulses_db`, `speckle_db`, `hiss_db`: see training/score/texture.py, the original's, too.
    """
    pair = [torch.from_numpy(np.ascontiguousarray(sound))[None] for sound in (decoded, original.audio)]
    pair = [torch.nn.functional.pad(sound, (0, -sound.shape[1] % 16)) for sound in pair]
    with torch.inference_mode():
        distances = spectra(*pair)
    high_db = high_energy_db(decoded, original.audio)
    echoes = [pre_echo_db(sound, original.onsets_s) for sound in (decoded, original.audio)]
    texture = {
        f"{whose}{name}": measure(sound)
        for name, measure in _TEXTURE.items()
        for whose, sound in (("", decoded), ("original_", original.audio))
    }
    return {
        "mel_db": log_mel_distance_db(decoded, original.audio),
        "averaged_db": log_mel_distance_db(decoded, original.audio, averaged=True),
        "scales_db": float(distances["mel"]) * _NEPER_DB,
        "stft": float(distances["stft"]),
        "si_sdr_db": si_sdr_db(decoded, original.audio),
        "attack": attack_correlation(decoded, original.audio, original.onsets_s),
        "pre_echo_db": echoes[0] - echoes[1] if echoes[0] is not None and echoes[1] is not None else None,
        "high_db": abs(high_db),
        "high_bias_db": high_db,
        **texture,
    }


def attack_correlation(decoded: Audio, audio: Audio, onsets_s: Sequence[float]) -> float | None:
    """Return the mean correlation of the envelopes after onsets; an envelope that stays level has 0."""
    found = []
    for onset_s in onsets_s:
        at = round(onset_s * SAMPLE_RATE)
        if at + _ATTACK_FRAMES * FRAME > len(audio):
            continue
        windows = [np.ascontiguousarray(s[at : at + _ATTACK_FRAMES * FRAME]) for s in (decoded, audio)]
        envelopes = [envelope(torch.from_numpy(window)[None])[0].numpy() for window in windows]
        ours, theirs = (np.sqrt(found.astype(np.float64)) for found in envelopes)
        if theirs.std() <= 1e-5:
            continue
        spread = ours.std() * theirs.std()
        product = ((ours - ours.mean()) * (theirs - theirs.mean())).mean()
        found.append(float(product / spread) if ours.std() > 1e-7 else 0.0)
    return float(np.mean(found)) if found else None


def transcription_scores(decoded: Audio, original: Original, transcriber: Transcriber) -> Scores:
    """Return how well the transcription of a coded recording agrees with the original's and with the truth.

    - `onset_f_20`: F of any onset within 20 ms, against the transcription of the original;
    - `class_f_50`: F by class within 50 ms, pooled, against what is played, None where that is unknown;
    - `class_f_50_before`: that of the original.
    """
    found, before = (
        transcriber.events(transcriber.infer(torch.from_numpy(audio))) for audio in (decoded, original.audio)
    )
    scores: Scores = {"onset_f_20": any_onset_f(before, found, window_s=0.02)}
    for name, events in (("class_f_50", found), ("class_f_50_before", before)):
        counts = class_counts(original.events, events, ignored=original.hardly_audible)
        scores[name] = pooled(counts).f_measure if original.events else None
    return scores


def codec_scores(
    codec: Codec, originals: Sequence[Original], transcriber: Transcriber | None = None
) -> list[Scores]:
    """Return the measures of each recording, those of its transcription with them if a transcriber is given."""
    spectra = SpectralLoss()
    scores = []
    for original in originals:
        decoded = round_trip(codec, original.audio)
        scores.append(compare(decoded, original, spectra))
        if transcriber is not None:
            scores[-1] |= transcription_scores(decoded, original, transcriber)
    return scores


def codec_table(
    codec: Codec, pack: Pack, transcriber: Transcriber, *, n: int, seed: int
) -> dict[str, dict[str, str]]:
    """Return a table: rows are training kits, unseen ones of either side, and loops; columns are measures.

    A cell is a mean over recordings and its 95 % interval (bootstrap). A side that the pack lacks has no row.
    """
    rows = {
        name: kit_originals(pack, split, n=n, seed=seed)
        for split, name in sides(pack)
        if pack.grooves_of(split)
    }
    loops: dict[Split, str] = {"train": "known loops", "test": "held-out loops"}
    for split, name in loops.items():
        if found := loop_originals(pack, split, n=n):
            rows[name] = found
    table = {}
    for name, originals in rows.items():
        scores = codec_scores(codec, originals, transcriber)
        table[name] = cells(mean_scores(scores, seed=seed), scores[0], 2)
    return table
