"""What users want of their lists: what is blocked, who is not explored with, who has a list without profiling."""

from collections.abc import Mapping

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.lists import unprofiled
from microrec.core import knowledge
from microrec.core.array_types import Int64s
from microrec.core.request_kinds import NO_EXPLORATION
from microrec.pipeline import memory
from microrec.pipeline.night import Night

BLOCKED = """
    WITH wishes AS (SELECT * FROM preferences JOIN users USING (user_id)),
    by_video AS (SELECT * FROM wishes JOIN videos ON kind = 'block_video' AND video_id = value),
    by_author AS (SELECT * FROM wishes JOIN videos ON kind = 'block_author' AND author_id = value),
    by_tag AS (
        SELECT * FROM wishes JOIN (SELECT *, unnest(tags) AS tag FROM videos) ON kind = 'block_tag' AND tag = value)
    SELECT DISTINCT user_id, user_idx, video_id, video_idx
    FROM (FROM by_video UNION ALL BY NAME FROM by_author UNION ALL BY NAME FROM by_tag)
    ORDER BY ALL
"""
"""One row per (user, video) of the night that the user has blocked, by its id, author or tag."""


def blocked(night: Night, users: pa.Table, videos: pa.Table) -> pa.Table:
    """Return which videos users have blocked, as of now.

    Args:
        night: its warehouse has the preferences, and the tags of the day's videos.
        users: `users` of the day.
        videos: `video_nodes` of the day.

    Returns:
        One row per pair: user_id, user_idx, video_id, video_idx.
    """
    wishes = night.preferences()
    blocks = wishes.filter(pc.starts_with(wishes["kind"], "block_"))
    columns = ["video_id", "video_idx", "author_id"]
    if not blocks.num_rows:
        nobody = users.slice(0, 0).select(["user_id", "user_idx"])
        nothing = videos.slice(0, 0).select(["video_id", "video_idx"])
        return pa.table(
            [*nobody.columns, *nothing.columns], names=[*nobody.column_names, *nothing.column_names]
        )
    tags = tags_of(night, blocks)
    with duckdb.connect() as session:
        session.register("preferences", blocks)
        session.register("users", users.select(["user_id", "user_idx"]))
        session.register("nodes", videos.select(columns))
        session.register("tagged", tags)
        session.execute("CREATE TEMP VIEW videos AS FROM nodes LEFT JOIN tagged USING (video_id)")
        return session.sql(BLOCKED).to_arrow_table()


def tags_of(night: Night, wishes: pa.Table) -> pa.Table:
    """Return the tags of the day's videos, if a wish names one.

    Args:
        night: has the videos.
        wishes: rows of `preferences`.

    Returns:
        video_id and tags of each video; no rows if no tag is blocked.
    """
    names = ["video_id", "tags"]
    if "block_tag" in wishes["kind"].to_pylist():
        return night.warehouse.read("videos", day=night.day, columns=names)
    return night.warehouse.table("videos").contract.schema.empty_table().select(names)


def of_now(night: Night, tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Return tables of a day, with what counts as of now beside them.

    Args:
        night: its warehouse has what people have asked for.
        tables: of the day by name, among them users and video_nodes.

    Returns:
        The same, suppressed_users, `unprofiled`, the user_id of who wants no profiling, and `blocked`, the pairs of
        both and what is remembered from before the window.
    """
    users, videos = tables["users"], tables["video_nodes"]
    without = numbered(night.unprofiled())
    names = ["user_id", "video_id"]
    pairs = [blocked(night, each, videos).select(names) for each in (users, without)]
    # Of who wants no profiling nothing is used, and so not what they have seen.
    profiled = users.filter(pc.invert(pc.is_in(users["user_id"], value_set=without["user_id"])))
    pairs.append(memory.pairs(night, profiled, videos).select(names))
    return {
        **tables,
        "suppressed_users": night.suppressed(),
        "unprofiled": without.select(["user_id"]),
        "blocked": pa.concat_tables(pairs, promote_options="permissive")
        .group_by(["user_id", "video_id"])
        .aggregate([]),
    }


def numbered(user_id: pa.Array) -> pa.Table:
    """Return people with numbers in place of the indices that a night has not given them.

    Args:
        user_id: their ids. [n_people]

    Returns:
        user_id and user_idx, from 0.
    """
    numbers = pa.array(np.arange(len(user_id)), pa.int32())
    return pa.table({"user_id": user_id.cast(pa.string()), "user_idx": numbers})


def without_profiling(night: Night, videos: pa.Table) -> unprofiled.People:
    """Return who wants no profiling as of now, and what is not shown to them.

    Args:
        night: its warehouse has the preferences.
        videos: `video_nodes` of the day.

    Returns:
        The people, in the order of their ids.
    """
    users = numbered(night.unprofiled())
    names = ["user_idx", "video_idx"]
    barred = blocked(night, users, videos).select(names)
    if night.config.authors_are_users:
        own = knowledge.uploads(users, videos).select(names).cast(barred.schema)
        barred = pa.concat_tables([barred, own])
    return unprofiled.people(users["user_id"].combine_chunks(), barred)


def unexplored(night: Night, users: pa.Table) -> Int64s:
    """Return who does not want new videos tried on them, as of now.

    Args:
        night: its warehouse has the preferences.
        users: `users` of the day.

    Returns:
        user_idx, ascending. [n_unexplored]
    """
    wishes = night.preferences()
    ids = wishes.filter(pc.equal(wishes["kind"], NO_EXPLORATION))["user_id"]
    chosen = users.filter(pc.is_in(users["user_id"], value_set=ids.combine_chunks()))
    return np.sort(chosen["user_idx"].to_numpy().astype(np.int64))
