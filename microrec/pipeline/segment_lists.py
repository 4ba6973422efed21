"""The lists of surfaces and tags of a night: what they are made of, and whether they may be published."""

import datetime as dt
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.lists import fill, ladder, segments
from microrec.candidates.lists.segments import Members, Segment
from microrec.core.array_types import Indices
from microrec.evaluation import gate, subjects
from microrec.pipeline.lists import ListMaker
from microrec.pipeline.night import Night

COUNTS = ["user_idx", "video_idx", "surface", "shown_on", "n_positive"]
"""What is read of `exposure_counts`."""
EPOCH = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, eq=False)
class SegmentMaker:
    """Makes the lists of segments out of what the lists of all are made of."""

    lists: ListMaker
    trusted: bool
    """Whether the learned order counts, if there is one."""

    def recommend(self, *, users: Indices, valid_until: dt.datetime) -> pa.Table:
        """Make the lists of some users.

        Args:
            users: user_idx [n_users] of consecutive users, ascending.
            valid_until: instant at which a row expires, UTC.

        Returns:
            Rows of `segment_recommendations`.
        """
        made_of = self.lists
        learned = self.trusted and made_of.proposals.has_learned_order()
        order = made_of.proposals.learned_order(users) if learned else None
        rows = segments.select(
            made_of.proposals.lists(users),
            members=self._members.among(users),
            known=made_of.tables.knowledge,
            k=made_of.night.config.k,
            shaping=replace(made_of.shaping, learned=order),
            offset=self._config.offset,
        )
        nodes = {"user": made_of.tables.users, "video": made_of.tables.videos}
        return fill.with_ids(rows, nodes=nodes, valid_until=valid_until)

    def fallback(self) -> pa.Table:
        """Return the lists for users nobody knows, of everything and of each segment.

        Returns:
            One row per (segment, rank), see `ladder.fallback` and `segments.everyones_lists`.
        """
        k = self.lists.night.config.k
        of_segments = segments.everyones_lists(self._segments, self._everyones, k)
        return pa.concat_tables([ladder.fallback(self.lists.rungs, k), of_segments])

    @property
    def _config(self) -> segments.Config:
        return self.lists.night.recipe.section("candidates.segments", segments.Config)

    @cached_property
    def _everyones(self) -> ladder.Ladder:
        return ladder.climb(self.lists.rungs, ladder.SEGMENTS["__global__"])

    @cached_property
    def _segments(self) -> list[Segment]:
        """Surfaces, then tags."""
        night, known = self.lists.night, self.lists.tables.knowledge
        of_surfaces = segments.of_surfaces(
            self._counts,
            self._everyones,
            n_videos=known.n_videos,
            today=night.day.toordinal() - EPOCH + 1,
            k=night.config.k,
            config=self._config,
        )
        of_tags = segments.of_tags(
            tags(night, self.lists.tables.videos),
            self._everyones,
            likers=known.likers,
            k=night.config.k,
            config=self._config,
        )
        return of_surfaces + of_tags

    @cached_property
    def _counts(self) -> pa.Table:
        """`exposure_counts` of the day."""
        return self.lists.night.read("exposure_counts", columns=COUNTS)

    @cached_property
    def _members(self) -> Members:
        known = self.lists.tables.knowledge
        return segments.members(self._segments, self._counts, known=known, config=self._config)


def tags(night: Night, videos: pa.Table) -> pa.Table:
    """Return the tags of the night's videos.

    Args:
        night: has the videos of its day.
        videos: `video_nodes` of the day.

    Returns:
        video_idx and tags, of every video that the day has both of.
    """
    ids = videos.sort_by("video_idx")["video_id"].combine_chunks()
    rows = night.read("videos", columns=["video_id", "tags"])
    index = pc.index_in(rows["video_id"], value_set=ids)
    return pa.table({"video_idx": index, "tags": rows["tags"]}).filter(pc.is_valid(index))


def judge(night: Night, personal: subjects.Lists, *, config: gate.Config) -> list[gate.Result]:
    """Compare the users' lists of segments with every law of lists, as they were written.

    Args:
        night: has them.
        personal: the users' lists of everything, and what those must obey.
        config: thresholds.

    Returns:
        One result per law, prefix `segment_`; none where nobody has such a list, as of a log without surfaces and tags.
    """
    rows = night.read("segment_recommendations")
    if not rows.num_rows:
        return []
    lists = subjects.of_segments(rows, night=personal)
    return gate.check(lists, config=config, checks=gate.LAWS, prefix="segment_")
