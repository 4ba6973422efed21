"""Which files of videos there are: the last named of each kind, inside the landing zone, plain files alone."""

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import pytest

from microrec.landing import media, verify

DAY = dt.date(2026, 1, 5)


@pytest.fixture
def root(place: Path) -> Path:
    folder = place / "landing"
    (folder / "media").mkdir(parents=True)
    (folder / "media" / "a.mp4").write_bytes(b"film")
    (folder / "media" / "b.mp4").write_bytes(b"another film")
    return folder


def deliver(root: Path, *rows: dict[str, Any] | str, day: dt.date = DAY) -> None:
    folder = root / "raw_media" / f"day={day}"
    folder.mkdir(parents=True, exist_ok=True)
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "part-0.jsonl").write_text("".join(f"{text}\n" for text in texts))


def files(root: Path, last: dt.date = DAY) -> dict[str, dict[str, Any]]:
    rows = media.read(str(root), last=last, limits=verify.DEFAULT, timezone="UTC")
    return media.files(str(root), rows)


def row(video: str, path: str | None, kind: str = "video") -> dict[str, Any]:
    return {"video_id": video, "kind": kind, "path": path}


def test_last_delivered_path_of_each_kind_counts(root: Path) -> None:
    deliver(root, row("v1", "media/a.mp4"), row("v1", "media/a.mp4", " Sound"))
    deliver(root, row("v1", "media/b.mp4"), day=DAY + dt.timedelta(days=1))
    before, after = files(root)["v1"], files(root, DAY + dt.timedelta(days=1))["v1"]
    assert before["video"].path == str(root / "media" / "a.mp4")
    assert after["video"].path == str(root / "media" / "b.mp4")
    assert before["sound"] == after["sound"]
    assert before["video"].stamp != after["video"].stamp


def test_empty_path_withdraws_a_file(root: Path) -> None:
    deliver(root, row("v1", "media/a.mp4"), row("v1", None), row("v2", ""))
    assert files(root) == {"v1": {}, "v2": {}}


def test_file_written_anew_has_another_stamp(root: Path) -> None:
    deliver(root, row("v1", "media/a.mp4"))
    (first,) = files(root)["v1"].values()
    (root / "media" / "a.mp4").write_bytes(b"film, longer")
    (second,) = files(root)["v1"].values()
    assert first.stamp != second.stamp


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/hostname", "media/link", "media/pipe", "media", "media/none.mp4", "a\x00b", "x" * 900],
)  # fmt: skip
def test_path_that_is_no_plain_file_of_the_zone_is_no_file(root: Path, path: str) -> None:
    (root.parent / "secret").write_text("secret")
    (root / "media" / "link").symlink_to(root.parent / "secret")
    os.mkfifo(root / "media" / "pipe")
    deliver(root, row("v1", path), row("v2", "media/a.mp4"))
    named = files(root)
    assert named.get("v1", {"video": None}) == {"video": None}
    assert named["v2"]["video"] is not None


def test_refused_rows_take_no_other_along(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    deliver(
        root, row("", "media/a.mp4"), row("v1", "media/a.mp4", "poster"), "{broken", row("v2", "media/a.mp4")
    )  # fmt: skip
    assert set(files(root)) == {"v2"}
    assert '"missing_video": 1' in caplog.text
    assert '"unknown_kind": 1' in caplog.text


def test_zone_without_media_names_none(root: Path) -> None:
    assert files(root) == {}
