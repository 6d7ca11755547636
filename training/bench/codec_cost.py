"""What a preset's codec costs: its parameters, and multiplications a second of sound."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from transform.audio import SAMPLE_RATE
from transform.codec import Codec, load_encoder, load_generator
from transform.presets import Preset

_COUNTED_S = 24  # several blocks, so what is coded twice where they overlap counts too


def codec_costs(preset: Preset) -> list[dict[str, Any]]:
    """Return a row for the encoder and one for the generator: parameters, and GMAC a second of one channel.

    A MAC is a multiplication with its addition, in convolutions and products of matrices; the generator of
    `hires` does Fourier transforms besides, which are not counted.

    Raises:
        CheckpointError: the preset has no codec, or a weights file is damaged.
    """
    nets = load_encoder(preset.weights("codec-encoder")), load_generator(preset.weights("codec-generator"))
    codec, n_samples = Codec(*nets), _COUNTED_S * SAMPLE_RATE
    with FlopCounterMode(display=False) as encoding:
        latents = codec.encode(torch.zeros(1, n_samples)).mu
    with FlopCounterMode(display=False) as decoding:
        codec.decode(latents, n_samples)
    return [
        {
            "codec": name,
            "parameters": sum(parameter.numel() for parameter in net.parameters()),
            "gmac_a_second": counter.get_total_flops() / 2 / 1e9 / _COUNTED_S,
        }
        for name, net, counter in zip(("encoder", "generator"), nets, (encoding, decoding), strict=True)
    ]
