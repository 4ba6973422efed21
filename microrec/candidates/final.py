"""The one final filter-and-fill: personal candidates, then the ladder, until K or nothing is left.

Each block of users is one dense array of scores: the fused points of a personal candidate (above
0), else minus the video's place on the ladder (below 0), else -inf where the video is seen or
ineligible. Its exact top-K *is* the list, so distinct videos, contiguous ranks, falling scores and
"K or every allowed video" hold by construction.
"""

import datetime as dt
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from microrec.candidates import blend
from microrec.candidates.filters import Ints, Knowledge
from microrec.candidates.ladder import REASONS, RUNGS, Ladder
from microrec.candidates.retrieval import blocks, top


def select(
    candidates: Mapping[str, pa.Table],
    *,
    users: Ints,
    known: Knowledge,
    ladder: Ladder,
    k: int,
    config: blend.Config,
) -> pa.Table:
    """Final list of every user.

    Args:
        candidates: `candidates` rows by source, in any order; a source may be absent or silent
            about a user.
        users: user_idx of everyone who gets a list.
        known: What the fit knows; seen and ineligible videos never appear.
        ladder: Fills the places that personal candidates leave.
        k: Length of a list; shorter only where fewer videos are allowed.
        config: Weights of the sources.

    Returns:
        One row per (user, rank), sorted: user_idx, rank, video_idx (int32), score (float32,
        non-increasing), source (strongest source or rung) and reason.
    """
    sources = {name: blend.ranked(rows) for name, rows in candidates.items()}
    names = [*sorted(sources), *RUNGS]
    places = -ladder.positions(known.n_videos).astype(np.float64)  # [n_videos]
    rungs = len(sources) + ladder.rungs(known.n_videos)  # [n_videos]
    history = known.history
    parts = [_rows(np.empty((4, 0)), np.empty(0, dtype=np.int16), names)]
    for block in blocks(np.unique(users), n_videos=known.n_videos, block_cells=config.block_cells):
        fused = blend.fuse(
            sources, users=block, history=history[block], n_videos=known.n_videos, config=config
        )
        personal = fused.points > 0
        scores = np.where(personal, fused.points, places)
        known.mask(scores, block)
        rows, videos, ranks = top(scores, k)
        came = np.where(personal[rows, videos], fused.strongest[rows, videos], rungs[videos])
        parts.append(
            _rows(np.stack([block[rows], ranks, videos, scores[rows, videos]]), came, names)
        )
    return pa.concat_tables(parts)


def with_ids(
    rows: pa.Table, *, nodes: Mapping[str, pa.Table], valid_until: dt.datetime
) -> pa.Table:
    """Replace indices by the producers' ids and add the instant at which a row expires.

    Args:
        rows: Lists with `<noun>_idx` columns.
        nodes: The node table of each noun (user, video), with `<noun>_idx` 0..n-1 and `<noun>_id`.
        valid_until: Put on every row.
    """
    for noun, table in nodes.items():
        ids = table.sort_by(f"{noun}_idx")[f"{noun}_id"]
        at = rows.schema.get_field_index(f"{noun}_idx")
        rows = rows.set_column(at, f"{noun}_id", ids.take(rows[f"{noun}_idx"]))
    instant = pa.scalar(valid_until, pa.timestamp("us", "UTC"))
    return rows.append_column("valid_until", pa.repeat(instant, rows.num_rows))


def _rows(columns: np.ndarray, came: Ints, names: list[str]) -> pa.Table:
    """Arrow rows from user, rank, video, score [4, n_rows] and the position in `names` of each."""
    users, ranks, videos, scores = columns
    why = [REASONS[name] if name in RUNGS else blend.reason(name) for name in names]
    typed = {
        "user_idx": users.astype(np.int32),
        "rank": ranks.astype(np.int32),
        "video_idx": videos.astype(np.int32),
        "score": scores.astype(np.float32),
        "source": pa.array(names, pa.string()).take(pa.array(came)),
        "reason": pa.array(why, pa.string()).take(pa.array(came)),
    }
    return pa.table(typed)
