"""More hits of a source's kit: of other recordings of it and of folders of one-shots, at the source's level."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transform.audio import Progress, Recording
from transform.bank import Bank
from transform.cleaning import beginning_level, rms
from transform.errors import AudioError
from transform.events import CLASS_NAMES, CLASSES
from transform.hits import LEAD_S, Hit, cutter_of
from transform.kit_names import check_kit_sources, shown
from transform.listening import Listening
from transform.one_shot_folder import left_out_notes, read_hits
from transform.signal import BlockCache, Samples
from transform.timbre import band_levels_db, distance_db

# Between the timbres of two recordings, over these classes. Halves of ten recordings are up to 2.7 dB apart; of
# 180 pairs of halves of different ones nine in ten are more than 4.
_OTHER_KIT_DB = 4.0
_COMPARED = ("KD", "SD", "TT", "HH")
N_COMPARED = 3  # hits of a class, the loudest
_CANCELS_DB = -20.0  # channels that lose so much in their mean are of opposite phase
_CACHED_BYTES = 64 * 2**20
# A class's gain is at most so far from that of the loudest hits: of a class that hardly sounds in one of two
# recordings, the level of velocity 1 is a guess.
_MOST_APART_DB = 12.0


@dataclass(frozen=True, eq=False)
class Origin:
    """Where hits are from beside the source."""

    name: str
    bank: Bank
    more: tuple[Bank, ...] = ()  # its hits of other sample rates or numbers of channels
    notes: tuple[str, ...] = ()  # sentences on what could not be used

    @property
    def banks(self) -> tuple[Bank, ...]:
        """All of its hits."""
        return (self.bank, *self.more)


def open_origins(
    paths: Iterable[str],
    listen: Callable[[Recording], Listening],
    report: Progress = lambda stage, fraction: None,
) -> Iterator[Origin]:
    """Yield the origins of more hits.

    Args:
        paths: recordings, and folders of one-shots; what is named twice is taken once.
        listen: returns what is detected in a recording.
        report: called with "cut kit" between the hits of a recording.

    Raises:
        AudioError: one is missing or broken, or holds no hits.
        SettingsError: the `kit.toml` of a folder is wrong.
    """
    paths = list(paths)
    check_kit_sources(paths)
    taken: set[Path] = set()
    for path in map(Path, paths):
        if path.resolve() in taken:
            continue
        taken.add(path.resolve())
        if not path.is_dir():
            yield _recorded(Recording.open(path), listen, report)
            continue
        found = read_hits(path)
        recordings = [file for file in found.recordings if file.resolve() not in taken]
        taken |= {file.resolve() for file in recordings}
        origins = [Origin(path.name, found.banks[0], found.banks[1:])] if found.banks else []
        origins += [_recorded(Recording.open(file), listen, report) for file in recordings]
        notes = tuple(left_out_notes(path.name, found.left_out))
        yield from (replace(origin, notes=notes if i == 0 else ()) for i, origin in enumerate(origins))


def _recorded(recording: Recording, listen: Callable[[Recording], Listening], report: Progress) -> Origin:
    detected = listen(recording)
    bank = Bank.of_cutter(cutter_of(recording, detected.events, detected.stems), report=report)
    if not bank.sets:
        raise AudioError(
            f"no drum hits are detected in {recording.name}",
            hint="leave it out, or give a drum recording, at a level where its hits stand out",
        )
    return Origin(recording.name, bank)


def joined(own: Bank, origins: Sequence[Origin], classes: Collection[str] = CLASSES) -> tuple[Bank, list[str]]:
    """Return a bank of a source's hits and those of other origins, and what was decided, a sentence each.

    Hits of other origins get the source's sample rate and channels. Each class is brought to the level at which
    the source has it, by the levels of velocity 1; a class that the source lacks, as the others on the whole.

    Args:
        own: the source's hits.
        origins: of other hits.
        classes: which of the other hits are taken: those in which only these sound.
    """
    read_of: dict[Hit, Callable[[], Samples]] = {}
    notes = []
    form = _Form.of(own)
    for origin in origins:
        hits, note = _matched(own, origin, form)
        read_of |= {hit: read for hit, read in hits.items() if hit.classes <= set(classes)}
        notes += note
    sounds: BlockCache[Hit, Samples] = BlockCache(n_bytes=_CACHED_BYTES)

    def read(hit: Hit) -> Samples:
        return sounds.get(hit, lambda hit: read_of[hit]()) if hit in read_of else own.sound(hit)

    return own.with_hits([*own.hits, *read_of], read), notes


def _matched(own: Bank, origin: Origin, form: _Form) -> tuple[dict[Hit, Callable[[], Samples]], list[str]]:
    """Return the hits of an origin at the source's level, what reads each, and sentences on them."""
    found = [
        (hit, _measured(hit, bank, form), bank)
        for bank in origin.banks
        for hits in bank.sets.values()
        for hit in hits
    ]
    measured = Bank(
        [at_form for _, at_form, _ in found],
        lambda hit: np.zeros((form.n_channels, 0), dtype=np.float32),
        sample_rate=form.sample_rate,
        n_channels=form.n_channels,
    )
    gains_db, usual_db = level_gains_db(own, measured)
    read_of: dict[Hit, Callable[[], Samples]] = {}
    for hit, at_form, bank in found:
        gain = np.float32(10 ** (gains_db.get(hit.dominant, usual_db) / 20))

        def read(hit: Hit = hit, bank: Bank = bank, gain: np.float32 = gain) -> Samples:
            return form.converted(hit, bank) * gain

        read_of[replace(at_form, level=at_form.level * float(gain))] = read
    more = f"{len(read_of)} more hits are" if len(read_of) != 1 else "1 more hit is"
    note = f"{more} from {shown(origin.name)}, at the source's level ({usual_db:+.1f} dB)"
    return read_of, [note, *origin.notes, *_doubts(own, origin)]


def _measured(hit: Hit, bank: Bank, form: _Form) -> Hit:
    """Return a hit with the level that it has in the form of the source."""
    sound = form.converted(hit, bank)
    return replace(hit, level=max(beginning_level(sound[:, form.lead :], form.sample_rate), 1e-6))


def level_gains_db(own: Bank, other: Bank) -> tuple[dict[str, float], float]:
    """Return the gains that bring the classes of a bank to the level of another, and the usual one, in dB.

    The usual one is the median over the classes that both have; without any it brings the loudest hits to the
    loudest of the other bank. No gain is further from that one than 12 dB. Without hits to compare it is 0 dB.
    """
    if not own.hits:
        return {}, 0.0
    loud = [
        np.quantile([hit.level for hits in bank.sets.values() for hit in hits], 0.9) for bank in (own, other)
    ]
    loud_db = 20 * float(np.log10(loud[0] / loud[1]))
    shared = [c for c in CLASSES if c in own.full_level and c in other.full_level]
    found_db = {c: 20 * float(np.log10(own.full_level[c] / other.full_level[c])) for c in shared}
    low_db, high_db = loud_db - _MOST_APART_DB, loud_db + _MOST_APART_DB
    gains_db = {c: min(max(gain_db, low_db), high_db) for c, gain_db in found_db.items()}
    return gains_db, float(np.median(list(gains_db.values()))) if gains_db else loud_db


def _doubts(own: Bank, origin: Origin) -> list[str]:
    """Return a sentence if an origin is evidently another kit."""
    far = {}
    for drum_class in _COMPARED:
        profile = class_profile(own, drum_class)
        found = [class_profile(bank, drum_class) for bank in origin.banks]
        others = [other for other in found if other is not None]
        if profile is not None and others:
            far[drum_class] = distance_db(profile, np.mean(others, axis=0))
    if not far or np.mean(list(far.values())) <= _OTHER_KIT_DB:
        return []
    names = " and ".join(CLASS_NAMES[c] for c in sorted(far, key=lambda c: -far[c])[:2])
    return [f"{shown(origin.name)} sounds like another kit, its {names} most of all; it is used all the same"]


def class_profile(bank: Bank, drum_class: str) -> NDArray[np.float64] | None:
    """Return the typical levels in bands of a class that sounds alone, None where none does."""
    hits = sorted(bank.sets.get(frozenset({drum_class}), ()), key=lambda hit: -hit.level)[:N_COMPARED]
    if not hits:
        return None
    lead = round(LEAD_S * bank.sample_rate)
    return np.asarray(
        np.median([band_levels_db(bank.sound(hit), bank.sample_rate, lead) for hit in hits], axis=0)
    )


@dataclass(frozen=True, kw_only=True)
class _Form:
    """The sample rate of a source, and how loud each class is in each of its channels."""

    sample_rate: int
    n_channels: int
    balance: Mapping[str, NDArray[np.float32]]  # by class, shape (C,), mean square 1

    @classmethod
    def of(cls, bank: Bank) -> _Form:
        """Return the form of a bank's hits."""
        by_class: dict[str, list[NDArray[np.float64]]] = {}
        for hits in bank.sets.values() if bank.n_channels > 1 else ():
            for hit in hits[-N_COMPARED:]:
                energy = (bank.sound(hit) ** 2).mean(axis=1, dtype=np.float64)
                by_class.setdefault(hit.dominant, []).append(energy / max(float(energy.mean()), 1e-12))
        usual = [energy for own in by_class.values() for energy in own]
        balance = {
            c: np.sqrt(np.mean(by_class.get(c, usual), axis=0)).astype(np.float32) for c in CLASSES if usual
        }
        return cls(sample_rate=bank.sample_rate, n_channels=bank.n_channels, balance=balance)

    @property
    def lead(self) -> int:
        """The sample at which hits begin."""
        return round(LEAD_S * self.sample_rate)

    def converted(self, hit: Hit, bank: Bank) -> Samples:
        """Return the sound of another bank's hit in the source's sample rate and channels."""
        sound = bank.sound(hit)
        if bank.sample_rate != self.sample_rate:
            import soxr  # machines that only train do without it

            sound = np.ascontiguousarray(
                soxr.resample(sound.T, bank.sample_rate, self.sample_rate, quality="HQ").T, dtype=np.float32
            )
        if len(sound) == self.n_channels:
            return sound
        mono = _mixed(sound)
        if self.n_channels == 1:
            return mono
        return np.asarray(self.balance[hit.dominant][:, None] * mono, dtype=np.float32)


def _mixed(sound: Samples) -> Samples:
    """Return the mean of channels, shape (1, T), or the loudest of them where they cancel each other."""
    mean: Samples = sound.mean(axis=0, keepdims=True)
    if rms(mean) >= 10 ** (_CANCELS_DB / 20) * rms(sound):
        return mean
    loudest = int(np.argmax((sound**2).mean(axis=1)))
    return np.asarray(sound[loudest : loudest + 1])
