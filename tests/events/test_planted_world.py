"""A planted world in all five formats: what was planted is what is found, line by line and vector by vector."""

import datetime as dt
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from jobs import validate_events
from microrec.landing import write
from microrec.synth.world import Config, Truth, generate
from microrec.tables.arrow import Warehouse

pytestmark = pytest.mark.spark

REFUSED = {
    "missing_time": "bad_timestamp",
    "unparsable_time": "bad_timestamp",
    "unparsable_watch": "bad_watch",
}
"""Labels of the world whose rule has another name."""


def test_events_of_a_planted_world_equal_what_was_planted(place: Path, spark: object) -> None:
    world = generate(Config(users=40, videos=80, days=5), np.random.default_rng(8))
    write.write_world(str(place / "landing"), world.parts)
    night = max(world.truth.delivered)
    validate_events.main(day=night)
    warehouse, truth = Warehouse.open(), world.truth

    assert verdicts(warehouse) == planted_verdicts(truth)
    require_nothing_stored_of_who_has_withdrawn(warehouse, night)
    suppressed = warehouse.read("suppressed_users", day=night).to_pylist()
    assert {row["user_id"]: row["kind"] for row in suppressed} == truth.suppressed[night]
    videos = warehouse.read("videos", day=night).to_pylist()
    assert len(videos) == truth.n_videos[night]
    ineligible = [row["video_id"] for row in videos if not row["eligible"]]
    assert sorted(ineligible) == sorted(truth.ineligible[night])
    for modality, planted in truth.vectors.items():
        rows = warehouse.read("video_features", day=night, modality=modality).to_pylist()
        absent = {row["video_id"] for row in videos} - {row["video_id"] for row in rows}
        assert absent == {*planted["missing"], *planted["broken"]}
        zero = [row["video_id"] for row in rows if not any(row["vector"])]
        assert sorted(zero) == sorted(planted["zero"])


def require_nothing_stored_of_who_has_withdrawn(warehouse: Warehouse, night: dt.date) -> None:
    """Nothing was stored that was watched after an opt-out and before the opt-in, nor anything of who is erased."""
    out = warehouse.read("suppressed_users", day=night).to_pylist()
    back = warehouse.read("withheld_periods", day=night).to_pylist()
    assert {row["kind"] for row in out} == {"opt_out", "erase"}
    assert back
    stored = defaultdict(list)
    for row in warehouse.read("events").to_pylist():
        stored[row["user_id"]].append(row["started_at"])
    for row in out:
        of_user = stored[row["user_id"]]
        assert all(row["kind"] == "opt_out" and at < row["requested_at"] for at in of_user)
    for row in back:
        assert not any(row["since"] <= at < row["until"] for at in stored[row["user_id"]])
    # And what was watched before is still there.
    assert any(stored[row["user_id"]] for row in [*out, *back])


def verdicts(warehouse: Warehouse) -> dict[str, Counter[str]]:
    """Lines by arrival day and verdict; those of people who have withdrawn were accepted but for that."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in warehouse.read("metrics", stage="arrivals").to_pylist():
        if (row["name"], row["metric"]) == ("raw_interactions", "withheld"):
            found[str(row["day"])]["accepted"] += int(row["value"])
    for row in warehouse.read("events").to_pylist():
        found[str(row["arrived_on"])]["accepted"] += 1
    for row in warehouse.read("rejected_rows", raw_table="raw_interactions").to_pylist():
        found[str(row["day"])][row["rule"]] += 1
    return dict(found)


def planted_verdicts(truth: Truth) -> dict[str, Counter[str]]:
    planted: dict[str, Counter[str]] = defaultdict(Counter)
    for day, delivered in truth.delivered.items():
        for label, n in delivered.items():
            fate = truth.fates[label]
            verdict = REFUSED.get(label, label) if fate == "rejected" else fate
            planted[str(day)][verdict] += n
    return dict(planted)
