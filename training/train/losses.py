"""What a codec is judged by in training: spectra of many scales, attacks, silence before them, latents.

Audio is (B, T). Every term is finite and has a finite gradient for silence, in the output and in the target.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.kits import SAMPLE_RATE
from transform.codec import Encoded, GeneratorNet
from transform.features import mel_filters
from transform.noise import Noise
from transform.pqmf import Pqmf
from transform.rhythm_transformer import Transformed

_MEL_BANDS = {2048: 320, 1024: 160, 512: 80, 256: 40, 128: 20, 64: 10, 32: 5}  # by window
_LINEAR_WINDOWS = (2048, 1024, 512, 256, 128)
_BAND_WINDOWS = (64, 16)  # band samples, 1024 and 256 samples of audio
_LOCKED = 2  # of the bands, below 2.8 kHz: their waveform is judged of generators that foretell all phases
_NOISE_WINDOW, _NOISE_HOP = 512, 128  # of the spectra whose powers are averaged where highs are noise
_AVERAGED = (3, 5)  # frames and bins
_NOISE_FLOOR = 1e-9  # mean power of a sample, full scale being 1: -90 dB
_FLOOR = 1e-4  # magnitudes are distinguished down to -80 dB of a full-scale sine
_WAVE_HZ = 700.0  # up to here the waveform is judged of generators that make noise: above it taught silence
_POWER_HZ, _HIGH_HZ = 500.0, 2_000.0  # from here on their powers are judged, in two regions that weigh the same
_CUT_WIDTH = 0.2  # of the frequency below which a waveform is judged: there the response falls to 0
_SILENCE = 1e-4  # root mean square of magnitudes: relative errors are taken against at least this
FRAME = 44  # samples, 1 ms: the frames of envelopes
_BEFORE, _AFTER = 10, 20  # frames of an envelope around an onset
_MASKED_DB = 50.0  # what is so far below the sound after an onset is inaudible before it


class SpectralLoss(nn.Module):
    """Distances of spectra: mel, linear and log, over the full band and within the bands of the filter bank.

    Seven scales of mel spectra after Kumar et al. (DAC, NeurIPS 2023); relative error plus difference of logs
    at five of them after Yamamoto et al. (ICASSP 2020), and within bands after Caillon and Esling (RAVE, 2021).
    Spectra are blind to phase and polarity, on which the attack of a kick depends, and all that is mixed with
    the recording: so the waveform of the lowest bands is judged too. Above them it would only teach
    silence where noise cannot be predicted.

    A generator whose highs are noise is judged by the distribution of what it makes (spectral energy distance,
    Gritsenko et al., NeurIPS 2020): for outputs y1 and y2 with two noises half of
    d(x, y1) + d(x, y2) - d(y1, y2). Below the noise they are the same, which leaves the distances above.
    Relative errors, whose norm does not divide into bins, would reward highs that scatter the more the lows are
    wrong: they are taken below the noise alone. "noise" compares logarithms of powers averaged over 5 bins and
    3 frames, down to -90 dB, from 500 Hz on; those up to 2 kHz weigh as much as those above, as there snares
    and toms are half noise, and judged by their waveform they became 6 dB too soft.

    All use the same transforms, Hann windows every half of their length: segments are cut anywhere, so no
    sample always lies between two windows.
    """

    def __init__(self, noise_from_hz: float = 0.0) -> None:
        """Take from where on outputs are noise; 0: nowhere."""
        super().__init__()
        self.noise_from_hz = noise_from_hz
        self.pqmf = Pqmf()
        band_hz = SAMPLE_RATE / 2 / self.pqmf.n_bands
        self.n_phased = int(noise_from_hz // band_hz) if noise_from_hz else self.pqmf.n_bands
        for window, n_bands in _MEL_BANDS.items():
            self.register_buffer(f"mel_{window}", _filters(window, n_bands), persistent=False)
        for window in {*_MEL_BANDS, *_BAND_WINDOWS}:
            self.register_buffer(f"window_{window}", torch.hann_window(window), persistent=False)

    def forward(self, output: Tensor, target: Tensor, other: Tensor | None = None) -> dict[str, Tensor]:
        """Return the terms "mel", "stft", "bands" and "wave" of an output (B, T); T is a multiple of 16.

        Args:
            output: what is judged.
            target: what it should be.
            other: the same with another noise, where there is one; "noise" is then among the terms.
        """
        mel, stft = output.new_zeros(()), output.new_zeros(())
        for window in _MEL_BANDS:
            ours, *fixed = self._compared(output, target, other, window)
            filters = getattr(self, f"mel_{window}")
            mel = mel + _log_distance(ours @ filters, *(one @ filters for one in fixed))
            if window in _LINEAR_WINDOWS:
                n = self._n_phased_bins(window, ours.shape[-1])
                stft = stft + _relative_error(ours[..., :n], fixed[0][..., :n]) + _log_distance(ours, *fixed)
        bands = output.new_zeros(())
        split, split_target, *rest = (self.pqmf.analyse(x) for x in (output, target, other) if x is not None)
        split_other, n = rest[0] if rest else None, self.n_phased
        for window in _BAND_WINDOWS:
            ours, *fixed = self._compared(split, split_target, split_other, window)
            bands = bands + _log_distance(ours, *fixed)
            if n:
                bands = bands + _relative_error(ours[:, :n], fixed[0][:, :n])
        locked = [x[:, :_LOCKED] for x in (split, split_target)]
        if self.noise_from_hz:
            locked = [_below(x, min(_WAVE_HZ, self.noise_from_hz))[:, None] for x in (output, target)]
        terms = {
            "mel": mel / len(_MEL_BANDS),
            "stft": stft / len(_LINEAR_WINDOWS),
            "bands": bands / len(_BAND_WINDOWS),
            "wave": _relative_error(*locked),
        }
        if other is not None:
            terms["noise"] = self._noise_distance(output, target, other)
        return terms

    def _compared(self, output: Tensor, target: Tensor, other: Tensor | None, window: int) -> list[Tensor]:
        """Return magnitudes of an output, and without gradients those of what it is compared with."""
        ours = self._magnitudes(output, window)
        with torch.no_grad():
            return [ours, *(self._magnitudes(x, window) for x in (target, other) if x is not None)]

    def _n_phased_bins(self, window: int, n_bins: int) -> int:
        """Return how many of the bins of a window lie below the noise."""
        return max(1, int(self.noise_from_hz * window / SAMPLE_RATE)) if self.noise_from_hz else n_bins

    def _noise_distance(self, output: Tensor, target: Tensor, other: Tensor) -> Tensor:
        """Return the energy distance of the logarithms of averaged powers, half of it from 500 Hz to 2 kHz."""
        first, middle = (1 + int(hz * _NOISE_WINDOW / SAMPLE_RATE) for hz in (_POWER_HZ, _HIGH_HZ))
        window = getattr(self, f"window_{_NOISE_WINDOW}")

        def levels(audio: Tensor) -> tuple[Tensor, Tensor]:
            frames = audio.unfold(-1, _NOISE_WINDOW, _NOISE_HOP) * window
            spectra = torch.fft.rfft(frames)
            power = (spectra.real.square() + spectra.imag.square()) / window.square().sum()
            regions = power[..., first:middle], power[..., middle:]
            averages = (functional.avg_pool2d(region, _AVERAGED, stride=1) for region in regions)
            return tuple(torch.log(average + _NOISE_FLOOR) for average in averages)  # type: ignore[return-value]

        ours = levels(output)
        with torch.no_grad():
            theirs, others = levels(target), levels(other)
        distances = [
            _energy((own - true).abs().mean(), (own - rival).abs().mean())
            for own, true, rival in zip(ours, theirs, others, strict=True)
        ]
        return 0.5 * torch.stack(distances).sum()

    def _magnitudes(self, audio: Tensor, window: int) -> Tensor:
        """Return magnitudes (..., F, K) of audio (..., T); 1 is a full-scale sine in the middle of a bin."""
        shape = getattr(self, f"window_{window}") / (window / 4)
        half = window // 2
        padded = functional.pad(audio, (half, half + -audio.shape[-1] % half))
        halves = padded.reshape(*audio.shape[:-1], -1, half)
        spectra = torch.fft.rfft(torch.cat((halves[..., :-1, :], halves[..., 1:, :]), dim=-1) * shape)
        return torch.sqrt(spectra.real.square() + spectra.imag.square() + 1e-2 * _FLOOR**2)


def _below(audio: Tensor, cut_hz: float) -> Tensor:
    """Return audio (B, T) without what lies above a frequency."""
    spectra = torch.fft.rfft(audio, 2 * audio.shape[-1])
    hz = torch.fft.rfftfreq(2 * audio.shape[-1], 1 / SAMPLE_RATE, device=audio.device)
    response = ((cut_hz - hz) / (_CUT_WIDTH * cut_hz)).clamp(0, 1)
    sound: Tensor = torch.fft.irfft(spectra * response, 2 * audio.shape[-1])
    return sound[..., : audio.shape[-1]]


@cache
def _filters(window: int, n_bands: int) -> Tensor:
    return mel_filters(window, n_bands, 0.0, SAMPLE_RATE / 2)


def _log_distance(ours: Tensor, theirs: Tensor, others: Tensor | None = None) -> Tensor:
    """Return the mean absolute difference of magnitudes' logarithms, or with others an energy distance."""
    levels = torch.log(ours + _FLOOR)
    distance = (levels - torch.log(theirs + _FLOOR)).abs().mean()
    return distance if others is None else _energy(distance, (levels - torch.log(others + _FLOOR)).abs().mean())


def _energy(to_target: Tensor, to_other: Tensor) -> Tensor:
    """Return half of d(x, y1) + d(x, y2) - d(y1, y2), in expectation, with that half's gradient.

    y2, of which nothing is learned, is y1 with another noise: by symmetry y1 has half of the gradient of
    d(y1, y2), so that it counts once, and not a half.
    """
    return to_target - to_other + 0.5 * to_other.detach()


def _relative_error(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the norm of the error of values (..., F, K) against the target's, mean over all else.

    Where ours are the larger they are the measure, or quiet recordings would count for all others together.
    """
    error, found, whole = (x.flatten(-2).norm(dim=-1) for x in (ours - theirs, ours.detach(), theirs))
    quietest = _SILENCE * math.sqrt(theirs.shape[-2] * theirs.shape[-1])
    ratio: Tensor = error / torch.maximum(found, whole).clamp_min(quietest)
    return ratio.mean()


def attack_losses(
    output: Tensor, target: Tensor, onsets: Tensor, other: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the terms "attack" and "pre_echo" of an output (B, T), zero where no onset is known.

    "attack" is the mean absolute difference, in nepers, of the levels of 1-ms frames from 10 ms before each
    onset to 20 ms after it. "pre_echo" is by how many tens of decibels the 10 ms before it are louder than the
    target's, or than 50 dB below what follows, whichever is louder; what is softer costs nothing.

    Args:
        output: what is judged.
        target: what it should be.
        onsets: known onsets (B, N) in samples; -1 stands for none.
        other: the output with another noise, where there is one: "attack" is then an energy distance.
    """
    ours, theirs = envelope(output), envelope(target)
    n_frames = ours.shape[1]
    middle = torch.div(onsets, FRAME, rounding_mode="floor")
    is_known = (onsets >= 0) & (middle >= _BEFORE + 1) & (middle + _AFTER < n_frames)
    if not bool(is_known.any()):
        return {"attack": (output * 0).sum(), "pre_echo": (output * 0).sum()}
    item, place = torch.nonzero(is_known, as_tuple=True)
    frames = middle[item, place][:, None] + torch.arange(-_BEFORE - 1, _AFTER, device=onsets.device)
    found, goal = ours[item[:, None], frames], theirs[item[:, None], frames]  # (N, 31)
    levels = 0.5 * torch.log(found + _FLOOR**2)[:, 1:]
    attack = (levels - 0.5 * torch.log(goal + _FLOOR**2)[:, 1:]).abs().mean()
    if other is not None:
        rival = envelope(other.detach())[item[:, None], frames]
        attack = _energy(attack, (levels - 0.5 * torch.log(rival + _FLOOR**2)[:, 1:]).abs().mean())
    # The frame before the onset's is left out: the onset may be at its very beginning.
    before, goal_before = found[:, :_BEFORE].mean(dim=1), goal[:, :_BEFORE].mean(dim=1)
    masked = goal[:, _BEFORE + 1 :].mean(dim=1) * 10 ** (-_MASKED_DB / 10)
    allowed = torch.maximum(goal_before, masked) + _FLOOR**2
    pre_echo = functional.relu(torch.log10((before + _FLOOR**2) / allowed)).mean()
    return {"attack": attack, "pre_echo": pre_echo}


def with_noises(
    generator: GeneratorNet, latents: Tensor, step: int, first_frame: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Return the audio (B, T) of latents, and the same with another noise, where highs are noise.

    Every step and every item has noise of its own.
    """
    if not generator.config.noise_from_hz:
        return generator.sounds(latents, (Noise(),), first_frame)[0], None
    noises = [Noise(seed=2 * step + k, coherence=(0.0,)) for k in range(2)]
    output, other = generator.sounds(latents, noises, first_frame)
    return output, other.detach()


def envelope(audio: Tensor) -> Tensor:
    """Return the mean squares (B, T // 44) of 1-ms frames."""
    n_frames = audio.shape[-1] // FRAME
    frames = audio[..., : n_frames * FRAME].reshape(*audio.shape[:-1], n_frames, FRAME)
    return frames.square().mean(dim=-1)


def divergence(encoded: Encoded | Transformed) -> Tensor:
    """Return the Kullback-Leibler divergence of latents from a unit normal, by channel (D,), in nats."""
    mu, variance = encoded.mu, encoded.sigma.square()
    return 0.5 * (mu.square() + variance - 1 - torch.log(variance)).mean(dim=(0, 2))


def divergence_weight(step: int, *, first: float, last: float, warm_up: int) -> float:
    """Return the weight of the divergence at a step: from `first` to `last` in equal ratios, then `last`."""
    done = min(1.0, step / max(1, warm_up))
    return float(first * (last / first) ** done)
