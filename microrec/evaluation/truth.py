"""Who is evaluated on day D and what is right for them."""

from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pyarrow as pa

from microrec.core.array_types import Bools, Int64s
from microrec.errors import MicrorecError

BUCKETS = (
    ("history=0", 0, 0),
    ("history=1", 1, 1),
    ("history=2", 2, 2),
    ("history=3-5", 3, 5),
    ("history=6-20", 6, 20),
    ("history=>20", 21, None),
)
"""Slices by the user's positive edges before D: name, least, most."""

PAIRS = """
    SELECT user_idx, video_idx FROM edges
    WHERE split = 'holdout' AND n_positive > 0
      AND video_idx IN (SELECT video_idx FROM videos WHERE eligible)
      AND (user_idx, video_idx) NOT IN (
          SELECT (user_idx, video_idx) FROM edges WHERE split <> 'holdout')
    ORDER BY ALL
"""
"""One row per (user, video) that is right."""

HELD_OUT = """
    SELECT count(*), count(*) FILTER (WHERE n_positive > 0) FROM edges WHERE split = 'holdout'
"""
"""Pairs of user and video of the held-out day, and the positive ones among them."""

POSITIVES = """
    WITH parts AS (
        SELECT *, CASE split WHEN 'train' THEN 0 ELSE 1 END AS place
        FROM edges WHERE split <> 'holdout')
    SELECT user_idx, video_idx FROM parts GROUP BY ALL
    HAVING max(place) FILTER (WHERE n_positive > 0)
        >= coalesce(max(place) FILTER (WHERE undone), 0)
"""
"""One row per (user, video) that is positive before D: undo beats do."""


@dataclass(frozen=True)
class Truth:
    """What is right, and what is known of the users and videos it is about.

    Shapes:
        users: [n_evaluated] user_idx, ascending; each has at least one right video.
        row: [n_pairs] position in `users`.
        video: [n_pairs] video_idx that is right.
        history: [n_evaluated] positive edges before D.
        viewers: [n_videos] users with a positive edge before D.
        eligible: [n_videos].
    """

    users: Int64s
    row: Int64s
    video: Int64s
    history: Int64s
    viewers: Int64s
    eligible: Bools

    def bucket(self, least: int, most: int | None) -> Bools:
        """Return which evaluated users have a history of a certain length.

        Args:
            least: fewest positive edges of the history.
            most: most of them; None: no bound.

        Returns:
            [n_evaluated].
        """
        upper = np.inf if most is None else most
        return (self.history >= least) & (self.history <= upper)

    def only(self, members: Bools) -> "Truth":
        """Return the same truth, reduced to some users.

        Args:
            members: whom to keep. [n_evaluated]
        """
        return self._of_pairs(members[self.row])

    def cold(self) -> "Truth":
        """Return the same truth, reduced to videos nobody liked before D and to the users who like one of them."""
        return self._of_pairs(self.viewers[self.video] == 0)

    def _of_pairs(self, keep: Bools) -> "Truth":
        """The same truth, reduced to some pairs [n_pairs] and to the users of one of them."""
        rows, row = np.unique(self.row[keep], return_inverse=True)
        return replace(
            self,
            users=self.users[rows],
            row=row,
            video=self.video[keep],
            history=self.history[rows],
        )


def truth(edges: pa.Table, videos: pa.Table, *, note: str = "") -> Truth:
    """Return what is right on the held-out day.

    Args:
        edges: `watch_edges` of the day, all splits.
        videos: `video_nodes` of the day.
        note: what is known of the day's positive viewings, for the message of the error.

    Returns:
        New positive videos of each user who has one, and what was known before.

    Raises:
        MicrorecError: nobody has a right video, so nothing can be measured.
    """
    with duckdb.connect() as session:
        session.register("edges", edges)
        session.register("videos", videos)
        pairs = session.sql(PAIRS).fetchnumpy()
        liked = session.sql(POSITIVES).fetchnumpy()
        held_out = session.sql(HELD_OUT).fetchall()
    if not len(pairs["user_idx"]):
        ((n_pairs, n_positive),) = held_out
        raise MicrorecError(
            "watch_edges: nobody has a new positive video on the held-out day: users watched"
            f" {n_pairs} videos, {n_positive} with a positive viewing, none of them eligible and new"
            f"{'; ' * bool(note)}{note}"
        )
    users, row = np.unique(pairs["user_idx"].astype(np.int64), return_inverse=True)
    likes = np.bincount(liked["user_idx"], minlength=int(users[-1]) + 1)
    eligible = videos.sort_by("video_idx")["eligible"].combine_chunks()
    return Truth(
        users=users,
        row=row,
        video=pairs["video_idx"].astype(np.int64),
        history=likes[users],
        viewers=np.bincount(liked["video_idx"], minlength=videos.num_rows),
        eligible=eligible.to_numpy(zero_copy_only=False),
    )
