"""Drum separation by non-negative matrix factorisation: the baselines that the separator is measured against.

The factorisation is that of transform/nmf.py. Levels are square roots of magnitudes of the spectra of
transform/stft.py, pooled into bands: single bins at the low end, geometric above. What a class explains of a
band is a proportion of the sound there, so that the stems add up to the recording.

Both baselines read whole recordings at 44.1 kHz. Their settings are the best of those tried on 24 recordings of
the validation side; scores that are given are mean SI-SDR there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.kits import SAMPLE_RATE, Kit, OneShot
from training.data.pack import PackError
from transform.audio import Recording, Samples
from transform.events import CLASS_NAMES, CLASSES
from transform.features import DrumFeatures, FeatureSettings
from transform.nmf import (
    COMPRESSION,
    EXPONENT,
    active_components,
    explained,
    factorised,
    learn_templates,
    levels_of,
    normalised,
)
from transform.separator import interpolation
from transform.stft import N_HOPS, analyse, fft_size, synthesise
from transform.transcriber import Activations

_HOP = 441
_N_BANDS = 160
_N_SINGLE = 24  # of these are bins of their own, 21.5 Hz each
_MARGIN = 2  # frames before the first that is centred on a sample, and after the last
_EDGE = (N_HOPS // 2 + _MARGIN) * _HOP
_LEARNED_SAMPLES = 22_050  # of a one-shot, from which templates are learned
# Frames of it: more of its beginning than of its tail.
_LEARNED_FRAMES = (2, 3, 4, 5, 6, 8, 10, 14, 18, 26, 34, 50)
_N_TEMPLATES = 6  # of each class, where they are fixed
_N_FIXED = 20  # iterations (60: as good)
_TINY = 1e-9


class ArrayStems:
    """Stems in memory, read as those of a separator are."""

    def __init__(self, stems: Samples) -> None:
        """Take stems of shape (5, C, T)."""
        self._stems = stems

    def read(self, start: int, stop: int, classes: Sequence[str] = CLASSES) -> Samples:
        """Return stems of samples [start, stop), shape (N, C, stop - start), zeros outside."""
        stems = self._stems[[CLASSES.index(drum_class) for drum_class in classes]]
        out = np.zeros((*stems.shape[:2], stop - start), dtype=np.float32)
        first, last = max(0, start), min(stems.shape[2], stop)
        if first < last:
            out[..., first - start : last - start] = stems[..., first:last]
        return out


def spectra_of(audio: Tensor) -> Tensor:
    """Return spectra (..., F, bins) of audio (..., T), F = T // 441 + 5.

    Frame f is centred on sample (f - 2) * 441: all that touch the recording are there.
    """
    n_frames = audio.shape[-1] // _HOP + 1 + 2 * _MARGIN
    padding = _HOP * (n_frames + N_HOPS - 1) - _EDGE - audio.shape[-1]
    return analyse(functional.pad(audio, (_EDGE, padding)), _HOP)


def masked_stems(audio: Samples, estimates: Tensor, *, exponent: float) -> ArrayStems:
    """Return a recording's stems, masked in proportion to estimates of the classes; they add up to it.

    Args:
        audio: shape (C, T).
        estimates: how much of each class there is, shape (5, F, bins), frames as in `spectra_of`.
        exponent: of the estimates; 2 is the Wiener filter where they are magnitudes.
    """
    sound = torch.from_numpy(audio)
    weights = estimates.pow(exponent) + _TINY**exponent
    masks = weights / weights.sum(dim=0)
    stems = synthesise(spectra_of(sound) * masks[:, None], _HOP)[..., _EDGE : _EDGE + audio.shape[1]]
    return ArrayStems(stems.numpy())


@cache
def _pooling() -> Tensor:
    """Return the matrix (K, bins) that interpolates values of bands at bins."""
    n_bins = fft_size(_HOP) // 2 + 1
    single = np.arange(_N_SINGLE, dtype=np.float64)
    middles = np.concatenate((single, np.geomspace(_N_SINGLE, n_bins - 1, _N_BANDS - _N_SINGLE)))
    return interpolation(np.interp(np.arange(n_bins), middles, np.arange(_N_BANDS)), _N_BANDS)


class InformedNmf:
    """NMF whose activations begin where each class is transcribed; templates are learned from the recording.

    Convolutive templates (NMFD) of 0.3 s did no better on the validation side: 5.4 dB against 5.7.
    """

    def __init__(self, kits: Sequence[Kit]) -> None:
        self._prior = class_templates(kits, 1, _in_bands).pow(COMPRESSION)

    def open(self, recording: Recording, activations: Activations) -> ArrayStems:
        """Return the stems of a recording, given its transcription's activations."""
        onsets = functional.pad(torch.from_numpy(activations.probability), (_MARGIN, _MARGIN))
        active = active_components(onsets, fps=SAMPLE_RATE / _HOP)
        return _stems(recording, *learn_templates(_levels(recording), active, self._prior))


class TemplateNmf:
    """NMF with templates of each class, learned from the one-shots of kits, that needs no transcription.

    On the validation side it had 0.7 dB; 0.1 with 3 templates a class, 0.4 with 12 or 24, 0.4 where the
    recording adapts the templates, 0.5 with the divergence of Itakura and Saito, -0.5 on magnitudes.
    """

    def __init__(self, kits: Sequence[Kit]) -> None:
        self._templates = normalised(class_templates(kits, _N_TEMPLATES, _in_bands).pow(COMPRESSION))

    def open(self, recording: Recording, activations: Activations) -> ArrayStems:
        """Return the stems of a recording; nothing is made of the activations."""
        levels = _levels(recording)
        active = levels.mean(dim=1, keepdim=True).expand(-1, len(self._templates))
        found = factorised(levels, active, self._templates, n_iterations=_N_FIXED, is_adaptive=False)
        return _stems(recording, *found)


def class_templates(
    kits: Sequence[Kit], n_components: int, magnitudes_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return templates of each class, shape (5 * R, K): the factors of its one-shots, each equally loud.

    Args:
        kits: whose one-shots.
        n_components: of each class, R.
        magnitudes_of: returns the magnitudes (F, K) of audio (1, T) that peaks at 0.5, 100 frames a second.

    Raises:
        PackError: the kits lack a class.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for drum_class in CLASSES:
        spectra = [
            _chosen_frames(magnitudes_of(_peaking_at_half(shot)))
            for kit in kits
            for shots in kit.voices(drum_class).values()
            for shot in (shots[0], shots[-1])[: len(shots)]
        ]
        if not spectra:
            raise PackError(
                f"the pack holds no {CLASS_NAMES[drum_class]} to learn templates from",
                hint="pack the train side too",
            )
        magnitudes = torch.cat(spectra)
        templates = normalised(0.1 + torch.rand(n_components, magnitudes.shape[1], generator=generator))
        active = torch.rand(len(magnitudes), n_components, generator=generator)
        active = active * magnitudes.sum(dim=1, keepdim=True)
        found.append(factorised(magnitudes, active, templates, n_iterations=60)[1])
    return torch.cat(found)


def feature_templates(kits: Sequence[Kit], settings: FeatureSettings) -> Tensor:
    """Return what the classes sound like in levels of features (transform/nmf.py), shape (5, W * K).

    Raises:
        PackError: the kits lack a class.
    """
    features = DrumFeatures(settings)

    def magnitudes(audio: Tensor) -> Tensor:
        return levels_of(features(audio), settings)[0].pow(1 / COMPRESSION)

    return normalised(class_templates(kits, 1, magnitudes).pow(COMPRESSION))


def _peaking_at_half(one_shot: OneShot) -> Tensor:
    """Return the beginning of a one-shot, shape (1, T)."""
    audio = one_shot.samples[None, :_LEARNED_SAMPLES].cpu()
    return audio * (0.5 / audio.abs().max().clamp_min(_TINY))


def _chosen_frames(magnitudes: Tensor) -> Tensor:
    """Return chosen frames of a one-shot's magnitudes (F, K); those of all frames add up to 1."""
    return magnitudes[[frame for frame in _LEARNED_FRAMES if frame < len(magnitudes)]] / magnitudes.sum()


def _levels(recording: Recording) -> Tensor:
    """Return the levels of a recording, all its channels together, shape (F, K); the highest is 1."""
    assert recording.sample_rate == SAMPLE_RATE, "the baselines have one sample rate"
    levels = _in_bands(torch.from_numpy(recording.read(0, recording.n_samples))).pow(COMPRESSION)
    return levels / levels.max().clamp_min(_TINY) + 1e-7


def _in_bands(audio: Tensor) -> Tensor:
    """Return the magnitudes of audio (C, T) in bands, shape (F, K), mean of its channels."""
    return spectra_of(audio).abs().mean(dim=0) @ _pooling().T


def _stems(recording: Recording, activations: Tensor, templates: Tensor) -> ArrayStems:
    """Return the stems of a factorised recording; components of a class lie side by side."""
    estimates = explained(activations, templates, n_classes=len(CLASSES))
    audio = recording.read(0, recording.n_samples)
    return masked_stems(audio, estimates @ _pooling(), exponent=EXPONENT)
