"""Validate what arrived: raw lines become events, or keep the rule that refused them.

Reads:  landing raw_(interactions, videos, video_features, clip_features, privacy_requests)
Writes: events, rejected_events (arrival days of the window no night validated yet, and the night's
        own), videos, video_features, clip_features, suppressed_users, metrics (stage events)

`rejected_events` is committed after `events`: it marks an arrival day as validated.
"""

import logging
from contextlib import ExitStack

from microrec.config.settings import settings
from microrec.events import catalogue, consent, counts, parse, rules, signals
from microrec.events.config import Config
from microrec.landing import readers, zone
from microrec.pipeline import arrival_plan
from microrec.pipeline.night import Night
from microrec.runner import job
from microrec.tables.spark import Warehouse

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Validate the arrival days of a night's window, and its catalogue and consent."""
    night = Night.open(day)
    config = night.recipe.section("events", Config)
    landing = settings().landing
    late = night.config.lateness_days
    warehouse = Warehouse.open()
    plan = arrival_plan.current_plan(night, warehouse)
    days = plan.validated
    with ExitStack() as kept:
        tables = {}
        for name, judge in {**catalogue.JUDGES, **consent.JUDGES}.items():
            delivered = readers.read_through(warehouse.session, landing, name, day)
            tables[name] = judge(delivered).persist()
            kept.callback(tables[name].unpersist)
        lines = readers.read_days(warehouse.session, landing, counts.LINES, plan.read)
        states = catalogue.states(tables["raw_videos"])
        judged = rules.judge(
            parse.interactions(lines), states, days=days, config=config, lateness_days=late
        ).persist()
        kept.callback(judged.unpersist)
        suppressed = consent.suppressed_users(tables["raw_privacy_requests"])
        tallies = counts.tally(lines, judged, tables, suppressed).collect()
        for each in days:
            logger.info("validated arrived_on=%s %s", each, counts.checked(tallies, each))
        stamps = [zone.stamp(landing, counts.LINES, each, back=late) for each in days]
        arrived = [{"arrived_on": each} for each in days]
        warehouse.write(
            "events", signals.viewings(judged, config), replace=arrived, made_with=stamps
        )
        marked = [{"day": each} for each in days]
        warehouse.write("rejected_events", rules.rejected(judged), replace=marked)
        as_of_day = {
            "videos": catalogue.videos(tables["raw_videos"]),
            "video_features": catalogue.video_features(tables["raw_video_features"]),
            "clip_features": catalogue.clip_features(tables["raw_clip_features"]),
            "suppressed_users": suppressed,
        }
        for table, frame in as_of_day.items():
            warehouse.write(table, frame, day=day)
        rows = warehouse.session.createDataFrame(counts.metrics(tallies, day))
        warehouse.write("metrics", rows, day=day, stage="events")


if __name__ == "__main__":
    job.start(main)
