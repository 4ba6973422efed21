"""The similar videos of a night: what they are made of, part by part, and whether they may be published."""

import datetime as dt
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from microrec.candidates.lists import evidence, fill, similar
from microrec.core import fitted
from microrec.core.array_types import Indices
from microrec.core.columns import column
from microrec.errors import ContractViolation
from microrec.evaluation import gate, subjects
from microrec.pipeline import likeness
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.night import Night

VIDEOS_AT_ONCE = 8192
"""Videos of a part: 2 million neighbours with lists of 200."""
TAGS = "tags"
"""The modality in which equal videos are no near-duplicates: thousands have the same tags."""


def rows(night: Night, tables: FitTables, *, valid_until: dt.datetime) -> pa.RecordBatchReader:
    """Return the similar videos of every video that may be shown, computed part by part as they are read.

    Args:
        night: of the fit.
        tables: of the night.
        valid_until: put on every row.

    Returns:
        Rows of `similar_videos`.

    Raises:
        MissingDay: the night has no modality_edges, or no artefact of the recipe's model.
    """
    config = night.recipe.section("candidates.similar", similar.Config)
    catalogue = read(night, tables, config)
    videos = np.flatnonzero(catalogue.known.eligible)
    parts = np.array_split(videos, range(VIDEOS_AT_ONCE, len(videos), VIDEOS_AT_ONCE))
    names = tables.videos.select(["video_idx", "video_id"])
    nodes = {"video": names, "similar_video": names}

    def of_part(part: Indices) -> pa.Table:
        least_people = night.config.least_people
        lists = similar.similar(part, catalogue, config=config, least_people=least_people)
        return fill.with_ids(lists, nodes=nodes, valid_until=valid_until)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for part in parts[1:]:
            yield from of_part(part).to_batches()

    first = of_part(parts[0])
    return pa.RecordBatchReader.from_batches(first.schema, batches())


def judge(night: Night, videos: pa.Table, *, config: gate.Config) -> list[gate.Result]:
    """Compare the similar videos with every law of lists, as they were written.

    Args:
        night: has them.
        videos: `video_nodes` of the day.
        config: thresholds.

    Returns:
        One result per law, prefix `similar_`.
    """
    k = night.recipe.section("candidates.similar", similar.Config).k
    rows = night.read("similar_videos")
    lists = subjects.beside_videos(rows, videos=videos, k=k, until=night.horizon)
    # A catalogue of one video has no rows, and is right.
    checks = [law for law in gate.LAWS if law.name != "rows"]
    return gate.check(lists, config=config, checks=checks, prefix="similar_")


def read(night: Night, tables: FitTables, config: similar.Config) -> similar.Catalogue:
    """Read what the lists are made of.

    Args:
        night: of the fit.
        tables: of the night.
        config: names the model of behaviour, and says what counts as a near-duplicate.

    Returns:
        Neighbours by kind, and what may be shown.
    """
    edges = night.read("modality_edges")
    like = likeness.read(night, tables.videos, collapse=config.collapse, without=[TAGS])
    n_videos = tables.videos.num_rows
    near = {}
    if config.behaviour in night.config.models:
        near[similar.BEHAVIOUR] = _neighbours(night, config.behaviour, n_videos)
    for name in sorted(pc.unique(edges["modality"]).to_pylist()):
        of_modality = edges.filter(pc.equal(edges["modality"], name))
        at = (column(of_modality, "video_idx"), column(of_modality, "neighbour_idx"))
        shape = (n_videos, n_videos)
        near[name] = sparse.csr_matrix((column(of_modality, "similarity"), at), shape=shape)
    return similar.Catalogue(
        near=near,
        alike=evidence.by_modality(edges, n_videos=n_videos),
        known=tables.knowledge,
        author=like.author,
        cluster=like.cluster,
    )


def _neighbours(night: Night, model: str, n_videos: int) -> sparse.csr_matrix:
    """Neighbour lists of videos as a matrix. [n_videos, n_videos]."""
    lists = fitted.load(night.artefact(model))
    if not isinstance(lists, fitted.NeighbourLists) or lists.axis != "video":
        raise ContractViolation(f"model {model}: its artefact has no neighbour lists of videos")
    return sparse.csr_matrix(
        (lists.similarity, lists.neighbour, lists.indptr), shape=(n_videos, n_videos)
    )
