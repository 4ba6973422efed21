"""Several processes of one torch.distributed group, started by Spark's `TorchDistributor`.

Where Spark is one machine (`local[*]`) the processes are here; on a cluster each is a task, and all
must find room at once (a barrier stage). Whatever they run is pickled with its arguments, once, and
read by each of them: a graph costs 40 bytes an edge, up to three times over in a trial, and its
vectors, on the driver's disk (on a cluster: through a broadcast) and in every process. The result
comes back by way of the driver, on a cluster within `spark.driver.maxResultSize`.

What listens: on one machine gradients travel over the loopback. Not so torchrun, which while it
runs meets its processes on two ports of all interfaces and takes pickles there (torch 2.13 has no
option for it); on a cluster Spark's collector of logs does so too. A training of several processes
is for machines behind a firewall.

Accelerators: Spark must have been told of them (`spark.driver.resource.gpu.amount` on one machine,
`spark.task.resource.gpu.amount` = 1 on a cluster; `MICROREC_SPARK_OPTIONS`).
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import BaseModel

from microrec.config.settings import settings
from microrec.core.fitted import Trained
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.training import process_group
from microrec.models.training.runtime import Runtime
from microrec.runner import job, lifeline

ResultT = TypeVar("ResultT")


def fit(
    model: str, graph: Graph, config: BaseModel, rng: np.random.Generator, runtime: Runtime
) -> Trained:
    """Fit a model; one that trains in epochs in as many processes as the settings say.

    Args:
        model: its name.
        graph: what is learned from.
        config: of the model.
        rng: source of every draw.
        runtime: where a model that trains in epochs runs, and from where it goes on.

    Returns:
        The fitted model and the report of its training.
    """
    module = registry.model(model)
    processes = settings().train_processes
    if not registry.card(model).trains_in_epochs:
        return module.fit(graph, config, rng)
    if processes == 1:
        trained: Trained = cast(Any, module).fit(graph, config, rng, runtime=runtime)
        return trained
    gpu = runtime.device.startswith("cuda")
    return run(process_group.fit, model, graph, config, rng, runtime, processes=processes, gpu=gpu)


def run(function: Callable[..., ResultT], *args: Any, processes: int, gpu: bool) -> ResultT:
    """Call a function in several processes that torchrun has given a rank.

    Args:
        function: what each of them calls; importable there.
        *args: its arguments.
        processes: how many.
        gpu: whether each has an accelerator.

    Returns:
        The result of the first process.
    """
    # Here, not above: a night on one process never waits for pyspark.
    from pyspark.ml.torch.distributor import TorchDistributor

    from microrec.spark.session import session

    master = str(session().conf.get("spark.master"))
    here = master == "local" or master.startswith("local[")
    distributor = TorchDistributor(processes, local_mode=here, use_gpu=gpu)
    variables = _of_one_machine(processes) if here else {}
    # What the processes log comes by way of this one's standard output; logs belong on the other.
    with _environment(variables), contextlib.redirect_stdout(sys.stderr):
        return cast(ResultT, distributor.run(_in_process, function, *args))


def _in_process(function: Callable[..., ResultT], *args: Any) -> ResultT | None:
    """What a process does: the first one of the group tells of it, and has the result."""
    lifeline.end_with(os.getppid())
    first = os.environ["RANK"] == "0"
    if first:
        job.configure_logs()
    result = function(*args)
    if os.environ["LOCAL_RANK"] != "0":
        # TorchDistributor has all processes of a machine write their results to one file.
        raise SystemExit(0)
    return result if first else None


def _of_one_machine(processes: int) -> dict[str, str]:
    """Variables for processes on this machine, which inherit them."""
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    return {
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
        # torchrun would give each one thread.
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def _environment(defaults: dict[str, str]) -> Iterator[None]:
    """The environment with variables that are not in it yet, for as long as it takes."""
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
