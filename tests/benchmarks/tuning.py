"""What the benchmarks of quality share: trying configurations, fits by seed, the command line.

A benchmark says what is fitted, on what, and when; here is only how configurations are picked and
compared, and what is written of that (`tuning.json`: every `Trial`, the chosen ones marked).
"""

import argparse
import dataclasses
import json
import logging
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from microrec.models.inputs.graph_arrays import Graph
from tests.benchmarks.spaces import GRAPH

SEED = 0
"""Seed of tuning."""

Space = Mapping[str, Sequence[Any]]
"""Values to try by field, as in `spaces.py`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One configuration, and what tuning found out about it."""

    name: str
    """The model's, unless `--tuned` says otherwise."""
    model: str
    config: dict[str, Any]
    """All fields."""
    graph: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the benchmark's `GraphConfig`, where it builds graphs."""
    recall: float | None = None
    """What configurations are chosen by: recall@20, or gAUC of a model that ranks."""
    seconds: float | None = None
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    chosen: bool = False


@dataclass(frozen=True)
class Run:
    """One fit."""

    fitted: Any
    seconds: float
    report: Mapping[str, Any]
    random: bool
    """Whether the generator was used."""
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def generator(seed: int, model: str) -> np.random.Generator:
    """The randomness of a seed, another one for each model."""
    return np.random.default_rng([seed, *model.encode()])


def fit(module: Any, graph: Graph, config: Mapping[str, Any], rng: np.random.Generator) -> Run:
    """Fit a model's module, and find out whether anything was random."""
    asked = module.Config.model_validate(config)
    before, began = rng.bit_generator.state, time.monotonic()
    trained = module.fit(graph, asked, rng)
    seconds = time.monotonic() - began
    bits = rng.bit_generator
    random = bits.state != before or bits.seed_seq.n_children_spawned > 0
    return Run(trained.fitted, seconds, trained.report, random, trained.parameters)


def by_seed(one: Callable[[int], Run], seeds: Iterable[int]) -> list[Run]:
    """A fit for each seed; only one if it draws nothing."""
    runs: list[Run] = []
    for seed in seeds:
        runs.append(one(seed))
        if not runs[-1].random:
            break
    return runs


def configurations(
    model: str, space: Space, *, budget: int, base: BaseModel, graph: BaseModel | None = None
) -> list[Trial]:
    """At most `budget` distinct configurations: the base as it stands, then drawn ones.

    Args:
        model: name of the model.
        space: values by field; a configuration is drawn from their product without repetition.
        budget: how many.
        base: what fields have that are not drawn.
        graph: the same for the fields that start with `GRAPH`.
    """
    sizes = [len(values) for values in space.values()]
    total = int(np.prod(sizes, dtype=np.int64))
    drawn = generator(SEED, model).permutation(total)[:budget]
    picked: list[dict[str, Any]] = [{}]
    for number in drawn:
        at = np.unravel_index(number, sizes)
        picked.append({key: space[key][i] for key, i in zip(space, at, strict=True)})
    results: list[Trial] = []
    for fields in picked:
        names = [name for name in fields if name.startswith(GRAPH)]
        given = {name.removeprefix(GRAPH): fields.pop(name) for name in names}
        trial = Trial(model, model, _with(base, fields), _with(graph, given) if graph else {})
        results += [trial] if trial not in results else []
    return results[:budget]


def tune(
    trials: Sequence[Trial], attempt: Callable[[Trial, str], tuple[Run, float]]
) -> list[Trial]:
    """Every configuration with what came of it, the best one marked; ties to the earlier.

    Args:
        trials: configurations of one model.
        attempt: fits one and tells its recall; the text says which one it is.
    """
    tried = []
    for number, trial in enumerate(trials, start=1):
        run, recall = attempt(trial, f"configuration {number} of {len(trials)}")
        tried.append(replace(trial, recall=recall, seconds=run.seconds, report=dict(run.report)))
    best = max(range(len(tried)), key=lambda at: (tried[at].recall, -at))
    return [replace(one, chosen=at == best) for at, one in enumerate(tried)]


def tell(trial: Trial, step: str, run: Run, recall: str, *, base: Mapping[str, Any]) -> None:
    """A line about a fit: what it was, how long it took, what differs from the base."""
    words = {
        key: value
        for key, value in {**trial.graph, **trial.config}.items()
        if value != base.get(key)
    }
    logger.info("%s, %s: %.1f s%s %s", trial.name, step, run.seconds, recall, words or "")


def as_json(config: BaseModel) -> dict[str, Any]:
    """As `tuning.json` holds it: equal to what is read back."""
    return config.model_dump(mode="json")


def _with(base: BaseModel, fields: Mapping[str, Any]) -> dict[str, Any]:
    return as_json(type(base).model_validate({**base.model_dump(), **fields}))


def save(tried: Sequence[Trial], out: Path) -> None:
    """Write `tuning.json`."""
    text = json.dumps([dataclasses.asdict(one) for one in tried], indent=1)
    (out / "tuning.json").write_text(text + "\n")


def earlier(files: Sequence[Path], models: Sequence[str]) -> list[Trial]:
    """What earlier runs chose; of one name in several files the last."""
    entries = [one for path in files for one in json.loads(path.read_text())]
    trials = [Trial(**one) for one in entries]
    chosen = {one.name: one for one in trials if one.chosen and one.model in models}
    return [*chosen.values()]


def parser(
    module: str, text: str, models: Sequence[str], *, budget: int
) -> argparse.ArgumentParser:
    """The options all benchmarks of quality have.

    Args:
        module: what is run.
        text: its docstring.
        models: that can be asked for.
        budget: configurations per model if nothing is said.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=text)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter

    def names(text: str) -> list[str]:
        asked = [name.strip() for name in text.split(",") if name.strip()]
        unknown = sorted(set(asked) - set(models))
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown} not in {models}")
        return asked

    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the public files")
    add("--models", type=names, default=[*models], metavar="NAME,...", help="which models")
    add("--seeds", type=int, default=5, help="fits of each chosen configuration")
    add("--budget", type=int, default=budget, help="configurations tried per model")
    add("--tuned", type=Path, nargs="+", default=[], help="tuning.json of earlier runs")
    add("--out", type=Path, required=True, help="folder of the results")
    return parser


def begin(out: Path, plots: Iterable[str]) -> Path:
    """Log to standard error, make the folder; plots of an earlier run are not what its tables say."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    for library in ("microrec", "matplotlib"):
        logging.getLogger(library).setLevel(logging.WARNING)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for drawn in plots:
        (out / drawn).unlink(missing_ok=True)
    return out


def packages() -> str:
    """What it ran with."""
    told = ", ".join(f"{name} {version(name)}" for name in ("torch", "torch-geometric", "numpy"))
    return f"{told}, Python {platform.python_version()}, {platform.machine()}"


def listed(chosen: Sequence[Trial]) -> str:
    """The chosen configurations as a Markdown list."""
    return "\n".join(f"- {one.name}: `{json.dumps({**one.config, **one.graph})}`" for one in chosen)
