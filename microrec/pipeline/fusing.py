"""The weights of the rank fusion: fitted to a trial's held-out day, stored in `fusion_weights`, read by every fit."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.ranking import closed_form, fusion
from microrec.evaluation import bootstrap, gate, truth
from microrec.evaluation.report import WORTH, Figure
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from microrec.runner import shards

TABLE = "fusion_weights"


def write(night: Night, tables: FitTables, proposals: Proposals) -> None:
    """Fit the weights of a trial; of a final fit, take those its trial has fitted to everybody.

    If the trial's blend was worse than its best source, the final fit follows that source alone.

    Args:
        night: of the fit.
        tables: of the night.
        proposals: of the night.
    """
    prior = night.recipe.section("candidates.blend", closed_form.Config)
    if night.fit == "trial":
        config = night.recipe.section("candidates.fusion", fusion.Config)
        evidence = _evidence(tables, proposals, prior, config, night.generator(TABLE))
        fitted = fusion.fit_folds(evidence, prior=prior, config=config)
    else:
        trial = night.at(night.day, fit="trial")
        fitted = {fusion.ALL: weights_of_everybody(trial)}
        if source := _best_source(trial):
            fitted = {fusion.ALL: closed_form.only(source, prior)}
    rows = [
        {"fold": fold, "source": source, **config.chosen(source).model_dump()}
        for fold, config in fitted.items()
        for source in proposals.sources
    ]
    night.write(TABLE, _table(rows), fit=night.fit)


def weights(night: Night) -> closed_form.Weights:
    """Return the weights by which a fit fuses its sources.

    Args:
        night: of the fit.

    Returns:
        Those fitted, by fold in a trial; the recipe's for a night that was made before weights were fitted.
    """
    folds = _folds(night)
    numbers = sorted(folds.keys() - {fusion.ALL})
    if not numbers:
        return weights_of_everybody(night)
    return closed_form.CrossFitted(tuple(folds[number] for number in numbers))


def weights_of_everybody(night: Night) -> closed_form.Config:
    """Return the weights that were fitted to all users: those of a final fit.

    Args:
        night: of the fit.

    Returns:
        Those fitted; the recipe's for a night that was made before weights were fitted.
    """
    prior = night.recipe.section("candidates.blend", closed_form.Config)
    return _folds(night).get(fusion.ALL, prior)


def worth(night: Night, tables: FitTables, proposals: Proposals, *, resamples: int) -> list[Figure]:
    """Return what each source is worth to the lists of the closed form on the held-out day.

    Args:
        night: of a trial whose weights are written.
        tables: of the night.
        proposals: of the night.
        resamples: of the bootstrap.

    Returns:
        A row of `metrics` per source: NDCG@20 of the users of whom something liked was proposed, less that without the
        source, and its 95 % interval over users. None where nothing was.
    """
    prior = night.recipe.section("candidates.blend", closed_form.Config)
    config = night.recipe.section("candidates.fusion", fusion.Config)
    evidence = _evidence(tables, proposals, prior, config, night.generator(TABLE))
    by_fold = _folds(night)
    folds = [by_fold[fold] for fold in sorted(by_fold.keys() - {fusion.ALL})]
    gains = fusion.worth(evidence, folds or [prior]) if len(evidence.users) else {}
    if not gains:
        return []
    values = np.stack([*gains.values()], axis=1)
    ends = bootstrap.interval(values, resamples=resamples, generator=night.generator(WORTH))
    return [
        Figure(source, WORTH, "all", float(mean), len(values), float(low), float(high))
        for source, mean, low, high in zip(gains, values.mean(axis=0), *ends, strict=True)
    ]


def _evidence(
    tables: FitTables,
    proposals: Proposals,
    prior: closed_form.Config,
    config: fusion.Config,
    rng: np.random.Generator,
) -> fusion.Evidence:
    """Candidates of some users of the held-out day, and what they liked."""
    right = truth.truth(tables.edges, tables.videos)
    drawn = np.sort(rng.permutation(right.users)[: config.users])
    pairs = (right.users[right.row], right.video)
    parts = []
    for part in shards.in_parts(np.arange(tables.n_teachers)):
        users = np.intersect1d(drawn, part)
        lists = proposals.lists(users)
        wanted = pa.array(users)
        lists = {
            name: rows.filter(pc.is_in(rows["user_idx"], wanted)) for name, rows in lists.items()
        }
        history = tables.knowledge.history
        parts.append(fusion.evidence(lists, right=pairs, history=history, prior=prior))
    return fusion.together(parts)


def _folds(night: Night) -> dict[int, closed_form.Config]:
    """The stored weights by fold; none if the fit has none."""
    prior = night.recipe.section("candidates.blend", closed_form.Config)
    if not night.exists(TABLE, fit=night.fit):
        return {}
    by_fold: dict[int, dict[str, closed_form.Weight]] = {}
    for row in night.read(TABLE, fit=night.fit).to_pylist():
        weight = closed_form.Weight(cold=row["cold"], warm=row["warm"])
        by_fold.setdefault(row["fold"], {})[row["source"]] = weight
    return {fold: closed_form.fitted(prior, weights) for fold, weights in by_fold.items()}


def _best_source(trial: Night) -> str | None:
    """The source that the final fit follows alone; None if the blend stands."""
    if not trial.exists("gate_results", fit="trial"):
        return None
    if not gate.falls_back(trial.read("gate_results", fit="trial")):
        return None
    config = trial.recipe.section("evaluation.gate", gate.Config)
    metrics = trial.read("metrics", stage="evaluation")
    overall = metrics.filter((pc.field("metric") == config.metric) & (pc.field("slice") == "all"))
    values = dict(zip(overall["name"].to_pylist(), overall["value"].to_pylist(), strict=True))
    return gate.best_source({name: values[name] for name in trial.config.sources if name in values})


def _table(rows: list[dict[str, object]]) -> pa.Table:
    kinds = {"fold": pa.int32(), "source": pa.string(), "cold": pa.float64(), "warm": pa.float64()}
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds.items()))
