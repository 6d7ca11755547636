"""Endless procedural drums, made in batches on any device: two fifths of the classes of mixed kits in training.

Each call draws every parameter anew: membranes with pitch sweeps and modes, wire and filtered noise, clusters
of inharmonic partials for metal, claps, sticks and brushes, then saturation and a random tone curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLE_RATE = 44_100

# Articulations that can be made, by class; the first of a class is its plain stroke.
ARTICULATIONS: dict[str, tuple[str, ...]] = {
    "KD": ("",),
    "SD": ("", "sidestick", "clap", "rim", "brush"),
    "TT": ("high", "mid", "low"),
    "HH": ("closed", "open", "pedal"),
    "CY": ("crash", "ride", "bell", "china", "splash"),
}


@dataclass(frozen=True)
class _Draw:
    """Random draws of one batch: every method returns shape (N, 1)."""

    n: int
    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def uniform(self, low: float, high: float, *columns: int) -> Tensor:
        u = torch.rand((self.n, *(columns or (1,))), generator=self.generator, device=self.device)
        return low + (high - low) * u

    def log_uniform(self, low: float, high: float, *columns: int) -> Tensor:
        return torch.exp(self.uniform(math.log(low), math.log(high), *columns))

    def chance(self, probability: float) -> Tensor:
        return (self.uniform(0.0, 1.0) < probability).float()

    def noise(self, n_samples: int) -> Tensor:
        return torch.randn((self.n, n_samples), generator=self.generator, device=self.device)


def make_one_shots(
    drum_class: str, articulation: str, n: int, *, generator: torch.Generator, length_s: float = 1.2
) -> Tensor:
    """Return `n` procedural one-shots of a class, shape (N, T) at 44.1 kHz, attack at sample 0, peak 0.9.

    Args:
        drum_class: one of KD SD TT HH CY.
        articulation: one of `ARTICULATIONS[drum_class]`.
        n: how many; each is another drum.
        generator: the source of all randomness; the drums are made on its device.
        length_s: length of each; what still rings at its end is faded.
    """
    draw = _Draw(n, generator)
    n_samples = round(length_s * SAMPLE_RATE)
    time_s = torch.arange(n_samples, device=draw.device)[None] / SAMPLE_RATE
    sound = _RECIPES[drum_class](draw, time_s, articulation)
    sound = _saturate(draw, sound)
    sound = _random_tone(draw, sound)
    sound = sound * (1 - (time_s / length_s) ** 8)
    return 0.9 * sound / sound.abs().amax(dim=1, keepdim=True).clamp_min(1e-6)


def _decay(time_s: Tensor, tau_s: Tensor) -> Tensor:
    return torch.exp(-time_s / tau_s)


def _attack(time_s: Tensor, rise_s: Tensor) -> Tensor:
    return 1 - torch.exp(-time_s / rise_s)


def _swept_sine(draw: _Draw, time_s: Tensor, end_hz: Tensor, start_ratio: Tensor, sweep_s: Tensor) -> Tensor:
    """Return a sine whose frequency falls exponentially from `end_hz * start_ratio` to `end_hz`."""
    cycles = end_hz * (time_s + (start_ratio - 1) * sweep_s * (1 - torch.exp(-time_s / sweep_s)))
    return torch.sin(2 * math.pi * cycles + draw.uniform(0, math.pi / 2))


def _modes(time_s: Tensor, hz: Tensor, tau_s: Tensor, gain: Tensor, phase: Tensor) -> Tensor:
    """Return the sum of decaying sines; hz, tau_s, gain and phase have shape (N, M)."""
    out = torch.zeros(hz.shape[0], time_s.shape[1], device=hz.device)
    for m in range(hz.shape[1]):
        out += (
            gain[:, m : m + 1]
            * torch.sin(2 * math.pi * hz[:, m : m + 1] * time_s + phase[:, m : m + 1])
            * torch.exp(-time_s / tau_s[:, m : m + 1])
        )
    return out


def _band(sound: Tensor, low_hz: Tensor, high_hz: Tensor, slope: float = 2.0) -> Tensor:
    """Return the sound band-passed with smooth flanks; low_hz and high_hz have shape (N, 1)."""
    n_samples = sound.shape[1]
    n_fft = 1 << (n_samples - 1).bit_length()
    hz = torch.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE, device=sound.device)[None].clamp_min(1.0)
    response = 1 / torch.sqrt(1 + (low_hz / hz) ** (2 * slope)) / torch.sqrt(1 + (hz / high_hz) ** (2 * slope))
    return _filtered(sound, response, n_fft)


def _filtered(sound: Tensor, response: Tensor, n_fft: int) -> Tensor:
    """Return the sound (N, T) through a filter of zero phase, response (N, n_fft // 2 + 1)."""
    out: Tensor = torch.fft.irfft(torch.fft.rfft(sound, n_fft) * response, n_fft)[:, : sound.shape[1]]
    return out


def _metal(draw: _Draw, time_s: Tensor, low_hz: float, high_hz: float, tau_s: Tensor) -> Tensor:
    """Return a cluster of inharmonic partials whose higher ones die sooner, or six square waves, by chance."""
    n_partials = 22
    hz = draw.log_uniform(low_hz, high_hz, n_partials)
    tau = tau_s * (hz / low_hz) ** -0.35 * draw.log_uniform(0.4, 2.0, n_partials)
    cluster = _modes(
        time_s, hz, tau, draw.log_uniform(0.2, 1.0, n_partials), draw.uniform(0, 2 * math.pi, n_partials)
    )
    base_hz = draw.log_uniform(200, 900)
    squares = torch.zeros_like(cluster)
    for ratio in (1.0, 1.342, 1.2312, 1.6532, 1.9523, 2.1523):
        detuned = base_hz * ratio * draw.uniform(0.97, 1.03)
        squares += torch.sign(torch.sin(2 * math.pi * detuned * time_s))
    squares = squares * _decay(time_s, tau_s)
    machine = draw.chance(0.3)
    out: Tensor = cluster / n_partials**0.5 * (1 - machine) + 0.3 * squares * machine
    return out


def _burst(
    draw: _Draw,
    time_s: Tensor,
    low_hz: tuple[float, float],
    high_hz: tuple[float, float],
    tau_s: tuple[float, float],
) -> Tensor:
    """Return decaying noise in a band; its edges and time constant are drawn between two values each."""
    noise = draw.noise(time_s.shape[1])
    sound = _band(noise, draw.log_uniform(*low_hz), draw.log_uniform(*high_hz))
    return sound * _decay(time_s, draw.log_uniform(*tau_s))


def _kick(draw: _Draw, time_s: Tensor, articulation: str) -> Tensor:
    end_hz = draw.log_uniform(36, 85)
    body_s = draw.log_uniform(0.04, 0.5)
    body = _swept_sine(draw, time_s, end_hz, draw.log_uniform(1.1, 8), draw.log_uniform(0.004, 0.06))
    body = body * _decay(time_s, body_s) * _attack(time_s, draw.log_uniform(0.0002, 0.003))
    second = _modes(
        time_s,
        end_hz * draw.uniform(1.5, 2.9, 3),
        body_s * draw.uniform(0.2, 0.8, 3),
        draw.uniform(0, 0.35, 3),
        draw.uniform(0, 6.3, 3),
    )
    beater = _burst(draw, time_s, (800, 3000), (3000, 12000), (0.001, 0.012)) * draw.log_uniform(0.02, 1.0)
    shell = _burst(draw, time_s, (60, 200), (250, 2500), (0.02, 0.15)) * draw.log_uniform(0.02, 0.6)
    return body + second + beater + shell * draw.chance(0.7)


def _snare(draw: _Draw, time_s: Tensor, articulation: str) -> Tensor:
    n_samples = time_s.shape[1]
    if articulation == "sidestick":
        hz = draw.log_uniform(350, 2800, 4)
        wood = _modes(
            time_s, hz, draw.log_uniform(0.004, 0.05, 4), draw.uniform(0.3, 1, 4), draw.uniform(0, 6.3, 4)
        )
        knock = _burst(draw, time_s, (600, 1500), (3000, 9000), (0.002, 0.02))
        return wood + knock * draw.uniform(0.2, 1)
    low_hz, high_hz = draw.log_uniform(300, 2500), draw.log_uniform(5000, 16000)
    wires = _band(draw.noise(n_samples), low_hz, high_hz, slope=1.5)
    if articulation == "clap":
        envelope = _decay(time_s, draw.log_uniform(0.03, 0.15)) * draw.uniform(0.4, 1)
        gap_s = draw.uniform(0.006, 0.014)
        for burst in range(4):
            since_s = (time_s - burst * gap_s).clamp_min(0)
            envelope = envelope + torch.exp(-since_s / 0.003) * (time_s >= burst * gap_s)
        return wires * envelope
    if articulation == "brush":
        rise = _attack(time_s, draw.log_uniform(0.001, 0.015))
        wires = wires * rise * _decay(time_s, draw.log_uniform(0.03, 0.2))
        tap = _modes(
            time_s,
            draw.log_uniform(150, 350, 2),
            draw.log_uniform(0.02, 0.08, 2),
            draw.uniform(0, 0.4, 2),
            draw.uniform(0, 6.3, 2),
        )
        return wires + tap
    wire_s = draw.log_uniform(0.03, 0.22)
    wires = wires * (_decay(time_s, wire_s) + draw.uniform(0, 0.2) * _decay(time_s, wire_s * 3))
    head_hz = draw.log_uniform(130, 330)
    ratios = torch.cat((torch.ones_like(head_hz), draw.uniform(1.4, 2.9, 4)), dim=1)
    rim = 1.0 if articulation == "rim" else 0.0
    head = _modes(
        time_s,
        head_hz * ratios * (1 + rim * draw.uniform(0, 1.0, 5)),
        draw.log_uniform(0.02, 0.16, 5),
        draw.uniform(0.1, 0.8, 5),
        draw.uniform(0, 6.3, 5),
    )
    drop = _swept_sine(draw, time_s, head_hz, draw.uniform(1.0, 2.2), draw.log_uniform(0.004, 0.04))
    drop = drop * _decay(time_s, draw.log_uniform(0.03, 0.15)) * draw.chance(0.6)
    crack = _burst(draw, time_s, (1000, 4000), (6000, 18000), (0.001, 0.008)) * draw.uniform(0, 1.5)
    return wires * draw.log_uniform(0.15, 1.6) + 0.7 * head + 0.6 * drop + crack


def _tom(draw: _Draw, time_s: Tensor, articulation: str) -> Tensor:
    low, high = {"high": (130, 300), "mid": (95, 200), "low": (55, 130)}[articulation]
    hz = draw.log_uniform(low, high)
    tau_s = draw.log_uniform(0.07, 0.5)
    body = _swept_sine(draw, time_s, hz, draw.log_uniform(1.0, 2.0), draw.log_uniform(0.01, 0.12))
    body = body * _decay(time_s, tau_s) * _attack(time_s, draw.log_uniform(0.0002, 0.002))
    ratios = torch.tensor([[1.594, 2.136, 2.296, 2.653, 2.918]], device=hz.device)
    overtones = _modes(
        time_s,
        hz * ratios * draw.uniform(0.94, 1.06, 5),
        tau_s * draw.uniform(0.1, 0.6, 5),
        draw.uniform(0, 0.4, 5),
        draw.uniform(0, 6.3, 5),
    )
    stick = _burst(draw, time_s, (700, 3000), (4000, 14000), (0.001, 0.012)) * draw.log_uniform(0.03, 0.7)
    skin = _burst(draw, time_s, (100, 300), (500, 4000), (0.02, 0.2)) * draw.log_uniform(0.02, 0.4)
    buzz = _burst(draw, time_s, (800, 3000), (5000, 12000), (0.05, 0.3)) * draw.log_uniform(0.01, 0.15)
    return body + overtones + stick + skin + buzz * draw.chance(0.4)


def _hi_hat(draw: _Draw, time_s: Tensor, articulation: str) -> Tensor:
    tau_s = {"closed": (0.010, 0.09), "open": (0.15, 0.9), "pedal": (0.010, 0.06)}[articulation]
    tau = draw.log_uniform(*tau_s)
    metal = _metal(draw, time_s, 1800, 14000, tau)
    hiss = draw.noise(time_s.shape[1]) * _decay(time_s, tau * draw.uniform(0.5, 1.2))
    sound = metal * draw.log_uniform(0.1, 1.0) + hiss * draw.log_uniform(0.15, 1.0)
    sound = _band(sound, draw.log_uniform(1500, 8000), draw.log_uniform(9000, 20000), slope=3.0)
    tick = _band(draw.noise(time_s.shape[1]), draw.log_uniform(2000, 6000), draw.log_uniform(8000, 18000))
    sound = sound / sound.abs().amax(dim=1, keepdim=True).clamp_min(1e-6)
    sound = sound + 0.3 * tick * _decay(time_s, draw.log_uniform(0.0005, 0.003)) * draw.uniform(0, 1.0)
    if articulation == "pedal":
        foot = _band(draw.noise(time_s.shape[1]), draw.log_uniform(200, 500), draw.log_uniform(700, 2500))
        sound = sound * _attack(time_s, draw.log_uniform(0.001, 0.006))
        sound = sound + 0.3 * foot * _decay(time_s, draw.log_uniform(0.008, 0.03)) * draw.uniform(0, 1)
    return sound


def _cymbal(draw: _Draw, time_s: Tensor, articulation: str) -> Tensor:
    wash_s, low_hz = {
        "crash": ((0.3, 1.4), (250, 1500)),
        "ride": ((0.3, 1.6), (500, 3000)),
        "bell": ((0.2, 0.8), (500, 2000)),
        "china": ((0.15, 0.8), (250, 1200)),
        "splash": ((0.1, 0.35), (600, 2500)),
    }[articulation]
    tau = draw.log_uniform(*wash_s)
    wash = draw.noise(time_s.shape[1]) * _decay(time_s, tau)
    wash = wash + draw.uniform(0, 1.0) * draw.noise(time_s.shape[1]) * _decay(time_s, tau * 0.15)
    wash = wash * _attack(time_s, draw.log_uniform(0.0005, 0.012))
    metal = _metal(draw, time_s, 400, 12000, tau * draw.uniform(0.5, 1.3))
    sound = _band(wash, draw.log_uniform(*low_hz), draw.log_uniform(8000, 20000), slope=1.5)
    sound = sound / sound.abs().amax(dim=1, keepdim=True).clamp_min(1e-6)
    level = {"crash": 0.3, "ride": 0.6, "bell": 0.5, "china": 0.3, "splash": 0.3}[articulation]
    sound = sound * draw.log_uniform(0.3, 1.2) + metal * draw.log_uniform(0.3 * level, 1.5 * level)
    if articulation in ("ride", "bell"):
        ping_hz = draw.log_uniform(400, 1600, 5) if articulation == "bell" else draw.log_uniform(1500, 7000, 5)
        ping = _modes(
            time_s, ping_hz, draw.log_uniform(0.03, 0.4, 5), draw.uniform(0.1, 0.5, 5), draw.uniform(0, 6.3, 5)
        )
        stick = _burst(draw, time_s, (2000, 5000), (7000, 16000), (0.001, 0.006)) * draw.uniform(0.2, 1.2)
        sound = sound * draw.log_uniform(0.1, 0.7) + ping * draw.uniform(0.2, 1.0) + stick
    return sound


def _saturate(draw: _Draw, sound: Tensor) -> Tensor:
    """Return the sound driven into a soft clipper; three in ten are driven hard."""
    sound = sound / sound.abs().amax(dim=1, keepdim=True).clamp_min(1e-6)
    drive = 1 + draw.chance(0.3) * draw.log_uniform(0.5, 12.0)
    return torch.tanh(drive * sound) / torch.tanh(drive)


def _random_tone(draw: _Draw, sound: Tensor) -> Tensor:
    """Return the sound with a smooth random tone curve of up to about 9 dB and a random upper band limit."""
    n_samples = sound.shape[1]
    n_fft = 1 << (n_samples - 1).bit_length()
    hz = torch.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE, device=sound.device)[None].clamp_min(20.0)
    octaves = torch.log2(hz / 20.0)
    curve_db = torch.zeros_like(octaves)
    for _ in range(3):
        centre, width = draw.uniform(0, 10), draw.uniform(0.6, 2.5)
        curve_db = curve_db + draw.uniform(-6, 6) * torch.exp(-0.5 * ((octaves - centre) / width) ** 2)
    top_hz = draw.log_uniform(6000, 40000)
    response = 10 ** (curve_db / 20) / torch.sqrt(1 + (hz / top_hz) ** 8)
    return _filtered(sound, response, n_fft)


_RECIPES: dict[str, Callable[[_Draw, Tensor, str], Tensor]] = {
    "KD": _kick,
    "SD": _snare,
    "TT": _tom,
    "HH": _hi_hat,
    "CY": _cymbal,
}
