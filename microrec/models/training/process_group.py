"""A fit in one of several processes: it joins their group, fits with the others, and leaves.

torch is imported when a process joins: jobs name this function without paying for it.
"""

from dataclasses import replace
from typing import Any, cast

import numpy as np
from pydantic import BaseModel

from microrec.core.fitted import Trained
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.training.runtime import Runtime


def fit(
    model: str, graph: Graph, config: BaseModel, rng: np.random.Generator, runtime: Runtime
) -> Trained:
    """Fit a model together with the other processes that torchrun has started.

    Every process is given the same and finds the same. Gradients travel by nccl between
    accelerators, one to a process, and by gloo otherwise.

    Args:
        model: name of one that trains in epochs
        graph: what is learned from
        config: how
        rng: source of every draw; of equal state in all processes
        runtime: as for one process; device `cuda` is this process's own accelerator

    Returns:
        What the model's `fit` returns, the same in every process.
    """
    import torch
    from torch import distributed

    accelerated = runtime.device.startswith("cuda")
    if accelerated:
        runtime = replace(runtime, device=f"cuda:{distributed.get_node_local_rank()}")
        torch.cuda.set_device(runtime.device)
    distributed.init_process_group("nccl" if accelerated else "gloo")
    try:
        module = cast(Any, registry.model(model))
        trained: Trained = module.fit(graph, config, rng, runtime=runtime)
    finally:
        distributed.destroy_process_group()
    return trained
