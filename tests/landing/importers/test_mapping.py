"""A mapping file and the command line's words above it; faults by name."""

from pathlib import Path

import pytest

from microrec.errors import LandingError
from microrec.landing.importers.mapping import Mapping


def test_load_words_of_the_command_line_stand_above_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(
        'table = "raw_videos"\nday = "2026-01-01"\n[columns]\nvideo_id = "id"\ntags = "t"\n'
    )
    mapping = Mapping.load(path, {"table": "", "columns": {"tags": "tag"}, "day": None})
    assert (mapping.table, mapping.day) == ("raw_videos", "2026-01-01")
    assert mapping.columns == {"video_id": "id", "tags": "tag"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no table; say --as with one of raw_interactions"),
        ("table = 'raw_interaction'", "table: .*not one of raw_interactions"),
        ("table = 'raw_videos'\ntimezone = 'UTC'", "timezone: Extra inputs"),
        ("table = 'raw_videos'\ntime_zone = 'Mars/Base'", "time_zone: .*no time zone 'Mars/Base'"),
        ("table = 'raw_videos'\n[units]\nduration_ms = 'seconds'", r"units\.duration_ms: .*'s'"),
        ("table = ", r"mapping\.toml: .*at end of document"),
    ],
)
def test_load_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    with pytest.raises(LandingError, match=message):
        Mapping.load(path, {})


def test_load_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LandingError, match=r"mapping .*none\.toml: .*No such file"):
        Mapping.load(tmp_path / "none.toml", {})
