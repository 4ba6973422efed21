"""Validate what arrived: raw lines become events, or keep the rule that refused them.

Reads:  landing raw_(interactions, videos, video_features, clip_features, privacy_requests, preferences)
Writes: events, rejected_rows (arrival days of the window no night validated yet or whose files have changed, and the
        night's own; of the other raw tables also earlier days that no night has kept), videos, video_features,
        clip_features, landing_files, metrics (stages events and arrivals), gate_results (fit arrivals), and as of now
        privacy_ledger, suppressed_users, withheld_periods, preferences

The landing zone is listed once: that is what is read, and what the events are said to be made of. `rejected_rows` is
committed after `events`: it marks an arrival day as validated. If a gate holds what arrived, and no reason overrules
it, gate_results alone is written.
"""

from contextlib import ExitStack

from microrec.config.settings import settings
from microrec.events import catalogue, counts, rejected, signals
from microrec.events.config import Config
from microrec.landing import readers, verify
from microrec.landing.listing import Listing
from microrec.pipeline import (
    arrival_figures,
    arrival_gate,
    arrival_lines,
    arrival_plan,
    landing_files,
)
from microrec.pipeline.arrival_gate import Delivery
from microrec.pipeline.night import Night, last_consent
from microrec.pipeline.withheld import Withheld
from microrec.runner import job
from microrec.tables.spark import Warehouse


def main(day: job.Day) -> None:
    """Validate the arrival days of a night's window, and its catalogue and consent."""
    night = Night.open(day)
    landing = settings().landing
    warehouse = Warehouse.open()
    listing = Listing.take(landing, last=day)
    plan = arrival_plan.current_plan(night, listing)
    days = plan.validated
    limits = verify.limits_of(night.recipe)
    withheld = Withheld.as_of_now(night, warehouse)
    named = readers.named_faults(
        warehouse.session, landing, listing, interactions=plan.read, limits=limits
    )
    with ExitStack() as kept, named:
        raw = arrival_lines.judged(warehouse.session, listing, night=night, kept=kept)
        states = catalogue.states(raw["raw_videos"].judged)
        read = readers.read_days(
            warehouse.session, landing, counts.LINES, plan.read, limits=limits, listing=listing
        )
        raw[counts.LINES] = arrival_lines.interactions(
            read, states, night=night, days=days, withheld=withheld, kept=kept
        )
        judged = {name: lines.judged for name, lines in raw.items()}
        suppressed = warehouse.read("suppressed_users", day=last_consent(warehouse))
        delivered = {name: lines.delivered for name, lines in raw.items()}
        tallies = counts.tally(delivered, judged, suppressed).collect()
        listing.require_same(landing)
        viewings = signals.viewings(judged[counts.LINES], night.recipe.section("events", Config))
        figures = arrival_gate.require(night, warehouse, Delivery(raw, tallies, days), viewings)
        arrived = [{"arrived_on": each} for each in days]
        warehouse.write(
            "events", viewings, replace=arrived, made_with=arrival_plan.words(night, listing, days)
        )
        marked = arrival_lines.kept_scopes(night, listing, days)
        refused = withheld.without_erased(rejected.rejected_rows(judged, marked))
        warehouse.write("rejected_rows", refused, replace=marked)
        for table, rows_of in catalogue.AS_OF_DAY.items():
            warehouse.write(
                table, withheld.without_authors(rows_of(judged[f"raw_{table}"])), day=day
            )
        counted = landing_files.write(night, listing, counts.metrics(tallies, day), read=days)
        arrival_figures.write(night, figures, counted, days=days)


if __name__ == "__main__":
    job.start(main)
