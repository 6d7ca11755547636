"""Weights files: safetensors with the model's name and its configuration in the header."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from transform.errors import CheckpointError, SettingsError
from transform.features import FeatureSettings
from transform.files import open_plain, read_bytes
from transform.presets import LARGEST_WEIGHTS_BYTES

_LARGEST_WEIGHT = 65_504.0  # what half precision holds, in which weights are written
_KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool)
_LARGEST_HEADER_BYTES = 2**20  # a model of Redrum has 40 kB
_LONGEST_CONFIG, _LONGEST_SHOWN = 2**16, 200  # characters
_WITHDRAWN = "n_places"  # of rhythm transformers: 0, or one that no version plays any more

_Config = TypeVar("_Config")
_Net = TypeVar("_Net", bound=nn.Module)


def config_to_json(config: Any) -> str:
    """Return a model's configuration, a dataclass, as it is written into the header of a weights file."""
    return json.dumps(asdict(config))


def config_from_json(text: str, make_config: Callable[..., _Config]) -> _Config:
    """Return the configuration in the header of a weights file.

    Args:
        text: what `config_to_json` wrote.
        make_config: the dataclass; a field `features` holds `FeatureSettings`.

    Raises:
        CheckpointError: a key that is unknown to this version, or a value of the wrong kind.
    """
    try:
        if len(text) > _LONGEST_CONFIG:
            raise ValueError(f"it has {len(text):,} characters")
        values: dict[str, Any] = json.loads(text)
        if n_places := values.pop(_WITHDRAWN, 0):
            raise ValueError(f"it is for banks aligned to attacks ({_WITHDRAWN} is {n_places}), which are gone")
        if "features" in values:
            values["features"] = FeatureSettings(**_checked(values["features"], FeatureSettings))
        return make_config(**_checked(values, make_config))
    except (
        ArithmeticError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        SettingsError,
    ) as err:
        raise CheckpointError(
            f"the model's configuration cannot be read: {str(err)[:_LONGEST_SHOWN]}",
            hint="update Redrum, or use its own preset",
        ) from err


def load_net(
    path: Path,
    model: str,
    make_config: Callable[..., _Config],
    make_net: Callable[[_Config], _Net],
    *,
    hint: str = "install Redrum again",
) -> _Net:
    """Return the network of a weights file, in evaluation mode.

    Args:
        path: the file.
        model: the model that the file's header must name.
        make_config: its configuration's dataclass.
        make_net: the network of a configuration.
        hint: what to do when the file is of no use.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    metadata, weights = read_weights(path, hint=hint)
    if metadata.get("model") != model:
        article, found = "an" if model[0] in "aeiou" else "a", metadata.get("model")
        what = "names no model, so it is" if found is None else f"holds a {found!r},"
        raise CheckpointError(f"{path} {what} not {article} {model}", hint=hint)
    config = config_from_json(metadata.get("config", ""), make_config)
    try:
        with _WithoutWeights():
            net = make_net(config)
        _require_shapes(net, weights)
        net.load_state_dict(weights, assign=True)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as err:
        why = (str(err) or type(err).__name__).splitlines()[0]
        raise CheckpointError(f"{path} does not fit its own configuration: {why}", hint=hint) from err
    assert not any(tensor.is_meta for tensor in (*net.parameters(), *net.buffers())), "a buffer has no values"
    return net.eval()


def read_weights(path: Path, *, hint: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the header of a weights file, and its tensors, in single precision.

    Raises:
        CheckpointError: the file is missing or damaged, or has numbers that no network learns.
    """
    try:
        with open_plain(path) as head:
            n_bytes = int.from_bytes(head.read(8), "little")
            if n_bytes > _LARGEST_HEADER_BYTES:
                raise CheckpointError(
                    f"{path} is no readable weights file: its header has {n_bytes:,} bytes", hint=hint
                )
            header = head.read(n_bytes)
        # Not from the path, which safetensors takes only in UTF-8.
        stored = load(read_bytes(path, most=LARGEST_WEIGHTS_BYTES))
        metadata = json.loads(header).get("__metadata__") or {}
    except (SafetensorError, OSError, ValueError) as err:
        raise CheckpointError(f"{path} is no readable weights file", hint=hint) from err
    weights = {}
    for name, tensor in stored.items():
        if tensor.dtype not in _KINDS:
            raise CheckpointError(
                f"{path} has weights of a kind that no model has, {tensor.dtype}: {name[:80]}", hint=hint
            )
        # Copies also of what is float32 already: as it was read it may lie in the file, which must be free.
        weights[name] = tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        if tensor.is_floating_point() and not _is_within(weights[name], _LARGEST_WEIGHT):
            raise CheckpointError(
                f"{path} has weights that are no numbers, or above {_LARGEST_WEIGHT:,.0f}: {name[:80]}",
                hint=hint,
            )
    return metadata, weights


def require_numbers(out: Tensor, model: str, *, most: float = torch.finfo(torch.float32).max) -> None:
    """Raise CheckpointError if a network of a preset puts out NaN, infinity or more than `most`.

    Any weights may do so: what sums of products of them come to is only certain when they are computed.
    """
    if not _is_within(out, most):
        raise CheckpointError(
            f"the preset's {model} computes numbers that are no sound", hint="use another preset"
        )


def _is_within(tensor: Tensor, most: float) -> bool:
    """Return whether all numbers lie within -most and most, which no NaN does."""
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)
    return bool(low >= -most and high <= most)


class _WithoutWeights(TorchFunctionMode):
    """Networks made in it have no weights yet, only their shapes: those to come need not be drawn first.

    A configuration of billions of weights takes no memory before it is refused. What a network computes is
    there, as only what is filled with one value is left out. PyTorch's own `torch.device("meta")` would leave
    out that, too, and compute shapes in Python, for which it imports its compiler: more than a second.
    """

    _FILLED = frozenset((torch.empty, torch.zeros, torch.ones, torch.full))
    _IN_PLACE = frozenset((Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_, Tensor.mul_))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in self._FILLED:
            kwargs["device"] = "meta"
        elif func in self._IN_PLACE and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


def fingerprint(net: nn.Module) -> str:
    """Return a hash of a network's weights, as they are on disk: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        stored = value.half() if value.dtype.is_floating_point else value
        digest.update(name.encode() + stored.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _require_shapes(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless weights are those of a network, which may have no memory of its own."""
    expected = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(f"{name} has the shape {found.get(name)} instead of {expected.get(name)}")


def _checked(values: dict[str, Any], make_config: Callable[..., Any]) -> dict[str, Any]:
    """Return a configuration's values, lists as tuples, of the kinds of their defaults.

    No count is below 1, but where the default is 0.
    """
    checked = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in checked.items():
        default = getattr(make_config, key, None)
        if default is not None and not _is_alike(value, default):
            raise ValueError(f"{key} is {str(value)[:40]}")
    return checked


def _is_alike(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_is_alike(one, default[0]) for one in value)
    if isinstance(default, float):
        return isinstance(value, int | float) and math.isfinite(value) and not isinstance(value, bool)
    return type(value) is type(default) and (type(value) is not int or value >= min(1, default))
