"""The state of a training between two epochs, so that one that was interrupted goes on.

One safetensors file: parameters, the best ones so far, the optimizer's moments, the generator. It is
replaced by a rename after each epoch; whoever is killed while writing leaves the epoch before. A
file of other data, configuration or seed has another fingerprint and is not taken.
"""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

logger = logging.getLogger(__name__)


def fingerprint(words: Iterable[str], arrays: Iterable[Any]) -> str:
    """Return the SHA-256 of what a training depends on.

    Args:
        words: names, seeds, configurations
        arrays: arrays, or dataclasses and mappings of them at any depth

    Returns:
        64 hexadecimal characters.
    """
    total = hashlib.sha256("\0".join(words).encode())
    for array in arrays:
        _digest(array, total)
    return total.hexdigest()


def _digest(part: Any, total: Any) -> None:
    """Add a part to the digest, its names, types and shapes included: no two read the same."""
    if dataclasses.is_dataclass(part):
        part = vars(part)
    if isinstance(part, Mapping):
        total.update(f"{{{len(part)}".encode())
        for name in sorted(part):
            total.update(f"{name}:".encode())
            _digest(part[name], total)
    elif isinstance(part, np.ndarray):
        total.update(f"{part.dtype}{part.shape}".encode() + part.tobytes())
    else:
        total.update(f"{part!r},".encode())


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A place to leave the state of one training."""

    path: Path
    fingerprint: str

    def save(
        self,
        tensors: Mapping[str, Mapping[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        history: Any,
    ) -> None:
        """Write the state.

        Args:
            tensors: named groups of named tensors, [n, ...] each
            optimizer: whose moments are kept
            history: a dataclass of what JSON has
        """
        flat = {f"{kind}/{name}": t for kind, of in tensors.items() for name, t in of.items()}
        for index, state in optimizer.state_dict()["state"].items():
            flat |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
        header = {
            "fingerprint": self.fingerprint,
            "history": json.dumps(dataclasses.asdict(history)),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        staged = self.path.with_suffix(f".{os.getpid()}.staged")
        # Copies: safetensors refuses tensors that share memory, as the best and the current ones may.
        save_file({name: t.detach().cpu().clone() for name, t in flat.items()}, staged, header)
        os.replace(staged, self.path)

    def load(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        """Return the tensors, [n, ...] each, by kind and the history; None where there is nothing to go on from."""
        if not self.path.exists():
            return None
        with safe_open(self.path, framework="pt") as file:
            header = file.metadata()
            if header["fingerprint"] != self.fingerprint:
                logger.info("checkpoint=%s not taken: of another training", self.path)
                return None
            tensors: dict[str, dict[str, Tensor]] = {}
            for name in file.keys():  # noqa: SIM118 - not a mapping
                kind, rest = name.split("/", 1)
                tensors.setdefault(kind, {})[rest] = file.get_tensor(name)
        history = json.loads(header["history"])
        logger.info("checkpoint=%s epoch=%d", self.path, len(history["losses"]))
        return tensors, history


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer the moments that `Checkpoint.save` kept.

    Args:
        optimizer: of the same parameters.
        tensors: moments by name, each of its parameter's shape [n, ...].
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split("/", 1)
        state.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
