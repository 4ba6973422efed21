"""Validate what arrived: raw lines become events, or keep the rule that refused them.

Reads:  landing raw_(interactions, videos, video_features, clip_features, privacy_requests)
Writes: events, rejected_events (arrival days of the window no night validated yet, and the night's
        own), videos, video_features, clip_features, suppressed_users, metrics (stage events)

`rejected_events` is committed after `events`: it marks an arrival day as validated.
"""

import logging
from contextlib import ExitStack

from microrec.config import recipe
from microrec.config.settings import settings
from microrec.events import arrivals, catalogue, consent, counts, parse, rules, signals
from microrec.events.config import Config
from microrec.landing import readers, zone
from microrec.runner import job
from microrec.tables.spark import Warehouse

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Validate the arrival days of a night's window, and its catalogue and consent."""
    night, config, landing_root = (
        recipe.night(),
        recipe.section("events", Config),
        settings().landing,
    )
    warehouse, late = Warehouse.open(), night.lateness_days
    landed = zone.days(landing_root, counts.LINES)
    done = [one for one in landed if warehouse.exists("rejected_events", day=one)]
    plan = arrivals.plan(
        day, landed=landed, committed=done, window_days=night.window_days, lateness_days=late
    )
    days = plan.validated
    with ExitStack() as kept:
        tables = {}
        for name, judge in {**catalogue.JUDGES, **consent.JUDGES}.items():
            tables[name] = judge(
                readers.read_through(warehouse.session, landing_root, name, day)
            ).persist()
            kept.callback(tables[name].unpersist)
        lines = readers.read_days(warehouse.session, landing_root, counts.LINES, plan.read)
        states, typed = catalogue.states(tables["raw_videos"]), parse.interactions(lines)
        judged = rules.judge(typed, states, days=days, config=config, lateness_days=late).persist()
        kept.callback(judged.unpersist)
        suppressed = consent.suppressed_users(tables["raw_privacy_requests"])
        tallies = counts.tally(lines, judged, tables, suppressed).collect()
        for one in days:
            logger.info("validated arrived_on=%s %s", one, counts.checked(tallies, one))
        words = [zone.stamp(landing_root, counts.LINES, one, back=late) for one in days]
        arrived = [{"arrived_on": one} for one in days]
        warehouse.write(
            "events", signals.viewings(judged, config), replace=arrived, made_with=words
        )
        warehouse.write(
            "rejected_events", rules.rejected(judged), replace=[{"day": d} for d in days]
        )
        warehouse.write("videos", catalogue.videos(tables["raw_videos"]), day=day)
        vectors = catalogue.video_features(tables["raw_video_features"])
        warehouse.write("video_features", vectors, day=day)
        warehouse.write(
            "clip_features", catalogue.clip_features(tables["raw_clip_features"]), day=day
        )
        warehouse.write("suppressed_users", suppressed, day=day)
        rows = warehouse.session.createDataFrame(counts.metrics(tallies, day))
        warehouse.write("metrics", rows, day=day, stage="events")


if __name__ == "__main__":
    job.start(main)
