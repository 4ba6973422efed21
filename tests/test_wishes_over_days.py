"""What a user has blocked is in no list of theirs for two months of nights, though the request has long gone."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import settings
from microrec.pipeline import fit_tables, requests
from microrec.pipeline.lists import ListMaker
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from tests.worlds import small_tables

FIRST = dt.date(2026, 1, 5)
N_DAYS = 60
RECIPE = '[night]\nk = 10\nmodels = ["popularity"]\n'
VIDEOS = [f"v{number:02}" for number in range(40)]
AUTHOR = {video: f"x{number % 4}" for number, video in enumerate(VIDEOS)}
TAGS = {video: [f"t{number % 5}"] for number, video in enumerate(VIDEOS)}
USERS = ["by_author", "by_tag", "by_video", "nobody"]
BLOCKED = {
    "by_author": {video for video in VIDEOS if AUTHOR[video] == "x1"},
    "by_tag": {video for video in VIDEOS if TAGS[video] == ["t2"]},
    "by_video": {"v00", "v01"},
}


def wish(landing: Path, day: dt.date, kind: str | None = None) -> Path:
    folder = landing / "raw_preferences" / f"day={day}"
    folder.mkdir(parents=True)
    wishes = [("by_author", "block_author", "x1"), ("by_tag", "block_tag", "t2")]
    wishes += [("by_video", "block_video", video) for video in ("v00", "v01")]
    rows = [
        {
            "user_id": user,
            "kind": kind or wished,
            "value": value,
            "requested_at": f"{day}T12:00:00Z",
        }
        for user, wished, value in wishes
    ]
    path = folder / "part-0.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def lists(night: Night) -> dict[str, set[str]]:
    """The final lists of a night, in which every video was watched by one user, another one each day."""
    ids = pa.array(USERS)
    rows = {
        "users": {"user_idx": np.arange(len(USERS)), "user_id": ids},
        "video_nodes": {
            "video_idx": np.arange(len(VIDEOS)), "video_id": VIDEOS, "author_id": [AUTHOR[v] for v in VIDEOS],
        },
        "videos": {"video_id": VIDEOS, "tags": [TAGS[video] for video in VIDEOS]},
    }  # fmt: skip
    for name, columns in rows.items():
        night.write(name, small_tables.complete(name, pa.table(columns), without={"day"}))
    watched = pa.table({"user_idx": [3], "video_idx": [night.day.toordinal() % len(VIDEOS)]})
    rows_of = small_tables.complete("watch_edges", watched, without={"day", "split"})
    night.write("watch_edges", rows_of, split="train")
    tables = fit_tables.read(night)
    maker = ListMaker(night, tables, Proposals.open(night))
    listed = maker.select({}, users=np.arange(len(USERS)), learned=None).to_pylist()
    return {
        user: {VIDEOS[row["video_idx"]] for row in listed if row["user_idx"] == number}
        for number, user in enumerate(USERS)
    }


def test_blocked_videos_authors_and_tags_stay_out_until_they_are_unblocked(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have those videos in their lists on every one of the nights."""
    (place / "recipe.toml").write_text(RECIPE)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    landing = place / "landing"
    asked = wish(landing, FIRST)
    for number in range(N_DAYS):
        night = Night.open(FIRST + dt.timedelta(days=number))
        requests.fold(night, str(landing))
        asked.unlink(missing_ok=True)
        listed = lists(night)
        for user, blocked in BLOCKED.items():
            assert len(listed[user]) == 10
            assert not listed[user] & blocked, (number, user)
        assert listed["nobody"] & BLOCKED["by_author"]
        assert listed["nobody"] & BLOCKED["by_tag"]
    last = FIRST + dt.timedelta(days=N_DAYS)
    wish(landing, last, "unblock")
    requests.fold(Night.open(last), str(landing))
    again = lists(Night.open(last))
    assert all(again[user] & blocked for user, blocked in BLOCKED.items())
