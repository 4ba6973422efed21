"""Make the lists of users and of who wants no profiling, of segments, for users nobody knows, beside videos, lanes.

Reads: candidates and models (their artefacts) of fit final, users, videos, video_nodes, watch_edges, private_users,
private_edges, exposure_counts, videos, modality_edges, video_features, suppressed_users, preferences as of now,
gate_results of fit trial (whether the learned blend is trusted).
Writes: recommendations, segment_recommendations, fallback_recommendations, similar_videos and
rewatch_recommendations of the day; no rows of the last unless the recipe asks for it.
"""

import datetime as dt
from functools import partial

from microrec.candidates.lists import fill, rewatch
from microrec.evaluation import gate
from microrec.pipeline import fit_tables, similar_videos
from microrec.pipeline.lists import ListMaker
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from microrec.pipeline.segment_lists import SegmentMaker
from microrec.runner import job, shards


def main(day: job.Day) -> None:
    """Blend, filter and fill for all users of the day."""
    night = Night.open(day, fit="final")
    tables = fit_tables.read(night)
    users = fit_tables.served_users(night, tables)
    end = night.horizon
    valid_until = end + dt.timedelta(hours=night.config.valid_hours)

    maker = ListMaker(night, tables, Proposals.open(night))
    trusted = gate.trusts_learned(night.read("gate_results", fit="trial"))
    recommend = partial(maker.recommend, trusted=trusted, valid_until=valid_until)
    shards.write("recommendations", recommend, maker.everyone(users), day=day)

    of_segments = SegmentMaker(maker, trusted)
    recommend = partial(of_segments.recommend, valid_until=valid_until)
    shards.write("segment_recommendations", recommend, users, day=day)
    nodes = {"video": tables.videos}
    rows = fill.with_ids(of_segments.fallback(), nodes=nodes, valid_until=valid_until)
    night.write("fallback_recommendations", rows)

    rows = similar_videos.rows(night, tables, valid_until=valid_until)
    night.write("similar_videos", rows)

    again = rewatch.lanes(
        tables.histories,
        users=users,
        known=tables.knowledge,
        until=end,
        config=night.recipe.section("candidates.rewatch", rewatch.Config),
    )
    nodes = {"user": tables.users, "video": tables.videos}
    rows = fill.with_ids(again, nodes=nodes, valid_until=valid_until)
    night.write("rewatch_recommendations", rows)


if __name__ == "__main__":
    job.start(main)
