"""The evaluation transcriber: it transcribes what the benchmark scores, and is used for nothing else.

The transcriber that Redrum uses must not judge what Redrum plays. So the judge is another network (recurrent,
where transform/transcriber.py is convolutional in time), with other features and another seed (of the weights,
the segments and the procedural drums). It is trained by the same code on the same side of the split.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from torch import Tensor, nn

from transform.errors import CheckpointError
from transform.events import CLASSES
from transform.features import FeatureSettings
from transform.transcriber import Transcriber, TranscriberConfig, TranscriberNet
from transform.weights import load_net

MODEL = "evaluation-transcriber"  # in the header of its weights
WEIGHTS_NAME = "transcriber-evaluation.safetensors"
REMAKE = "redrum train evaluation-transcriber --data PACK --out RUN --export presets/evaluation"

EVALUATION_CONFIG = TranscriberConfig(
    features=FeatureSettings(windows=(3072, 768), n_bands=64, low_hz=40.0, high_hz=16_000.0),
    widths=(32, 32, 64, 64),
    d_model=160,  # of the recurrent layer, in each direction
    dilations=(),  # there are no temporal convolutions
)


class EvaluationNet(TranscriberNet):
    """Features (B, C, F, K) -> logits (B, 16, F), as of `TranscriberNet`; 0.5 million parameters.

    2-D convolutions that look across bands more than across time, then a bidirectional GRU.
    """

    def __init__(self, config: TranscriberConfig) -> None:
        super().__init__(config)
        w1, w2, w3, w4 = config.widths
        layers: list[nn.Module] = []
        for n_in, n_out, kernel, pool in (
            (config.features.n_channels, w1, (3, 7), 2),
            (w1, w2, (3, 5), 2),
            (w2, w3, (3, 3), 2),
            (w3, w4, (3, 3), 1),
        ):
            padding = kernel[0] // 2, kernel[1] // 2
            layers += [nn.Conv2d(n_in, n_out, kernel, padding=padding, bias=False), nn.BatchNorm2d(n_out)]
            layers += [nn.ReLU(), nn.MaxPool2d((1, pool))] if pool > 1 else [nn.ReLU()]
        self.spectral = nn.Sequential(*layers, nn.Dropout2d(0.1))
        self.project = nn.Sequential(
            nn.Conv1d(w4 * (config.features.n_bands // 8), config.d_model, 1), nn.ReLU()
        )
        self.recurrent = nn.GRU(config.d_model, config.d_model, batch_first=True, bidirectional=True)
        self.head = nn.Conv1d(2 * config.d_model, 3 * len(CLASSES) + 1, 1)

    @property
    def context_frames(self) -> int:
        """How many frames to either side matter: all, but hardly any beyond 3 s."""
        return 300

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, 16, F) of features (B, C, F, K)."""
        x = self.spectral(features)  # (B, C', F, K')
        x = self.project(x.permute(0, 1, 3, 2).flatten(1, 2))
        x, _ = self.recurrent(x.transpose(1, 2))
        logits: Tensor = self.head(x.transpose(1, 2))
        return logits


def shipped_weights() -> Path:
    """Return where the evaluation transcriber's weights are shipped."""
    return Path(str(files("presets"))) / "evaluation" / WEIGHTS_NAME


def load_evaluation_transcriber(path: Path | None = None, *, device: str = "cpu") -> Transcriber:
    """Return the evaluation transcriber of a weights file, the shipped one without a path.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    path = path or shipped_weights()
    if not path.exists():
        raise CheckpointError(
            f"the evaluation transcriber is missing: {path}", hint=f"train it with `{REMAKE}`"
        )
    net = load_net(path, MODEL, TranscriberConfig, EvaluationNet, hint=f"remake it: `{REMAKE}`")
    return Transcriber(net, device=device)
