"""Data-parallel training: each process of a torch group learns from its share of every batch.

Every process has the whole model and graph and draws the same batches; gradients are added up over
the processes, so all take the same step.

Without a group there is one process, and its share is everything. The group is made by whoever
starts the processes (Spark's `TorchDistributor`, `torchrun`): see `microrec/runner/processes.py`.
"""

from collections.abc import Iterable

import torch
import torch.distributed as group
from torch import Tensor


def rank() -> int:
    """Return the number of this process, from 0."""
    return group.get_rank() if _in_group() else 0


def share() -> slice:
    """Return the part of a batch that this process learns from."""
    return slice(rank(), None, group.get_world_size() if _in_group() else 1)


def add_up(tensors: Iterable[Tensor]) -> None:
    """Sum each tensor, [n, ...], over the processes, in place, to the same bits in all of them."""
    if _in_group():
        for tensor in tensors:
            group.all_reduce(tensor)


def add_up_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum of the gradients over the processes; a parameter that one process did not use counts 0."""
    if not _in_group():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        group.all_reduce(parameter.grad)


def agreed(value: float) -> float:
    """Return the first process's value, for decisions that all must take alike."""
    if not _in_group():
        return value
    tensor = torch.tensor([value], dtype=torch.float64, device=_device())
    group.broadcast(tensor, src=0)
    return tensor.item()


def _device() -> str:
    """Where a group's backend finds its tensors."""
    return "cuda" if group.get_backend() == "nccl" else "cpu"


def _in_group() -> bool:
    """Whether there are other processes."""
    return group.is_available() and group.is_initialized()
