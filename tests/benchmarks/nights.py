"""Every model and the released blend on real nights: `python -m tests.benchmarks.nights --help`.

    python -m tests.benchmarks.nights --data ../shared/data/kuairand_pure --through 2022-05-04 --out DIR

The KuaiRand logs go into a landing zone, and the pipeline's own jobs make the tables of each of the
last `--nights` days up to `--through`. Day D is then held out as a night holds it out: every model
has its *trial* fit (days before D; a model that is trained chooses its epochs on D - 1), proposes
`k * overfetch` videos, and is measured on what its users went on to like on D. `blend` is the list
a night would publish: the recipe's sources with the recipe's values, fused, filtered and filled.
The first of the `--seeds` is the night's own, so a row is what `jobs/evaluate_sources.py` measures.

* `--budget` 0: the values of the recipe. Otherwise up to so many configurations of each model, the
  recipe's first, the others drawn from its space (`spaces.nights`), are fitted with one seed on the
  night before the first measured one and chosen by its recall@20. The blend stays as released.
* The recipe is not innocent of all nights: the blend's weights and some defaults of `Config`s were
  chosen with `SELECTED` held out. That night flatters them, so the rest is pooled too.
* `--filled`: every model's list is completed as the night completes the lists of a night that has
  only this model, so that a user it knows nothing of is offered what everybody likes. Otherwise
  such a user's list is empty, as in the `metrics` table, and the part `history>0` is the fair one.
* `all nights`: the mean over all (night, user) pairs, its interval by resampling users with all
  their nights; coverage and the like are means over the nights.
* The modality is `tags`, the only real one. Equal scores are in the order of video_id, as published.

Tables of a day that are there already are used as they are; so are those of a warehouse that
`microrec night` has filled. A recipe that makes other tables is refused: name another `--warehouse`
then, and also after a change to the stages `events` or `graphs`.
"""

import argparse
import datetime as dt
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microrec.candidates.lists import fill, ladder
from microrec.candidates.ranking import closed_form
from microrec.candidates.retrieval import exact
from microrec.config import recipe
from microrec.config.settings import settings
from microrec.core import fits, knowledge
from microrec.errors import RecipeError
from microrec.evaluation import ranking, truth
from microrec.evaluation.report import BLEND
from microrec.landing.importers import kuairand
from microrec.models import registry
from microrec.models.inputs.clip_arrays import TABLES as CLIP_TABLES
from microrec.models.inputs.graph_arrays import WITH_SEQUENCES, Graph, build_graph, reads
from microrec.models.inputs.rate_arrays import TABLES as RATE_TABLES
from microrec.tables.arrow import Warehouse
from tests.benchmarks import quality, report, spaces, tuning
from tests.benchmarks.quality import Case, Figures, Listed
from tests.benchmarks.report import Row, row
from tests.benchmarks.tuning import Run, Trial
from tests.worlds.nights import ANYWAY, BEFORE_MODELS, call

BENCHMARK = "nights"
ALL = "all nights"
MODELS = (*(name for name, card in registry.CARDS.items() if card.proposes), BLEND)
SUBJECTS = ("preference_gcn", BLEND)
"""Whose differences to every other model are told."""
SELECTED = dt.date(2022, 5, 3)
"""The night the recipe and defaults were chosen on (microrec.toml, the models' `Config`s)."""
BARS, LINES = "recall.png", "recall-by-night.png"
LAST_WRITTEN: dict[str, dict[str, str]] = {
    "validate_events": {"table": "metrics", "stage": "arrivals"},
    "extract_features": {"table": "extractions"},
    "build_watch_graph": {"table": "clip_edges"},
    "build_modality_graph": {"table": "metrics", "stage": "modality_graph"},
    "build_user_graph": {"table": "metrics", "stage": "user_graph"},
    "count_exposures": {"table": "exposure_counts"},
    "build_sequences": {"table": "metrics", "stage": "sequences"},
}
"""What each job commits last: where it is, the job need not run."""
RECIPE = "nights-recipe.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Night:
    """One day's trial: what is fitted to, who is asked, what is right."""

    day: dt.date
    graph: Graph
    case: Case
    asked: NDArray[np.int64]
    """Evaluated users who get a list."""
    user_id: NDArray[np.str_]
    """By user_idx."""
    ladder: ladder.Ladder

    def listed(self, candidates: pa.Table) -> Listed:
        """Ranked rows as the harness takes them."""
        return ranking.matrix(candidates, self.case.truth, k=quality.K)


@dataclass(frozen=True, eq=False)
class Proposals:
    """What one configuration proposes on one night, by seed."""

    candidates: list[pa.Table]
    runs: list[Run]


@dataclass(frozen=True, eq=False)
class Measured:
    """One night."""

    rows: list[Row]
    figures: dict[str, Figures]
    sizes: str
    """How many users each part has, in words."""


def build(days: Sequence[dt.date], *, land: Callable[[], Any]) -> bool:
    """Run the jobs before the models for each day, in the settings' warehouse, where need be.

    Args:
        days: nights whose tables are wanted.
        land: fills the landing zone; called if there is anything to build.

    Returns:
        Whether there was.
    """
    _claim(Path(settings().warehouse))
    todo = [(day, job) for day in sorted(days) for job in missing(day)]
    if todo:
        land()
    for day, job in todo:
        logger.info("%s %s", job, day)
        call(job, day, **({"anyway": True} if job in ANYWAY else {}))
    return bool(todo)


def missing(day: dt.date) -> list[str]:
    """The day's jobs whose tables are not there: a job, and all that build on it."""
    warehouse = Warehouse.open()
    for number, job in enumerate(BEFORE_MODELS):
        last = LAST_WRITTEN[job]
        # What a night leaves out is committed without rows, its metrics too; every other stage has some.
        there = warehouse.exists(**last, day=day)
        has_rows = last["table"] in ("metrics", "exposure_counts")
        if not there or (has_rows and not warehouse.count(**last, day=day)):
            return [*BEFORE_MODELS[number:]]
    return []


def _claim(warehouse: Path) -> None:
    """Note what the tables are made with.

    Raises:
        RecipeError: the warehouse was filled with another recipe.
    """
    whole, night = recipe.current().values, recipe.current().night
    said = {name: whole.get(name, {}) for name in ("events", "graphs")}
    said["night"] = {"window_days": night.window_days, "lateness_days": night.lateness_days}
    note = warehouse / RECIPE
    if note.exists() and json.loads(note.read_text()) != said:
        raise RecipeError(f"{warehouse} holds tables of another recipe ({RECIPE})")
    warehouse.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(said, indent=1) + "\n")


def read(day: dt.date) -> Night:
    """The trial of a day, as `train_model`, `select_candidates` and `evaluate_sources` see it."""
    warehouse = Warehouse.open()
    needed = reads((*WITH_SEQUENCES, *CLIP_TABLES, *RATE_TABLES), "trial")
    tables = {name: warehouse.read(name, day=day, **part) for name, part in needed.items()}
    users, edges, videos = (tables[name] for name in ("users", "watch_edges", "video_nodes"))
    known = knowledge.knowledge(
        edges, videos, n_users=users.num_rows, fit="trial", until=fits.horizon(day, "trial")
    )
    right = truth.truth(edges, videos)
    steps = recipe.current().section("candidates.ladder", ladder.Config)
    rungs = ladder.rungs(
        edges, videos, known=known, fit="trial", until=fits.horizon(day, "trial"), config=steps
    )
    served = knowledge.served(users, warehouse.read("suppressed_users", day=day))
    return Night(
        day,
        build_graph(tables, fit="trial"),
        Case(day.isoformat(), right, known),
        np.intersect1d(served, right.users),
        np.array(users.sort_by("user_idx")["user_id"].to_pylist()),
        ladder.climb(rungs),
    )


def released(model: str) -> Trial:
    """The recipe's configuration of a model."""
    config = recipe.current().section(f"models.{model}", registry.model(model).Config)
    return Trial(model, model, tuning.as_json(config), chosen=True)


def fit(night: Night, trial: Trial, seed: int) -> Run:
    """The trial fit of a night; with seed 0 that of the night itself."""
    root = registry.seed(recipe.current().night.seed + seed, day=night.day, model=trial.model)
    rng = np.random.default_rng(root)
    return tuning.fit(registry.model(trial.model), night.graph, trial.config, rng)


def candidates(night: Night, fitted: Any) -> pa.Table:
    """What a fitted model proposes."""
    asks = recipe.current().night
    given = {"users": night.asked, "known": night.case.known, "k": asks.k * asks.overfetch}
    config = recipe.current().section("candidates.retrieval", exact.Config)
    return exact.best(fitted, **given, config=config)


def blended(night: Night, sources: Mapping[str, pa.Table]) -> pa.Table:
    """The lists the night would publish of these candidates."""
    return select(night, sources, recipe.current().section("candidates.blend", closed_form.Config))


def filled(night: Night, proposed: pa.Table) -> pa.Table:
    """The lists of a night that has one model only: its order whatever the weights, then the ladder."""
    return select(night, {"": proposed}, closed_form.Config(weights={}))


def select(night: Night, sources: Mapping[str, pa.Table], config: closed_form.Config) -> pa.Table:
    given = {"known": night.case.known, "ladder": night.ladder, "k": recipe.current().night.k}
    return fill.select(sources, users=night.asked, **given, shaping=fill.Shaping(config))


def propose(night: Night, trial: Trial, *, seeds: int) -> Proposals:
    """Fit a configuration with each seed, once if nothing is random, and ask it."""
    results: list[pa.Table] = []

    def one(seed: int) -> Run:
        run = fit(night, trial, seed)
        results.append(candidates(night, run.fitted))
        _tell(night, trial, f"seed {seed}", run, results[-1])
        return replace(run, fitted=None)

    return Proposals(results, tuning.by_seed(one, range(seeds)))


def measure(day: dt.date, chosen: Sequence[Trial], asked: argparse.Namespace) -> Measured:
    """All figures of one night.

    Args:
        day: held out; its tables are in the settings' warehouse.
        chosen: what is measured; a configuration that is the blend's too is fitted once.
        asked: the options.
    """
    night = read(day)
    sources = {
        name: released(name) for name in recipe.current().night.models if BLEND in asked.models
    }
    todo = {_key(one): one for one in (*sources.values(), *chosen)}
    proposals = {key: propose(night, one, seeds=asked.seeds) for key, one in todo.items()}
    lists = {one.name: proposals[_key(one)].candidates for one in chosen}
    if asked.filled:
        lists = {name: [filled(night, one) for one in some] for name, some in lists.items()}
    if sources:
        of = {name: proposals[_key(one)].candidates for name, one in sources.items()}
        lists[BLEND] = [blended(night, some) for some in _side_by_side(of)]
    right, split = night.case.truth, night.case.split
    ranked = {name: [night.listed(one) for one in some] for name, some in lists.items()}
    figures = quality.measured(ranked, right, ids=night.user_id)
    rows = quality.beyond(BENCHMARK, split, ranked, right)
    for one in chosen:
        rows += _training(one.name, split, proposals[_key(one)].runs)
    return Measured(rows, figures, quality.sizes(right))


def _key(trial: Trial) -> str:
    return json.dumps([trial.model, trial.config], sort_keys=True)


def _side_by_side(lists: Mapping[str, Sequence[pa.Table]]) -> Iterator[dict[str, pa.Table]]:
    """The sources' candidates seed by seed; where nothing is random the one fit stands for all."""
    for seed in range(max(map(len, lists.values()))):
        yield {name: some[min(seed, len(some) - 1)] for name, some in lists.items()}


def _training(name: str, split: str, runs: Sequence[Run]) -> list[Row]:
    """Seconds a fit took, its search for the number of epochs included, and that number."""
    told = {"s": ("seconds", [run.seconds for run in runs])}
    told[""] = ("epochs", [run.report["epochs"] for run in runs if "epochs" in run.report])
    return [
        row(BENCHMARK, name, metric, split, float(np.mean(some)), unit=unit, seeds=len(some))
        for unit, (metric, some) in told.items()
        if some
    ]


def tell(nights: Mapping[dt.date, Measured]) -> list[Row]:
    """The rows of all nights together, of all but the selected one, then of each."""
    result_rows = _together(ALL, list(nights.values()))
    others = [night for day, night in nights.items() if day != SELECTED]
    if 0 < len(others) < len(nights):
        result_rows += _together(f"{ALL} but {SELECTED}", others)
    for day, night in nights.items():
        for part, figures in night.figures.items():
            pairs = differences(list(figures.values)) if part == "" else []
            split = f"{day}{part}"
            result_rows += quality.told(BENCHMARK, split, figures, pairs=pairs, spread=part == "")
            result_rows += night.rows if part == "" else []
    return result_rows


def _together(split: str, nights: Sequence[Measured]) -> list[Row]:
    """The rows of several nights pooled."""
    rows: list[Row] = []
    for part, figures in quality.pooled([night.figures for night in nights]).items():
        pairs = differences(list(figures.values))
        rows += quality.told(BENCHMARK, split + part, figures, pairs=pairs, spread=part == "")
        if part == "":
            rows += _means(split, [one for night in nights for one in night.rows])
    return rows


def differences(names: Sequence[str]) -> list[tuple[str, str]]:
    """Each subject against every other model, two subjects once."""
    results: list[tuple[str, str]] = []
    for subject in SUBJECTS if set(SUBJECTS) & set(names) else ():
        others = [name for name in names if name != subject and (name, subject) not in results]
        results += [(subject, other) for other in others] if subject in names else []
    return results


def _means(split: str, rows: Sequence[Row]) -> list[Row]:
    """Figures without a value per user: their means over the nights."""
    by: dict[tuple[str, str, str], list[Row]] = {}
    for one in rows:
        key = (str(one["name"]), str(one["metric"]), str(one["unit"]))
        by.setdefault(key, []).append(one)
    return [
        row(
            BENCHMARK,
            name,
            metric,
            split,
            float(np.mean([one["value"] for one in some])),
            unit=unit,
            seeds=some[0]["seeds"],
        )
        for (name, metric, unit), some in by.items()
        if not metric.endswith(" sd")  # of every seed's mean, not the mean of the deviations
    ]


def tune(day: dt.date, model: str, *, budget: int) -> list[Trial]:
    """Every configuration tried on a night before the measured ones, the best one marked."""
    if budget == 0:
        return [released(model)]
    night, base = (
        read(day),
        recipe.current().section(f"models.{model}", registry.model(model).Config),
    )

    def attempt(trial: Trial, step: str) -> tuple[Run, float]:
        run = fit(night, trial, tuning.SEED)
        return run, _tell(night, trial, step, run, candidates(night, run.fitted))

    space = spaces.nights(model)
    trials = tuning.configurations(model, space, budget=budget, base=base)
    return tuning.tune(trials, attempt)


def _tell(night: Night, trial: Trial, step: str, run: Run, rows: pa.Table) -> float:
    """Log a fit; recall@20 of what it proposes."""
    recall = quality.recall(night.listed(rows), night.case.truth)
    base = released(trial.model).config
    tuning.tell(trial, f"{night.day} {step}", run, f", recall@20 {recall:.4f}", base=base)
    return recall


def run(asked: argparse.Namespace, days: Sequence[dt.date], before: dt.date) -> None:
    """Tune, measure and write.

    Args:
        asked: the options; `out` exists.
        days: measured; their tables are in the settings' warehouse.
        before: the night configurations are chosen on.
    """
    models = [one for one in asked.models if one != BLEND]
    tried = [] if asked.tuned else [t for m in models for t in tune(before, m, budget=asked.budget)]
    chosen = tuning.earlier(asked.tuned, models) or [one for one in tried if one.chosen]
    if tried:
        tuning.save(tried, asked.out)
    nights = {day: measure(day, chosen, asked) for day in days}
    rows = tell(nights)
    _draw(rows, days, asked.out)
    report.write(rows, asked.out, preface=_preface(asked, nights, chosen, before))
    logger.info("written to %s", asked.out)


def _draw(rows: Sequence[Row], days: Sequence[dt.date], out: Path) -> None:
    """Bars of recall@20 over all nights, and a line per model over the nights."""
    values = {
        (str(one["name"]), str(one["split"])): float(str(one["value"]))
        for one in rows
        if one["benchmark"] == BENCHMARK and one["metric"] == "recall@20"
    }
    pooled = {name: value for (name, split), value in values.items() if split == ALL}
    title = f"Next-day recall@20, {len(days)} nights to {days[-1]}"
    report.bars(out / BARS, title, pooled, unit="recall@20", scale="linear")
    names = [str(day) for day in days]
    by_night = {name: (names, [values[name, day] for day in names]) for name in pooled}
    report.lines(out / LINES, title, by_night, x="night", y="recall@20", scale="linear")


def _preface(
    asked: argparse.Namespace,
    nights: Mapping[dt.date, Measured],
    chosen: Sequence[Trial],
    before: dt.date,
) -> str:
    """What was measured, how and with what."""
    how = f"chosen by recall@20 on {before}, at most {asked.budget} each, one seed"
    how = "taken from an earlier run" if asked.tuned else how if asked.budget else "the recipe's"
    lists = "Lists are completed by the night's ladder." if asked.filled else "Lists may be short."
    lines = [
        "# Real nights (KuaiRand-Pure; Gao et al., CIKM 2022; CC BY-SA 4.0)",
        "Each day is held out; models are fitted to the days before it that the pipeline's window"
        " holds and ranked over all eligible videos, seen ones masked, ties by id. `blend` is the"
        " list a night would publish, with the recipe's values. Configurations of the models:"
        f" {how}. {lists} {asked.seeds} seeds (1 where nothing is random). `{ALL}`: mean over all"
        " (night, user) pairs. Intervals: 95 %, bootstrap over users, who are drawn with all their nights."
        f" Modality: tags. {tuning.packages()}.",
        f"The recipe (the blend's weights) and some defaults were chosen with {SELECTED} held out:"
        f" what is said of that night, and of `{ALL}` with it, flatters them.",
        "\n".join(f"- {day}: {night.sizes}" for day, night in nights.items()),
        "Configurations:",
        tuning.listed(chosen),
    ]
    return "\n\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the tables, measure, write."""
    asked = _parser().parse_args(arguments)
    asked.out = tuning.begin(asked.out, (BARS, LINES))
    days, before = prepare(asked)
    run(asked, days, before)


def prepare(asked: argparse.Namespace) -> tuple[list[dt.date], dt.date]:
    """Make the tables that are not there, in the warehouse that is asked for.

    Returns:
        The measured days, and the one before them, on which configurations are chosen.
    """
    warehouse = (asked.warehouse or asked.out / "warehouse").resolve()
    landing_root = warehouse / "landing"
    os.environ.update(MICROREC_WAREHOUSE=str(warehouse), MICROREC_LANDING=str(landing_root))
    settings.cache_clear()
    days = [asked.through - dt.timedelta(days=back) for back in reversed(range(asked.nights))]
    before = days[0] - dt.timedelta(days=1)
    needed = [before, *days] if asked.budget else days
    if build(needed, land=lambda: kuairand.import_files(asked.data, str(landing_root))):
        _end_spark()
    return days, before


def _end_spark() -> None:
    """The session holds a core's worth of memory that the fits can use."""
    from microrec.spark.session import session

    session().stop()


def add_nights(parser: argparse.ArgumentParser) -> None:
    """The options that say which nights."""
    day = {"type": dt.date.fromisoformat, "metavar": "YYYY-MM-DD"}
    parser.add_argument("--through", required=True, help="last night", **day)
    parser.add_argument("--nights", type=int, default=4, help="how many")
    parser.add_argument("--warehouse", type=Path, help="tables kept from call to call")


def _parser() -> argparse.ArgumentParser:
    parser = tuning.parser("tests.benchmarks.nights", str(__doc__), MODELS, budget=0)
    add_nights(parser)
    parser.add_argument(
        "--filled", action="store_true", help="lists as a night would complete them"
    )
    return parser


if __name__ == "__main__":
    main()
