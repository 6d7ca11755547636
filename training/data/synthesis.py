"""Synthetic drum recordings with their recipes: kits x grooves -> segments, stems and exact pseudo-targets.

Follows section 3 of the paper (Hockman and Drysdale 2025): one-shots with pitch and gain augmentation play
varied rhythms, and each segment has a recipe of what it was made of, so that the same augmented one-shots can
play another segment's events. Beyond the paper: procedural drums, layered and reshaped one-shots,
velocity-dependent brightness, rooms, tone, compression and clipping, all of which leave stems exactly additive.
Everything that touches samples is torch, on the generator's device; decisions are drawn with a NumPy generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from training.data.kits import SAMPLE_RATE, Kit, OneShot, ProceduralPool
from training.data.rhythms import Groove, Stroke, VariationSettings, draw_strokes
from transform.events import CLASSES, nearest_class

SEGMENT_SAMPLES = 131_072  # the paper's segment, 2.97 s
_ROOM_SAMPLES = 48_928  # of a room at most, 1.1 s
_CUT_S = 0.003  # so much of an attack may lie before the recording, and it is still a stroke's

VoiceKey = tuple[str, str]  # class, articulation
# Bumps of a tone curve: gain in dB, centre in octaves above 20 Hz, width in octaves.
ToneCurve = tuple[tuple[float, float, float], ...]

# Peak level of each class in a mix, in dB against full scale, as (lowest, highest).
_LEVEL_DB: dict[str, tuple[float, float]] = {
    "KD": (-8, 0),
    "SD": (-9, 0),
    "TT": (-10, 0),
    "HH": (-24, -5),
    "CY": (-20, -3),
}
_OPEN_S = 0.15  # an open hat whose added decay is quicker may pass for a closed one
_PITCH_SEMITONES = {"KD": 3.0, "SD": 4.0, "TT": 5.0, "HH": 3.0, "CY": 3.0}  # largest shift either way


@dataclass(frozen=True)
class Voice:
    """The sound of one stroke of a segment's kit, from soft to loud layers.

    Each layer has shape (2, T): as recorded, and dulled, the two being mixed by velocity.
    """

    layers: tuple[Tensor, ...]
    gain: float
    softness: float  # 0..1: how much duller soft strokes are
    origin: str  # which kit or generator, and what was done, for the recipe's reader
    articulation: str = ""  # how it is struck, whatever was requested; "" where that is not known


@dataclass(frozen=True)
class BusRecipe:
    """What the whole recording went through; every value was drawn once and is applied to all stems alike."""

    room_gain: float = 0.0  # amplitude of the reverberation against the direct sound
    room_s: float = 0.3  # time for the reverberation to fall by 60 dB
    room_delay_s: float = 0.0
    comb_gain: float = 0.0  # a second, later microphone summed to mono
    comb_delay_s: float = 0.0
    tone: ToneCurve = ()
    low_cut_hz: float = 5.0
    high_cut_hz: float = 30_000.0
    threshold_db: float = 0.0  # compressor: 0 is off
    ratio: float = 1.0
    release_s: float = 0.1
    drive_db: float = 0.0  # soft clipping after the compressor; 0 is off
    noise_db: float = -120.0  # pink noise against the peak
    peak: float = 0.9
    seed: int = 0

    def tone_alone(self) -> BusRecipe:
        """Return its tone, drive and peak without room, second microphone and compression."""
        return replace(self, room_gain=0.0, comb_gain=0.0, threshold_db=0.0)


@dataclass(frozen=True)
class SegmentRecipe:
    """All that a synthetic segment was made of: enough to make it again, or to make it play something else."""

    voices: Mapping[VoiceKey, Voice]
    strokes: tuple[Stroke, ...]
    velocity_exponent: float  # amplitude = velocity ** exponent
    bus: BusRecipe
    n_samples: int = SEGMENT_SAMPLES

    @property
    def sounding(self) -> tuple[Stroke, ...]:
        """The strokes with the articulations that sound: where a kit lacks what is requested, another plays."""
        return tuple(
            replace(s, articulation=self.voices[s.drum_class, s.articulation].articulation)
            for s in self.strokes
        )


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings:
    """What segments are made of."""

    n_samples: int = SEGMENT_SAMPLES
    procedural: float = 0.4  # proportion of voices that are procedural
    mixed_kit: float = 0.65  # proportion of kits whose classes come from different kits
    layered: float = 0.25  # proportion of voices with a second sound of the class mixed in
    reshaped: float = 0.8  # proportion of voices with changes of pitch, decay, attack or tone
    rattling: float = 0.2  # proportion of kick and tom voices that faintly rattle the snare, which is no stroke
    drawn_layers: bool = True  # any hits of a voice are its layers; otherwise its softest and its loudest are
    pre_roll: float = 0.35  # proportion of segments that begin anywhere, earlier strokes ringing into them
    cut: float = 0.4  # proportion that is cut out on a stroke; the others begin with the rhythm
    velocity_exponent: tuple[float, float] = (1.5, 2.3)  # amplitude = velocity ** exponent, drawn between these
    effects: float = 0.85  # proportion of segments that are more than a dry sum
    variation: VariationSettings = field(default_factory=VariationSettings)


class Synthesiser:
    """An endless source of recipes: `kits` and `grooves` of one side of the split, and procedural drums."""

    def __init__(
        self,
        kits: Sequence[Kit],
        grooves: Sequence[Groove],
        settings: SynthesisSettings,
        *,
        pool: ProceduralPool | None,
    ) -> None:
        self.settings = settings
        self._grooves = grooves
        self._pool = pool
        self._voices: dict[str, list[tuple[str, dict[str, list[OneShot]]]]] = {
            drum_class: [(kit.name, voices) for kit in kits if (voices := kit.voices(drum_class))]
            for drum_class in CLASSES
        }
        self._full_kits = [
            kit.name
            for kit in kits
            if all(any(kit.name == name for name, _ in self._voices[c]) for c in ("KD", "SD", "HH"))
        ]

    def draw(self, n: int, rng: np.random.Generator, *, per_kit: int = 2) -> list[SegmentRecipe]:
        """Return `n` recipes; each kit is drawn once and plays `per_kit` of them, in another mix each time."""
        recipes: list[SegmentRecipe] = []
        while len(recipes) < n:
            kit = _KitDraw(self, rng)
            for _ in range(min(per_kit, n - len(recipes))):
                recipes.append(self._draw_segment(kit, rng))
        return recipes

    def _draw_segment(self, kit: _KitDraw, rng: np.random.Generator) -> SegmentRecipe:
        settings = self.settings
        length_s = settings.n_samples / SAMPLE_RATE
        beginning = rng.random() - settings.pre_roll
        is_cut = 0 <= beginning < settings.cut
        strokes = draw_strokes(
            self._grooves,
            start_s=-1.0 if is_cut or beginning < 0 else 0.0,
            stop_s=length_s + is_cut,
            settings=settings.variation,
            rng=rng,
        )
        if is_cut:
            strokes = cut_on_stroke(strokes, length_s, rng)
        voices = {}
        for stroke in strokes:
            key = stroke.drum_class, stroke.articulation
            if key not in voices:
                voices[key] = kit.voice(key)
        return SegmentRecipe(
            voices=voices,
            strokes=tuple(strokes),
            velocity_exponent=float(rng.uniform(*settings.velocity_exponent)),
            bus=self._draw_bus(rng),
            n_samples=settings.n_samples,
        )

    def _draw_bus(self, rng: np.random.Generator) -> BusRecipe:
        if rng.random() < self.settings.effects:
            return draw_bus(rng)
        return BusRecipe(peak=float(rng.uniform(0.1, 0.95)))


def cut_on_stroke(strokes: Sequence[Stroke], length_s: float, rng: np.random.Generator) -> list[Stroke]:
    """Return the strokes of a recording that is cut out on one of them, as loops are.

    Its attack begins on the first sample, or up to 8 ms behind it, or up to 2 ms before it. Half of the loops
    hold the tails of what was played before.

    Args:
        strokes: of a performance from a second before to a second behind what is cut out.
        length_s: of what is cut out.
        rng: decides where it is cut.
    """
    firsts = [s.onset_s for s in strokes if 0 <= s.onset_s < 1.0 and not s.is_grace]
    cut_s = firsts[rng.integers(len(firsts))] if firsts else 0.0
    if rng.random() < 0.6:
        cut_s -= float(rng.uniform(-0.002, 0.008))
    from_s = -1.0 if rng.random() < 0.5 else -0.03
    moved = (replace(s, onset_s=s.onset_s - cut_s) for s in strokes)
    return [s for s in moved if from_s <= s.onset_s < length_s]


class _KitDraw:
    """One kit of a batch: voices are chosen and reshaped when a stroke first needs them."""

    def __init__(self, synthesiser: Synthesiser, rng: np.random.Generator) -> None:
        self._synthesiser = synthesiser
        self._rng = rng
        self._voices: dict[VoiceKey, Voice] = {}
        self._levels_db = {c: rng.uniform(*_LEVEL_DB[c]) for c in CLASSES}
        settings = synthesiser.settings
        names = synthesiser._full_kits
        self._kit = names[rng.integers(len(names))] if names and rng.random() >= settings.mixed_kit else None
        self._class_kits = {c: self._choose_kit(c) for c in CLASSES}

    def voice(self, key: VoiceKey) -> Voice:
        if key not in self._voices:
            self._voices[key] = self._make(*key)
        return self._voices[key]

    def _choose_kit(self, drum_class: str) -> tuple[str, dict[str, list[OneShot]]] | None:
        """Return the recorded voices that a class is taken from, None for procedural drums."""
        synthesiser, rng = self._synthesiser, self._rng
        recorded = synthesiser._voices[drum_class]
        if self._kit is not None:
            own = [entry for entry in recorded if entry[0] == self._kit]
            if own:
                return own[0]
        procedural = synthesiser._pool is not None and rng.random() < synthesiser.settings.procedural
        if procedural or not recorded:
            return None
        return recorded[rng.integers(len(recorded))]

    def _one_shots(self, drum_class: str, articulation: str) -> tuple[str, list[OneShot]]:
        rng, pool = self._rng, self._synthesiser._pool
        chosen = self._class_kits[drum_class]
        if chosen is not None:
            name, voices = chosen
            if articulation in voices:
                return name, voices[articulation]
            if pool is None or articulation == "" or rng.random() < 0.5:
                return name, voices[sorted(voices)[rng.integers(len(voices))]]
        if pool is None:
            raise ValueError(f"no kit holds {drum_class} and there is no procedural pool")
        return "procedural", [pool.draw(rng, drum_class, articulation)]

    def _make(self, drum_class: str, articulation: str) -> Voice:
        rng, settings = self._rng, self._synthesiser.settings
        name, one_shots = self._one_shots(drum_class, articulation)
        sounds = [layer.samples for layer in self._layers(one_shots)]
        origin = f"{name}/{drum_class}/{articulation}"
        if rng.random() < settings.layered:
            second = self._second_sound(drum_class, one_shots[0].articulation)
            weight = float(rng.uniform(0.2, 0.7))
            sounds = [_layered(sound, second, weight) for sound in sounds]
            origin += f" + layer {weight:.2f}"
        struck = one_shots[0].articulation
        if rng.random() < settings.reshaped:
            change = _draw_change(drum_class, rng)
            if struck == "open" and change.decay_s < _OPEN_S:
                struck = ""
            sounds = [change.apply(sound) for sound in sounds]
            origin += f" {change}"
        if settings.rattling and drum_class in ("KD", "TT") and rng.random() < settings.rattling:
            snare, gain = self._second_sound("SD", ""), float(10 ** (rng.uniform(-36, -18) / 20))
            delay = int(rng.integers(0, 441))
            sounds = [_rattling(sound, snare, gain, delay) for sound in sounds]
            origin += f" + rattle {gain:.3f}"
        gain_db = self._levels_db[drum_class] + rng.uniform(-2, 2)
        return Voice(
            layers=tuple(_with_dull_copy(sound) for sound in sounds),
            gain=float(10 ** (gain_db / 20)),
            softness=float(rng.uniform(0.0, 0.9)),
            origin=origin,
            articulation=struck,
        )

    def _layers(self, one_shots: list[OneShot]) -> list[OneShot]:
        """Return one to three hits of a voice, from soft to loud."""
        rng, n = self._rng, len(one_shots)
        if n > 3 and self._synthesiser.settings.drawn_layers:
            chosen = rng.choice(n, size=rng.integers(2, 4), replace=False)
            return [one_shots[i] for i in sorted(chosen)]
        layers = [one_shots[0], one_shots[-1]] if n > 1 else [one_shots[0]]
        if n > 2 and rng.random() < 0.5:
            layers.insert(1, one_shots[rng.integers(1, n - 1)])
        return layers

    def _second_sound(self, drum_class: str, articulation: str) -> Tensor:
        pool, rng = self._synthesiser._pool, self._rng
        if pool is not None:
            return pool.draw(rng, drum_class, articulation).samples
        recorded = self._synthesiser._voices[drum_class]
        _, voices = recorded[rng.integers(len(recorded))]
        hits = voices[sorted(voices)[0]]
        return hits[rng.integers(len(hits))].samples


@dataclass(frozen=True)
class _Change:
    """How a one-shot is reshaped."""

    semitones: float
    decay_s: float  # time constant of an added decay; infinite for none
    attack_db: float  # gain of the first 15 ms against the rest
    drive: float  # soft clipping, 0 for none
    tone: ToneCurve = ()

    def apply(self, samples: Tensor) -> Tensor:
        out = samples
        if self.semitones:
            length = max(2, round(len(out) / 2 ** (self.semitones / 12)))
            out = functional.interpolate(out[None, None], size=length, mode="linear", align_corners=True)[0, 0]
        time_s = torch.arange(len(out), device=out.device) / SAMPLE_RATE
        if np.isfinite(self.decay_s):
            out = out * torch.exp(-time_s / self.decay_s)
        if self.attack_db:
            out = out * (1 + (10 ** (self.attack_db / 20) - 1) * torch.exp(-((time_s / 0.015) ** 2)))
        if self.drive:
            out = torch.tanh(self.drive * out)
        if self.tone:
            n_fft = 1 << (len(out) + 4096).bit_length()  # room for what rings before the attack
            hz = torch.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE, device=out.device).clamp_min(1.0)
            out = torch.fft.irfft(torch.fft.rfft(out, n_fft) * _tone_response(self.tone, hz), n_fft)[: len(out)]
        return 0.9 * out / out.abs().max().clamp_min(1e-6)


def _draw_change(drum_class: str, rng: np.random.Generator) -> _Change:
    widest = _PITCH_SEMITONES[drum_class]
    return _Change(
        semitones=float(np.clip(rng.normal(0, widest / 2), -widest, widest)),
        decay_s=float(np.exp(rng.uniform(np.log(0.04), np.log(0.6)))) if rng.random() < 0.3 else float("inf"),
        attack_db=float(rng.uniform(-6, 6)) if rng.random() < 0.3 else 0.0,
        drive=float(rng.uniform(0.5, 6.0)) if rng.random() < 0.12 else 0.0,
        tone=_draw_tone(rng, int(rng.integers(1, 4)), 6.0) if rng.random() < 0.6 else (),
    )


def _layered(first: Tensor, second: Tensor, weight: float) -> Tensor:
    out = torch.zeros(max(len(first), len(second)), device=first.device)
    out[: len(first)] += first * (1 - weight)
    out[: len(second)] += second * weight
    return 0.9 * out / out.abs().max().clamp_min(1e-6)


def _rattling(sound: Tensor, snare: Tensor, gain: float, delay: int) -> Tensor:
    """Return a drum with the snare's wires, which it shakes: a snare without its attack, softer and later."""
    wires = snare[round(0.005 * SAMPLE_RATE) :] * gain
    wires = wires * (torch.arange(len(wires), device=wires.device) / (0.01 * SAMPLE_RATE)).clamp_max(1)
    out = functional.pad(sound, (0, max(0, delay + len(wires) - len(sound))))
    out[delay : delay + len(wires)] += wires
    return out


def _with_dull_copy(samples: Tensor) -> Tensor:
    """Return shape (2, T): the sound, and the sound through a 9-sample triangular smoother."""
    box = functional.avg_pool1d(functional.pad(samples[None, None], (2, 2)), 5, 1)
    dull = functional.avg_pool1d(functional.pad(box, (2, 2)), 5, 1)[0, 0]
    return torch.stack((samples, dull))


def render_stems(recipe: SegmentRecipe) -> Tensor:
    """Return the dry stems of a recipe, shape (5, T) in class order, every attack on its exact sample.

    Every hat stroke chokes the one before, as there is one pair of hats. Strokes before time 0 are rendered
    from where the segment begins.
    """
    some_layer = next((v.layers[0] for v in recipe.voices.values()), torch.zeros(2, 1))
    stems = torch.zeros(len(CLASSES), recipe.n_samples, device=some_layer.device)
    hat_starts = [round(s.onset_s * SAMPLE_RATE) for s in recipe.strokes if s.drum_class == "HH"]
    for stroke in recipe.strokes:
        voice = recipe.voices[stroke.drum_class, stroke.articulation]
        start = round(stroke.onset_s * SAMPLE_RATE)
        layer = voice.layers[min(len(voice.layers) - 1, int(stroke.velocity * len(voice.layers)))]
        amplitude = voice.gain * stroke.velocity**recipe.velocity_exponent
        dullness = voice.softness * (1 - stroke.velocity)
        sound = amplitude * ((1 - dullness) * layer[0] + dullness * layer[1])
        if stroke.drum_class == "HH":
            sound = _choked(sound, start, hat_starts)
        skip = max(0, -start)
        stop = min(recipe.n_samples, start + len(sound))
        if skip < len(sound) and stop > max(start, 0):
            stems[CLASSES.index(stroke.drum_class), max(start, 0) : stop] += sound[skip : stop - start]
    return stems


def _choked(sound: Tensor, start: int, hat_starts: Sequence[int], fade: int = 440) -> Tensor:
    """Return the hat faded out where the next hat stroke closes it."""
    later = [s for s in hat_starts if s > start + 200]
    if not later or later[0] - start >= len(sound):
        return sound
    length = later[0] - start
    out = sound[: min(len(sound), length + fade)].clone()
    out[length:] *= torch.linspace(1, 0, fade, device=sound.device)[: len(out) - length]
    return out


def pseudo_target(source: SegmentRecipe, target: SegmentRecipe) -> SegmentRecipe:
    """Return the recipe of the source's own augmented one-shots at the target's strokes (paper section 3).

    A class that the source does not play is played by the nearest class that it has (docs/method.md, decision
    12); an articulation that it does not play, by the first of the class that it plays.
    """
    played: dict[str, list[VoiceKey]] = {}
    for stroke in source.strokes:
        key = stroke.drum_class, stroke.articulation
        if key not in played.setdefault(stroke.drum_class, []):
            played[stroke.drum_class].append(key)
    strokes = []
    for stroke in target.strokes:
        drum_class = nearest_class(stroke.drum_class, set(played))
        if drum_class is None:
            continue
        keys = played[drum_class]
        key = drum_class, stroke.articulation
        _, articulation = key if key in keys else keys[0]
        strokes.append(replace(stroke, drum_class=drum_class, articulation=articulation))
    return replace(source, strokes=tuple(strokes), n_samples=target.n_samples)


def render_batch(recipes: Sequence[SegmentRecipe], *, dry_stems: Tensor | None = None) -> Tensor:
    """Return finished recordings, shape (B, T); `dry_stems` (B, 5, T) are rendered if they are not given."""
    if dry_stems is None:
        dry_stems = torch.stack([render_stems(recipe) for recipe in recipes])
    return apply_bus(dry_stems.sum(dim=1, keepdim=True), [recipe.bus for recipe in recipes])[:, 0]


def render_batch_with_stems(recipes: Sequence[SegmentRecipe]) -> tuple[Tensor, Tensor]:
    """Return finished recordings (B, T) and their stems (B, 5, T); what the stems leave is noise."""
    stems = render_batch_stems(recipes)
    buses = [recipe.bus for recipe in recipes]
    noise = torch.stack([_pink_noise(bus, stems.shape[-1], stems.device) for bus in buses])
    return stems.sum(dim=1) + noise, stems


def render_batch_stems(recipes: Sequence[SegmentRecipe]) -> Tensor:
    """Return finished stems (B, 5, T), which sum to the recording less its noise, which is no class's."""
    stems = torch.stack([render_stems(recipe) for recipe in recipes])
    return apply_bus(stems, [recipe.bus for recipe in recipes], with_noise=False)


def audible_strokes(stems: Tensor, strokes: Sequence[Stroke], *, within_db: float = 30.0) -> np.ndarray:
    """Return of each stroke whether its class is audible (docs/method.md, decision 28).

    Its class must be within `within_db` of the mix in the 50 ms after it. A stroke whose attack is cut off, as
    it lies before the recording, is not audible: what is left is a tail.

    Args:
        stems: dry stems of one recording, shape (5, T).
        strokes: what was played.
        within_db: how far below the mix a stroke may lie.
    """
    hop = SAMPLE_RATE // 100
    energy = functional.avg_pool1d(stems.square()[:, None], hop, ceil_mode=True)[:, 0].cpu().numpy()
    mix = functional.avg_pool1d(stems.sum(dim=0).square()[None, None], hop, ceil_mode=True)[0, 0].cpu().numpy()
    audible = np.zeros(len(strokes), dtype=bool)
    for i, stroke in enumerate(strokes):
        first = max(0, int(stroke.onset_s * 100))
        if stroke.onset_s >= -_CUT_S and first < len(mix):
            own = energy[CLASSES.index(stroke.drum_class), first : first + 6].sum()
            audible[i] = own > mix[first : first + 6].sum() * 10 ** (-within_db / 10) and own > 0
    return audible


def audible_onsets(stems: Tensor, strokes: Sequence[Stroke]) -> list[int]:
    """Return the onsets of audible strokes in samples, given one recording's dry stems (5, T)."""
    audible = audible_strokes(stems, strokes)
    return [
        round(s.onset_s * SAMPLE_RATE) for s, is_audible in zip(strokes, audible, strict=True) if is_audible
    ]


def onset_table(onsets: Sequence[Sequence[int] | Tensor]) -> Tensor:
    """Return the onsets of each recording as a row (B, N), filled up with -1, which stands for none."""
    rows = [torch.as_tensor(row, dtype=torch.int64) for row in onsets]
    return pad_sequence(rows, batch_first=True, padding_value=-1)


def draw_bus(rng: np.random.Generator) -> BusRecipe:
    """Return the effects of one recording: each is present by chance, each setting drawn anew."""

    def present(probability: float) -> bool:
        return bool(rng.random() < probability)

    tone = _draw_tone(rng, int(rng.integers(0, 5)), 4.0)
    compressed, driven, in_room = present(0.5), present(0.3), present(0.6)
    return BusRecipe(
        room_gain=float(10 ** (rng.uniform(-30, 0) / 20)) if in_room else 0.0,
        room_s=float(np.exp(rng.uniform(np.log(0.12), np.log(1.5)))),
        room_delay_s=float(rng.uniform(0, 0.02)),
        comb_gain=float(rng.uniform(0.2, 0.9)) if present(0.15) else 0.0,
        comb_delay_s=float(rng.uniform(0.0002, 0.004)),
        tone=tone,
        low_cut_hz=float(np.exp(rng.uniform(np.log(20), np.log(120)))) if present(0.3) else 5.0,
        high_cut_hz=float(np.exp(rng.uniform(np.log(6000), np.log(20000)))) if present(0.35) else 30_000.0,
        threshold_db=float(rng.uniform(-30, -6)) if compressed else 0.0,
        ratio=float(rng.uniform(1.5, 10)) if compressed else 1.0,
        release_s=float(np.exp(rng.uniform(np.log(0.03), np.log(0.4)))),
        drive_db=float(rng.uniform(1, 14)) if driven else 0.0,
        noise_db=float(rng.uniform(-80, -38)) if present(0.5) else -120.0,
        peak=float(10 ** (rng.uniform(-30, 0) / 20)),
        seed=int(rng.integers(2**31)),
    )


def apply_bus(stems: Tensor, buses: Sequence[BusRecipe], *, with_noise: bool = True) -> Tensor:
    """Return stems (B, S, T) after their recordings' effects.

    Filters act on each stem. Compression and clipping are computed from the sum and applied to all stems as one
    gain over time, so the stems still add up to the recording.
    """
    n_samples = stems.shape[-1]
    n_fft = _fft_size(n_samples + _ROOM_SAMPLES)
    responses = torch.stack([_bus_response(bus, n_fft, n_fft - n_samples, stems.device) for bus in buses])
    out: Tensor = torch.fft.irfft(torch.fft.rfft(stems, n_fft) * responses[:, None], n_fft)[..., :n_samples]
    mix = out.sum(dim=1)
    peaks = mix.abs().amax(dim=-1).clamp_min(1e-6)
    mix = mix / peaks[:, None]
    gain = _compressor_gain(mix, buses)
    driven = mix * gain
    drive = torch.tensor([10 ** (bus.drive_db / 20) for bus in buses], device=mix.device)[:, None]
    clipped = torch.tanh(driven * drive) / torch.tanh(drive)
    clip_gain = torch.where(driven.abs() > 1e-5, clipped / driven, drive / torch.tanh(drive))
    gain = torch.where(drive > 1.0, gain * clip_gain, gain)
    level = torch.tensor([bus.peak for bus in buses], device=mix.device)[:, None]
    final_peak = (mix * gain).abs().amax(dim=-1, keepdim=True).clamp_min(1e-6)
    out = out * (gain / peaks[:, None] * level / final_peak)[:, None]
    if with_noise:
        noise = torch.stack([_pink_noise(bus, n_samples, mix.device) for bus in buses])
        out = out + noise[:, None] / out.shape[1]
    return out


def _fft_size(n_samples: int) -> int:
    """Return the shortest transform of at least so many samples that has no prime factor above 5."""
    sizes: list[int] = [
        3**threes * 5**fives << max(0, math.ceil(math.log2(n_samples / (3**threes * 5**fives))))
        for threes in range(4)
        for fives in range(5)
    ]
    return min(sizes)


def _bus_response(bus: BusRecipe, n_fft: int, longest: int, device: torch.device) -> Tensor:
    """Return the complex frequency response of a recording's linear effects, shape (n_fft // 2 + 1,).

    A room is cut to `longest` samples, so that no tail wraps around into the recording's beginning.
    """
    hz = torch.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE, device=device).clamp_min(1.0)
    response = torch.ones_like(hz, dtype=torch.complex64)
    if bus.room_gain:
        generator = torch.Generator(device).manual_seed(bus.seed)
        delay = round(bus.room_delay_s * SAMPLE_RATE)
        length = min(longest - delay, round(bus.room_s * SAMPLE_RATE))
        time_s = torch.arange(length, device=device) / SAMPLE_RATE
        tail = torch.randn(length, generator=generator, device=device) * torch.exp(-6.9 * time_s / bus.room_s)
        # Rooms swallow highs: the later, the duller.
        dark = functional.avg_pool1d(functional.pad(tail[None, None], (4, 4)), 9, 1)[0, 0]
        age = (time_s / bus.room_s).clamp(0, 1)
        tail = tail * (1 - age) + dark * age * 1.5
        tail = tail / tail.norm().clamp_min(1e-6)
        room = torch.zeros(n_fft, device=device)
        room[delay : delay + length] = tail
        response = response + bus.room_gain * torch.fft.rfft(room)
    if bus.comb_gain:
        response = response * (1 + bus.comb_gain * torch.exp(-2j * np.pi * hz * bus.comb_delay_s))
    cuts = 1 / torch.sqrt(1 + (bus.low_cut_hz / hz) ** 4) / torch.sqrt(1 + (hz / bus.high_cut_hz) ** 8)
    return response * (_tone_response(bus.tone, hz) * cuts)


def _draw_tone(rng: np.random.Generator, n_bumps: int, deviation_db: float) -> ToneCurve:
    return tuple(
        (float(rng.normal(0, deviation_db)), float(rng.uniform(0.5, 9.8)), float(rng.uniform(0.5, 2.5)))
        for _ in range(n_bumps)
    )


def _tone_response(tone: ToneCurve, hz: Tensor) -> Tensor:
    """Return the amplitude response of a tone curve at frequencies above 0 Hz."""
    octaves = torch.log2(hz / 20.0)
    curve_db = torch.zeros_like(hz)
    for gain_db, centre, width in tone:
        curve_db = curve_db + gain_db * torch.exp(-0.5 * ((octaves - centre) / width) ** 2)
    return torch.pow(10.0, curve_db / 20)


def _compressor_gain(mix: Tensor, buses: Sequence[BusRecipe], hop: int = 64) -> Tensor:
    """Return gains over time, shape (B, T): peak levels per 64 samples, instant attack, exponential release."""
    n_samples = mix.shape[-1]
    if all(bus.threshold_db == 0 for bus in buses):
        return torch.ones_like(mix)
    padded = functional.pad(mix.abs(), (0, -n_samples % hop))
    level_db = 20 * torch.log10(padded.reshape(len(padded), -1, hop).amax(dim=-1).clamp_min(1e-5))
    threshold = torch.tensor([bus.threshold_db for bus in buses], device=mix.device)[:, None]
    slope = torch.tensor([1 - 1 / bus.ratio for bus in buses], device=mix.device)[:, None]
    reduction_db = (level_db - threshold).clamp_min(0) * slope
    n_frames = reduction_db.shape[1]
    release = torch.tensor([bus.release_s for bus in buses], device=mix.device)[:, None]
    # The largest of the past reductions, each decayed since: the peak-holding follower, in doubling steps.
    decay_db = 8.7 * hop / SAMPLE_RATE / release
    step = 1
    while step < n_frames:
        older = functional.pad(reduction_db, (step, 0))[:, :n_frames]
        reduction_db = torch.maximum(reduction_db, older - decay_db * step)
        step *= 2
    gain = 10 ** (-reduction_db / 20)
    return functional.interpolate(gain[:, None], size=padded.shape[-1], mode="linear")[:, 0, :n_samples]


def _pink_noise(bus: BusRecipe, n_samples: int, device: torch.device) -> Tensor:
    if bus.noise_db <= -120:
        return torch.zeros(n_samples, device=device)
    generator = torch.Generator(device).manual_seed(bus.seed + 1)
    white = torch.randn(n_samples, generator=generator, device=device)
    warm = functional.avg_pool1d(functional.pad(white[None, None], (8, 7)), 16, 1)[0, 0, :n_samples]
    return bus.peak * 10 ** (bus.noise_db / 20) * (0.4 * white + 2.4 * warm)
