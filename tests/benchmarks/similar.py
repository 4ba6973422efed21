"""Similar videos on a held-out task: is the video a user likes next among those beside the one they liked last?

    python -m tests.benchmarks.similar --warehouse W --day D --recipe R

reads the trial of a night (its models are fitted to the days before D) and makes `similar_videos` of it. Of each user
who liked something before D, the first eligible video liked on D that they had not seen is looked for among 20 videos
beside the last one liked before: of the fused list, of behaviour (item kNN), of the cosine of `content`'s vectors, and
the 20 most liked of all, which are beside every video.
"""

import argparse
import datetime as dt
import json
import os
import sys
from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc

from microrec.candidates.lists import similar
from microrec.config.settings import settings
from microrec.core import fitted
from microrec.core.columns import column
from microrec.core.directions import directions
from microrec.pipeline import fit_tables, similar_videos
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.night import Night

K = 20
DRAWS = 2000
"""Of the bootstrap over users."""


def pairs(tables: FitTables) -> np.ndarray:
    """Return of each user the video liked last before the held-out day, and the first one on it. [n_users, 2]."""
    known = tables.knowledge
    user = np.repeat(np.arange(known.positives.shape[0]), known.history)
    assert known.places is not None
    is_last = known.places == 0
    last = dict(zip(user[is_last].tolist(), known.positives.indices[is_last].tolist(), strict=True))
    held = tables.edges.filter(pc.equal(tables.edges["split"], "holdout"))
    held = held.filter(pc.greater(held["n_positive"], 0))
    order = [(name, "ascending") for name in ("user_idx", "last_at", "video_idx")]
    following: dict[int, int] = {}
    for row in held.sort_by(order).select(["user_idx", "video_idx"]).to_pylist():
        who, video = row["user_idx"], row["video_idx"]
        if who in last and known.eligible[video] and not known.seen[who, video]:
            following.setdefault(who, video)
    return np.array([(last[who], video) for who, video in following.items()]).reshape(-1, 2)


def lists(night: Night, tables: FitTables, beside: np.ndarray) -> dict[str, dict[int, set[int]]]:
    """Return the 20 videos beside some videos, by what put them there.

    Args:
        night: of the trial.
        tables: of the night.
        beside: video_idx.
    """
    config = night.recipe.section("candidates.similar", similar.Config)
    catalogue = similar_videos.read(night, tables, config)
    rows = similar.similar(beside, catalogue, config=config)
    video, other = column(rows, "video_idx").tolist(), column(rows, "similar_video_idx").tolist()
    listed: dict[str, dict[int, set[int]]] = {}
    for kind, j, v in zip(rows["kind"].to_pylist(), video, other, strict=True):
        listed.setdefault(kind, {}).setdefault(j, set()).add(v)
    popular = set(catalogue.popular[:K].tolist())
    listed["popular"] = dict.fromkeys(beside.tolist(), popular)
    if "content" in night.config.models:
        listed["content"] = _by_cosine(night, tables, beside)
    return listed


def recalls(
    pairs: np.ndarray, listed: Mapping[str, Mapping[int, set[int]]]
) -> dict[str, list[float]]:
    """Return Recall@20 with its 95 % interval, and the fused list's gain over the others likewise.

    Args:
        pairs: of `pairs`.
        listed: of `lists`.
    """
    hits = {
        kind: np.array([float(v in of.get(j, ())) for j, v in pairs.tolist()])
        for kind, of in listed.items()
    }
    gains = {
        f"fused-minus-{kind}": hits["fused"] - of for kind, of in hits.items() if kind != "fused"
    }
    draws = np.random.default_rng(1).integers(0, len(pairs), (DRAWS, len(pairs)))
    return {
        name: [float(of.mean()), *np.quantile(of[draws].mean(axis=1), [0.025, 0.975]).tolist()]
        for name, of in {**hits, **gains}.items()
    }


def _by_cosine(night: Night, tables: FitTables, beside: np.ndarray) -> dict[int, set[int]]:
    model = fitted.load(night.artefact("content"))
    assert isinstance(model, fitted.Embeddings)
    unit = directions(model.video)
    nearest = {}
    for video in beside.tolist():
        score = unit @ unit[video]
        score[~tables.knowledge.eligible] = -np.inf
        score[video] = -np.inf
        nearest[video] = set(np.argsort(-score, kind="stable")[:K].tolist())
    return nearest


def main(words: list[str] | None = None) -> dict[str, list[float]]:
    """Measure one night and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warehouse", required=True)
    parser.add_argument("--day", required=True, type=dt.date.fromisoformat)
    parser.add_argument("--recipe", required=True)
    options = parser.parse_args(words)
    os.environ |= {"MICROREC_WAREHOUSE": options.warehouse, "MICROREC_RECIPE": options.recipe}
    settings.cache_clear()
    night = Night.open(options.day, fit="trial")
    tables = fit_tables.read(night)
    asked = pairs(tables)
    figures = recalls(asked, lists(night, tables, np.unique(asked[:, 0])))
    sys.stdout.write(json.dumps({"users": len(asked), **figures}) + "\n")
    return figures


if __name__ == "__main__":
    main()
