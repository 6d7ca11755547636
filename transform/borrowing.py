"""Drums that a source never plays, borrowed from a small shipped kit and made to sound as if they were its own.

They get the source's level, spectral tilt and decay, by the classes that both have.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transform.bank import Bank
from transform.cleaning import FADE_S, beginning_level
from transform.events import CLASS_NAMES, CLASSES
from transform.hits import LEAD_S, Hit
from transform.kit_sources import N_COMPARED, Origin, class_profile, joined
from transform.one_shot_folder import banks_of_shots
from transform.presets import shipped_folder
from transform.signal import Samples
from transform.timbre import BAND_OCTAVES, decay_db_s

# Of what the shared classes say, this much is taken. With a class left out of acoustic kits, all of it brought
# cymbals nearer to what they are in timbre, and toms and hats further away (docs/method.md).
_TRUST = 0.5
_STEEPEST_DB = 3.0  # an octave: more is another drum, no other sound of the same
_MOST_TILTED_DB = 15.0
_AUDIBLE_DB = -40.0  # against the strongest band: what is softer says nothing of a tilt
_FEWEST_BANDS = 4
_DECAY_RATIOS = (0.5, 2.0)
_MOST_RAISED_DB = 12.0  # of a tail that shall ring longer
_LOWEST_HZ = 40.0


@dataclass(frozen=True)
class SpareKit:
    """The shipped kit."""

    bank: Bank
    licence: str
    author: str


def spare_kit() -> SpareKit:
    """Return the kit that drums are borrowed from, not for use by several threads at once."""
    folder = shipped_folder() / "spare"
    with (folder / "SOURCES.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (bank,) = banks_of_shots((folder / row["file"], row["class"], row["articulation"]) for row in rows)
    return SpareKit(bank, rows[0]["licence"], rows[0]["author"])


def borrowed(own: Bank, classes: Collection[str], kit: SpareKit | None = None) -> tuple[Bank, list[str]]:
    """Return a bank with hits of classes that a source lacks, and a sentence for each class.

    Args:
        own: the source's hits.
        classes: what is to be borrowed.
        kit: where from; None: the shipped one.
    """
    kit = kit or spare_kit()
    bank, _ = joined(own, [Origin("", _shaped(kit.bank, Likeness.of(own, kit.bank)))], classes)
    whence = f"borrowed from a kit of {kit.author} ({kit.licence})"
    return bank, [
        f"the source has no {CLASS_NAMES[c]}: one {whence} plays that part, matched in level, tilt and decay"
        for c in CLASSES
        if c in classes
    ]


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What makes the hits of one kit sound like those of another."""

    tilt_db: float  # an octave, added to the spectrum
    decay_ratio: float  # by which hits decay faster

    @classmethod
    def of(cls, own: Bank, other: Bank) -> Likeness:
        """Return what makes hits of `other` like those of `own`, by the classes that sound alone in both."""
        tilts, ratios = [], []
        for drum_class in CLASSES:
            profiles = [class_profile(bank, drum_class) for bank in (own, other)]
            if profiles[0] is None or profiles[1] is None:
                continue
            if (tilt := _tilt_db(profiles[0], profiles[1])) is not None:
                tilts.append(tilt)
            decays = [_class_decay(bank, drum_class) for bank in (own, other)]
            if all(decays):
                ratios.append(np.log(decays[0] / decays[1]))
        return cls(
            tilt_db=float(np.clip(_TRUST * np.median(tilts), -_STEEPEST_DB, _STEEPEST_DB)) if tilts else 0.0,
            decay_ratio=float(np.clip(np.exp(_TRUST * np.median(ratios)), *_DECAY_RATIOS)) if ratios else 1.0,
        )

    def applied(self, sound: Samples, sample_rate: int) -> Samples:
        """Return a hit of the other kit, at its own level."""
        lead = round(LEAD_S * sample_rate)
        before = beginning_level(sound[:, lead:], sample_rate)
        tilted = self._tilted(sound, sample_rate)
        extra_db_s = decay_db_s(sound, sample_rate, lead) * (self.decay_ratio - 1)
        after_s = (np.arange(sound.shape[1]) - lead).clip(0) / sample_rate
        tilted *= 10 ** (np.minimum(-extra_db_s * after_s, _MOST_RAISED_DB) / 20).astype(np.float32)
        fade = min(sound.shape[1] - lead, round(FADE_S * sample_rate))
        tilted[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        return tilted * np.float32(before / max(beginning_level(tilted[:, lead:], sample_rate), 1e-9))

    def _tilted(self, sound: Samples, sample_rate: int) -> Samples:
        """Return a sound with its spectrum tilted around 1 kHz, in minimum phase, so that no attack moves."""
        n_samples = sound.shape[1]
        n_fft = 1 << (2 * n_samples - 1).bit_length()
        hz = np.fft.rfftfreq(n_fft, 1 / sample_rate).clip(_LOWEST_HZ)
        gain_db = (self.tilt_db * np.log2(hz / 1_000.0)).clip(-_MOST_TILTED_DB, _MOST_TILTED_DB)
        cepstrum = np.fft.irfft(gain_db * np.log(10) / 20, n_fft)
        cepstrum[1 : n_fft // 2] *= 2
        cepstrum[n_fft // 2 + 1 :] = 0
        response = np.exp(np.fft.rfft(cepstrum))
        return np.fft.irfft(np.fft.rfft(sound, n_fft) * response, n_fft)[:, :n_samples].astype(np.float32)


def _shaped(kit: Bank, likeness: Likeness) -> Bank:
    """Return a kit whose hits sound like a source's."""

    def read(hit: Hit) -> Samples:
        return likeness.applied(kit.sound(hit), kit.sample_rate)

    hits = [hit for own in kit.sets.values() for hit in own]
    return Bank(hits, read, sample_rate=kit.sample_rate, n_channels=kit.n_channels)


def _tilt_db(own: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Return how many dB an octave the levels of one hit rise more than another's; None: no bands say."""
    audible = np.isfinite(own) & np.isfinite(other)
    for levels in (own, other):
        audible &= np.nan_to_num(levels, nan=-np.inf) > np.nanmax(levels) + _AUDIBLE_DB
    if audible.sum() < _FEWEST_BANDS:
        return None
    return float(np.polyfit(BAND_OCTAVES[audible], (own - other)[audible], 1)[0])


def _class_decay(bank: Bank, drum_class: str) -> float:
    """Return how fast the strong hits of a class decay, in dB a second; 0 where nothing says."""
    lead = round(LEAD_S * bank.sample_rate)
    hits = bank.sets.get(frozenset({drum_class}), ())[-N_COMPARED:]
    decays = [decay_db_s(bank.sound(hit), bank.sample_rate, lead) for hit in hits]
    return float(np.median([decay for decay in decays if decay] or [0.0]))
