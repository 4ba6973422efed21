"""Turns the public KuaiRand files into a landing zone.

KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos, Gao et al.,
CIKM 2022, doi 10.1145/3511808.3557624; licence CC BY-SA 4.0, so what is derived from it names it
and is shared alike. Read are the basic video table (`video_features_basic_pure.csv`, of the other
editions `video_features_basic_1k.csv` and `_27k.csv`) and every `log_standard_*.csv`, each plain
or gzipped; the log of random exposure is not, because nobody chose those videos.

What becomes what:

- raw_interactions: one row a log line, nothing dropped (about 2 % exact duplicates, 1.6 % without
  a length); the day is that of `time_ms` in the time zone of the recipe (`date` is Asia/Shanghai and
  wrong for 0.9 %), and arrival day = that day. Written as CSV, gzipped, one file per source file and day: the source is
  text, so a rejected line can be read beside it, and the night's text path is exercised on real
  rows. KuaiRand has neither sessions nor line ids: those columns are there and empty.
- raw_videos: only the Shanghai date of upload is known; `published_at` is its first instant. A
  video is delivered on that date, on the first log day if it is older, or, if somebody watched it
  before, on the day of that viewing. `eligible` = `visible_status` 0: the only value of the files
  at hand, read as public (the publishers say no more than "visible state"); any other value, or
  none, is not eligible. No length, or length 0, becomes null. There are no captions.
- raw_video_features: the one real modality is `tags`, a multi-hot vector weighted by
  idf = ln((1 + n) / (1 + n_with_tag)) + 1 and of length 1. n and n_with_tag count the whole video
  table, later uploads included: weights that a nightly producer could not have known to the last
  digit, but that hold no viewing. `encoder_version` carries a digest of the vocabulary and weights.
  A video without tags has no row.

The log alone is also a mapping of `microrec import table`: `kuairand.toml` beside this file. The rest cannot be one:
the day of a video's delivery needs the logs, and the weights of tags all videos.

The whole import is held in memory, so that nothing is written before every file has been read:
185,061 rows took 4 s and 230 MB. Written for the Pure edition; the 27K one would need batches.
"""

import csv
import dataclasses
import datetime as dt
import gzip
import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
from numpy.typing import NDArray

from microrec.core import days
from microrec.errors import LandingError
from microrec.landing import verify, write, zone

_DAY_MS = 86_400_000
_EPOCH = dt.date(1970, 1, 1)
_SHANGHAI_MS = 8 * 3_600_000  # UTC+8, no summer time in these years

_LOG_TYPES = {
    "user_id": pa.string(),
    "video_id": pa.string(),
    "time_ms": pa.int64(),
    "play_time_ms": pa.int64(),
    "duration_ms": pa.int64(),
    "is_like": pa.int64(),
    "is_forward": pa.int64(),
    "is_follow": pa.int64(),
    "is_comment": pa.int64(),
    "is_hate": pa.int64(),
    "tab": pa.string(),
}
_VIDEO_TYPES = {
    "video_id": pa.string(),
    "author_id": pa.string(),
    "upload_dt": pa.string(),
    "visible_status": pa.float64(),
    "video_duration": pa.float64(),
    "tag": pa.string(),
}
_SIGNALS = {
    "liked": "is_like",
    "shared": "is_forward",
    "followed": "is_follow",
    "commented": "is_comment",
    "disliked": "is_hate",
}
_PUBLIC = 0.0

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Planned:
    """One landing file."""

    table: str
    day: dt.date
    name: str
    kind: str
    rows: pa.Table


def import_files(source: Path, landing: str, timezone: str = days.UTC) -> dict[str, int]:
    """Writes the landing zone of a folder of KuaiRand files.

    The same files give the same bytes, so an import that was cut short is simply run again.

    Args:
        source: folder with `log_standard_*` and `video_features_basic_*`.
        landing: root of the landing zone, empty or from the same import.
        timezone: whose days the arrival days are.

    Returns:
        Rows written, by `<table>/day=<day>`, in that order.

    Raises:
        LandingError: a file or column is missing, a file is cut off, a value is no number where
            one must be, or the landing zone holds files that are not of this import.
    """
    logs, catalogue = _sources(source)
    videos = _read(catalogue, _VIDEO_TYPES)
    first_viewed: dict[str, int] = {}
    planned: list[_Planned] = []
    for path in logs:
        log = _read(path, _LOG_TYPES)
        planned += _interactions(path, log, timezone)
        _note_first_viewings(log, first_viewed)
    if not planned:
        raise LandingError(f"{source}: the logs hold no rows")
    planned += _deliveries(catalogue, videos, first_viewed, timezone)
    return _write(landing, planned)


def tag_vectors(tags: Sequence[Sequence[str]]) -> tuple[list[list[float] | None], str]:
    """TF-IDF weighted multi-hot tag vectors of length 1.

    Args:
        tags: tags of each video; a tag that is named twice counts once.

    Returns:
        A vector for each video, None for one without tags, every vector as long as the
        vocabulary; and the version of the encoder.
    """
    n_with_tag = Counter(tag for own in tags for tag in set(own))
    vocabulary = sorted(n_with_tag, key=lambda tag: (len(tag), tag))
    position = {tag: number for number, tag in enumerate(vocabulary)}
    counts = np.array([n_with_tag[tag] for tag in vocabulary], dtype=np.float64)
    idf = np.log((1 + len(tags)) / (1 + counts)) + 1
    text = ",".join(f"{tag}:{n_with_tag[tag]}" for tag in vocabulary) + f"/{len(tags)}"
    version = f"tags-tfidf-{len(vocabulary)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    vectors: list[list[float] | None] = []
    for own in tags:
        vector = np.zeros(len(vocabulary))
        positions = [position[tag] for tag in set(own)]
        vector[positions] = idf[positions]
        vectors.append((vector / np.linalg.norm(vector)).tolist() if positions else None)
    return vectors, version


def _sources(source: Path) -> tuple[list[Path], Path]:
    """The log files and the video table, each proved readable to its end."""
    logs = _named(source, "log_standard_")
    tables = _named(source, "video_features_basic_")
    if not logs:
        raise LandingError(f"{source}: no log_standard_*.csv or .csv.gz")
    if len(tables) != 1:
        raise LandingError(
            f"{source}: {len(tables)} files video_features_basic_*.csv[.gz], expected one"
        )
    for path in [*logs, *tables]:
        verify.verify_file(path)
    return logs, tables[0]


def _named(source: Path, prefix: str) -> list[Path]:
    paths = sorted(
        path for path in source.glob(f"{prefix}*") if path.name.endswith((".csv", ".csv.gz"))
    )
    for first, second in itertools.pairwise(paths):
        if _stem(first) == _stem(second):
            raise LandingError(f"{source}: both {first.name} and {second.name}; keep one")
    return paths


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def _read(path: Path, types: dict[str, pa.DataType]) -> pa.Table:
    """The named columns of a source file; an empty field is null."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        header = next(csv.reader(stream), [])
    for column in types:
        if column not in header:
            raise LandingError(f"{path}: no column {column!r}")
    options = pcsv.ConvertOptions(
        include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
    )
    try:
        return pcsv.read_csv(path, convert_options=options)
    except pa.ArrowInvalid as error:
        raise LandingError(f"{path}: {str(error).splitlines()[0]}") from error


def _note_first_viewings(log: pa.Table, first_viewed: dict[str, int]) -> None:
    """Keeps the earliest `time_ms` of each video over all logs."""
    first = log.group_by("video_id").aggregate([("time_ms", "min")])
    for video, time_ms in zip(
        first["video_id"].to_pylist(), first["time_ms_min"].to_pylist(), strict=True
    ):
        first_viewed[video] = min(time_ms, first_viewed.get(video, time_ms))


def _interactions(path: Path, log: pa.Table, timezone: str) -> Iterator[_Planned]:
    """The rows of one log file by day, in their order."""
    n_timeless = log["time_ms"].null_count
    if n_timeless:
        raise LandingError(f"{path}: {n_timeless} row(s) without time_ms; their day is unknown")
    rows = _as_interactions(log)
    instants = log["time_ms"].cast(pa.timestamp("ms", tz=timezone))
    day_of: NDArray[np.int32] = (
        pc.local_timestamp(instants).cast(pa.date32()).cast(pa.int32()).to_numpy()
    )
    for number in np.unique(day_of):
        day = _EPOCH + dt.timedelta(days=int(number))
        yield _Planned(
            "raw_interactions", day, _stem(path), "csv.gz", rows.filter(day_of == number)
        )


def _as_interactions(log: pa.Table) -> pa.Table:
    absent = pa.nulls(log.num_rows, pa.string())
    columns = {
        "user_id": log["user_id"],
        "video_id": log["video_id"],
        "started_at": log["time_ms"].cast(pa.timestamp("ms", tz="UTC")),
        "watch_ms": log["play_time_ms"],
        "duration_ms": log["duration_ms"],
        **{signal: pc.not_equal(log[column], 0) for signal, column in _SIGNALS.items()},
        "session_id": absent,
        "surface": pc.binary_join_element_wise("tab", log["tab"], "="),
        "event_id": absent,
    }
    return pa.table(columns)


def _deliveries(
    path: Path, videos: pa.Table, first_viewed: dict[str, int], timezone: str
) -> Iterator[_Planned]:
    """The catalogue and the tag vectors by day of delivery."""
    uploads = [_upload_day(path, text) for text in videos["upload_dt"].to_pylist()]
    ids = videos["video_id"].to_pylist()
    viewed = {video: _day_of(time_ms, timezone) for video, time_ms in first_viewed.items()}
    delivered_on = _delivery_days(ids, uploads, viewed)
    catalogue = _as_videos(videos, uploads)
    vectors, version = tag_vectors([tags or [] for tags in catalogue["tags"].to_pylist()])
    features = pa.table(
        {
            "video_id": videos["video_id"],
            "modality": pa.array(["tags"] * len(ids)),
            "encoder_version": pa.array([version] * len(ids)),
            "vector": pa.array(vectors, pa.list_(pa.float32())),
        }
    )
    for day in sorted(set(delivered_on)):
        today = pa.array([own == day for own in delivered_on])
        yield _Planned("raw_videos", day, "videos", "parquet", catalogue.filter(today))
        tagged = pc.and_(today, features["vector"].is_valid())
        if pc.any(tagged).as_py():
            rows = features.filter(tagged)
            yield _Planned("raw_video_features", day, "tags", "parquet", rows)


def _delivery_days(
    ids: Sequence[str], uploads: Sequence[dt.date], viewed: dict[str, dt.date]
) -> list[dt.date]:
    """The day on which each video is delivered: before or on the day it is first watched."""
    first_day = min(viewed.values())
    n_early = sum(
        1 for video, day in zip(ids, uploads, strict=True) if viewed.get(video, day) < day
    )
    n_unknown = len(viewed.keys() - set(ids))
    _logger.info("catalogue videos=%d watched_before_upload=%d", len(ids), n_early)
    _logger.info("logs videos=%d without_catalogue_row=%d", len(viewed), n_unknown)
    return [
        min(max(upload, first_day), viewed.get(video, dt.date.max))
        for video, upload in zip(ids, uploads, strict=True)
    ]


def _as_videos(videos: pa.Table, uploads: Sequence[dt.date]) -> pa.Table:
    published_ms = [(day - _EPOCH).days * _DAY_MS - _SHANGHAI_MS for day in uploads]
    duration_ms = pc.round(videos["video_duration"]).cast(pa.int64())
    tags = [
        sorted({tag.strip() for tag in (text or "").split(",")} - {""})
        for text in videos["tag"].to_pylist()
    ]
    columns = {
        "video_id": videos["video_id"],
        "author_id": videos["author_id"],
        "published_at": pa.array(published_ms, pa.timestamp("ms", tz="UTC")),
        "duration_ms": pc.if_else(pc.greater(duration_ms, 0), duration_ms, None),
        "caption": pa.nulls(videos.num_rows, pa.string()),
        "tags": pa.array(tags, pa.list_(pa.string())),
        "eligible": pc.fill_null(pc.equal(videos["visible_status"], _PUBLIC), False),
    }
    return pa.table(columns)


def _upload_day(path: Path, text: str | None) -> dt.date:
    try:
        return dt.date.fromisoformat(text or "")
    except ValueError as error:
        raise LandingError(f"{path}: upload_dt {text!r} is no date") from error


def _day_of(time_ms: int, timezone: str) -> dt.date:
    return days.of(dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC), timezone)


def _write(landing: str, planned: Sequence[_Planned]) -> dict[str, int]:
    for table in zone.TABLES:
        keep = [
            zone.path_of(landing, table, file.day, kind=file.kind, name=file.name)
            for file in planned
            if file.table == table
        ]
        write.refuse_other_files(landing, table, keep)
    written: Counter[str] = Counter()
    for file in planned:
        write.write_rows(landing, file.table, file.day, file.rows, kind=file.kind, name=file.name)
        written[f"{file.table}/day={file.day}"] += file.rows.num_rows
    for where, n_rows in sorted(written.items()):
        _logger.info("landed %s rows=%d", where, n_rows)
    return dict(sorted(written.items()))
