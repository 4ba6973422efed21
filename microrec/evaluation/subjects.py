"""Ranked lists together with what they must obey, in one shape for every gate.

Built by id from what was read back, so that the final gate sees an index mapped to the wrong id; by
index in the trial, where no ids exist yet.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Indices
from microrec.core.knowledge import Knowledge
from microrec.core.request_kinds import NO_PROFILING


@dataclass(frozen=True)
class Lists:
    """Ranked lists and what they must obey; keys are indices or ids, the same in all tables.

    Shapes:
        lists: (user, rank, video, score), one row per place.
        users: (user), everyone who must have a list.
        seen: (user, video), distinct: what the user has seen or, if that is known, uploaded.
        eligible: (video), distinct.
        suppressed: (user), who must not have a list.
    """

    lists: pa.Table
    users: pa.Table
    seen: pa.Table
    eligible: pa.Table
    suppressed: pa.Table
    k: int


SEEN = """
    SELECT DISTINCT user_id AS "user", video_id AS video
    FROM edges JOIN users USING (user_idx) JOIN videos USING (video_idx)
"""
"""One row per (user, video) that the edges hold, by id."""

OWN = """
    UNION SELECT users.user_id, videos.video_id
    FROM videos JOIN users ON users.user_id = videos.author_id
"""
"""And one per video that a user has uploaded."""


BLOCKED = """
    UNION SELECT user_id, video_id FROM blocked
"""
"""And one per video that a user has blocked."""


BESIDE = """
    SELECT
        CASE kind WHEN 'fused' THEN video_id ELSE video_id || chr(10) || kind END AS "user",
        rank, similar_video_id AS video, similarity AS score, video_id AS itself
    FROM rows
"""
"""A list of each video and kind; no id has a line break."""

OF_SEGMENTS = """
    SELECT user_id || chr(10) || segment AS "user", rank, video_id AS video, score, user_id FROM rows
"""
"""A list of each user and segment; no id has a line break."""

EACH_SEGMENT = """
    SELECT DISTINCT keyed."user", other.* EXCLUDE ("user") FROM keyed JOIN other ON other."user" = keyed.user_id
"""
"""What is so of a user, for each of the user's lists."""

SHOWN = """
    SELECT video_id AS video FROM videos WHERE eligible AND coalesce(published_at < $until, true)
"""
"""Videos that may be shown."""


def by_id(
    lists: pa.Table, *, night: Mapping[str, pa.Table], k: int, authors_are_users: bool = False
) -> Lists:
    """Return the personal lists as read back from the table, and what they must obey, by the producers' ids.

    Args:
        lists: `recommendations` rows.
        night: tables by name: watch_edges, users, video_nodes of the day; as of now suppressed_users, unprofiled, the
            user_id of who wants no profiling, and blocked, the user_id and video_id of what users have blocked.
        k: length of a list.
        authors_are_users: whether an author_id is a user_id.

    Returns:
        What `gate.check` reads.
    """
    users = night["users"]
    videos = night["video_nodes"]
    with duckdb.connect() as session:
        session.register("edges", night["watch_edges"])
        session.register("users", users)
        session.register("videos", videos)
        session.register("blocked", night["blocked"])
        seen = session.sql(SEEN + BLOCKED + OWN * authors_are_users).to_arrow_table()
    unused = _together(
        *(night[name].select(["user_id"]) for name in ("suppressed_users", "unprofiled"))
    )
    kept = users.filter(pc.invert(pc.is_in(users["user_id"], value_set=unused["user_id"])))
    personal = lists.filter(pc.fill_null(pc.not_equal(lists["source"], NO_PROFILING), True))
    return Lists(
        lists=_keyed(personal, user="user_id", rank="rank", video="video_id", score="score"),
        users=_keyed(kept, user="user_id"),
        seen=seen,
        eligible=_keyed(videos.filter(videos["eligible"]), video="video_id"),
        suppressed=_keyed(unused, user="user_id"),
        k=k,
    )


def unprofiled(
    lists: pa.Table, *, night: Mapping[str, pa.Table], k: int, authors_are_users: bool = False
) -> Lists:
    """Return the lists without profiling as read back from the table, and what they must obey, by the producers' ids.

    Args:
        lists: `recommendations` rows.
        night: as of `by_id`.
        k: length of a list.
        authors_are_users: whether an author_id is a user_id.

    Returns:
        What `gate.check` reads: who wants no profiling is expected, everybody else must not have such a list.
    """
    people, users, videos = night["unprofiled"], night["users"], night["video_nodes"]
    barred = [night["blocked"].select(["user_id", "video_id"])]
    if authors_are_users:
        own = videos.filter(pc.is_in(videos["author_id"], value_set=people["user_id"]))
        barred.append(own.select(["author_id", "video_id"]).rename_columns(["user_id", "video_id"]))
    pairs = _together(*barred).group_by(["user_id", "video_id"]).aggregate([])
    asked = pc.is_in(pairs["user_id"], value_set=people["user_id"])
    same = pc.equal(lists["source"], NO_PROFILING)
    others = pc.invert(pc.is_in(users["user_id"], value_set=people["user_id"]))
    return Lists(
        lists=_keyed(
            lists.filter(same), user="user_id", rank="rank", video="video_id", score="score"
        ),
        users=_keyed(people, user="user_id"),
        seen=_keyed(pairs.filter(asked), user="user_id", video="video_id"),
        eligible=_keyed(videos.filter(videos["eligible"]), video="video_id"),
        suppressed=_together(
            _keyed(night["suppressed_users"], user="user_id"),
            _keyed(users.filter(others), user="user_id"),
        ),
        k=k,
    )


def fallback(lists: pa.Table, *, videos: pa.Table, k: int) -> Lists:
    """Return the fallback lists and what they must obey; segments stand for users, `__global__` is expected.

    Args:
        lists: `fallback_recommendations` rows.
        videos: `video_nodes` of the day.
        k: length of a list.

    Returns:
        What `gate.check` reads.
    """
    nobody = pa.table({"user": pa.array([], pa.string()), "video": pa.array([], pa.string())})
    return Lists(
        lists=_keyed(lists, user="segment", rank="rank", video="video_id", score="score"),
        users=pa.table({"user": ["__global__"]}),
        seen=nobody,
        eligible=_keyed(videos.filter(videos["eligible"]), video="video_id"),
        suppressed=nobody.select(["user"]),
        k=k,
    )


def beside_videos(lists: pa.Table, *, videos: pa.Table, k: int, until: dt.datetime) -> Lists:
    """Return the similar videos and what they must obey; each kind of list of a video stands for a user.

    The fused list of every video that may be shown is expected, and has the others; a video is not like itself.

    Args:
        lists: `similar_videos` rows.
        videos: `video_nodes` of the day.
        k: length of a fused list.
        until: a video that is published at this instant or later may not be shown.

    Returns:
        What `gate.check` reads.
    """
    with duckdb.connect() as session:
        session.register("rows", lists)
        session.register("videos", videos)
        session.execute("SET TimeZone = 'UTC'")
        keyed = session.sql(BESIDE).to_arrow_table()
        shown = session.sql(SHOWN, params={"until": until}).to_arrow_table()
    itself = {"user": keyed["user"], "video": keyed["itself"]}
    own = pa.concat_tables(
        [pa.table(itself), shown.append_column("user", shown["video"]).select(["user", "video"])]
    )
    return Lists(
        lists=keyed.select(["user", "rank", "video", "score"]),
        users=shown.rename_columns(["user"]),
        seen=own.group_by(["user", "video"]).aggregate([]),
        eligible=shown,
        suppressed=shown.slice(0, 0).rename_columns(["user"]),
        k=k,
    )


def of_segments(lists: pa.Table, *, night: Lists) -> Lists:
    """Return the users' lists of segments and what they must obey; each list of a user stands for a user.

    Nobody is expected to have one, and who has one has K videos.

    Args:
        lists: `segment_recommendations` rows.
        night: the users' lists of everything, and what those must obey, by id.

    Returns:
        What `gate.check` reads.
    """
    with duckdb.connect() as session:
        session.register("rows", lists)
        session.execute(f"CREATE TEMP TABLE keyed AS {OF_SEGMENTS}")

        def each(other: pa.Table) -> pa.Table:
            session.register("other", other)
            return session.sql(EACH_SEGMENT).to_arrow_table()

        return Lists(
            lists=session.sql("SELECT * EXCLUDE (user_id) FROM keyed").to_arrow_table(),
            users=session.sql('SELECT DISTINCT "user" FROM keyed').to_arrow_table(),
            seen=each(night.seen),
            eligible=night.eligible,
            suppressed=each(night.suppressed),
            k=night.k,
        )


def by_idx(
    lists: pa.Table,
    *,
    users: Indices,
    known: Knowledge,
    k: int,
) -> Lists:
    """Return the lists of the trial and what they must obey, by index; nobody of `users` is suppressed.

    Args:
        lists: one row per (user, rank): user_idx, rank, video_idx, score.
        users: user_idx of everyone who must have a list. [n_users]
        known: what may not be in a list.
        k: length of a list.

    Returns:
        What `gate.check` reads.
    """
    seen = known.barred.nonzero()
    return Lists(
        lists=_keyed(lists, user="user_idx", rank="rank", video="video_idx", score="score"),
        users=pa.table({"user": users}),
        seen=pa.table({"user": seen[0], "video": seen[1]}),
        eligible=pa.table({"video": np.flatnonzero(known.eligible)}),
        suppressed=pa.table({"user": np.empty(0, dtype=np.int64)}),
        k=k,
    )


def _together(*tables: pa.Table) -> pa.Table:
    """Rows of tables with the same columns, whether a contract promises values in them or not."""
    return pa.concat_tables(tables, promote_options="permissive")


def _keyed(table: pa.Table, **columns: str) -> pa.Table:
    """The named columns under the names the checks use."""
    return table.select(list(columns.values())).rename_columns(list(columns))
