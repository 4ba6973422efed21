"""An earlier night without what its users have withdrawn since."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa

from microrec.pipeline import fit_tables
from microrec.pipeline.night import Night

DAY = dt.date(2026, 1, 5)
NOON = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC)


def commit(night: Night, table: str, *rows: dict[str, Any]) -> None:
    contract = night.warehouse.table(table).contract
    schema = contract.schema
    filled = [{name: row.get(name) for name in schema.names} | {"day": night.day} for row in rows]
    scopes = [{name: row[name] for name in contract.partition} for row in filled]
    rows_in = pa.Table.from_pylist(filled, schema=schema)
    night.warehouse.write(table, rows_in, replace=scopes)


def test_read_without_withdrawn_drops_edges_and_names_their_users(place: Path) -> None:
    night = Night.open(DAY, fit="trial")
    ids = ("back", "back before", "out", "shy", "u", "quiet")
    commit(night, "users", *[
        {"user_idx": idx, "user_id": user, "degree": 1, "first_seen": NOON} for idx, user in enumerate(ids)
    ])  # fmt: skip
    commit(night, "watch_edges", *[
        {
            "split": "train", "user_idx": idx, "video_idx": 0, "weight": 1.0, "n_views": 1, "n_positive": 1,
            "n_negative": 0, "undone": False, "last_at": NOON,
        }
        for idx in range(len(ids))
    ])  # fmt: skip
    video = {"video_idx": 0, "video_id": "v", "degree": 4, "eligible": True, "clip_ends_ms": []}
    commit(night, "video_nodes", video)
    out = {"user_id": "out", "kind": "opt_out", "requested_at": NOON}
    commit(night.at(DAY + dt.timedelta(days=9), fit="final"), "suppressed_users", out)
    shy = {"user_id": "shy", "kind": "no_profiling", "value": "", "since": NOON}
    quiet = {"user_id": "quiet", "kind": "no_teaching", "value": "", "since": NOON}
    commit(night.at(DAY + dt.timedelta(days=9), fit="final"), "preferences", shy, quiet)
    window = dt.timedelta(days=night.config.window_days)
    back = {"user_id": "back", "since": NOON, "until": NOON + dt.timedelta(1), "first_day": DAY}
    long_back = {"user_id": "back before", "since": None, "until": NOON - window}
    commit(
        night,
        "withheld_periods",
        back | {"last_day": DAY + dt.timedelta(days=1)},
        long_back | {"last_day": DAY - window},
    )
    tables, withdrawn = fit_tables.read_without_withdrawn(night)
    assert withdrawn.tolist() == [0, 2, 3, 5]
    assert sorted(tables.edges["user_idx"].to_pylist()) == [1, 4]
    assert tables.users.num_rows == 6
    assert fit_tables.served_users(night, tables).tolist() == [0, 1, 4, 5]
