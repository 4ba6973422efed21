"""The vectors of films, covers and sound of a night: which it takes over, which it makes anew, in which order."""

import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Float32s, Int64s
from microrec.core.digests import digest
from microrec.errors import BadArgument
from microrec.features import files
from microrec.features.files import CLIPS, MODALITIES, Config
from microrec.landing import media, verify
from microrec.landing.media import MediaFile
from microrec.pipeline import refused_media
from microrec.pipeline.extraction import Made, before, delivered, in_shares
from microrec.pipeline.night import Night
from microrec.runner import decoders

NO_FILE = "no_file"
VECTOR = pa.list_(pa.float32())
AT_ONCE = 4_096
"""Videos whose rows are made at once."""
PASSING = (
    *(files.OUT_OF_MEMORY, files.FAILED),
    *(decoders.TIMED_OUT, decoders.DIED, decoders.OVER_BUDGET),
)
"""Reasons that say nothing certain of the file: the next night tries again."""

logger = logging.getLogger(__name__)


class Video(NamedTuple):
    """A video that has files, and what of it is made of which."""

    video_id: str
    duration_ms: int | None
    paths: dict[str, str]
    """By kind of file."""
    inputs: dict[str, str]
    """Digest of what each modality is made of."""
    missing: frozenset[str]
    """Modalities whose file is named and not there."""


Answers = dict[str, dict[str, Any]]
"""What each video has of each modality: a vector, clips, or a reason."""


def make(night: Night, landing: str) -> list[Made]:
    """Make the vectors of files; keep the rows of `raw_media` that are refused.

    Args:
        night: its day is validated.
        landing: root of the landing zone.

    Returns:
        Rows per modality that nobody delivers and some file is for; none if the recipe wants none.

    Raises:
        BadArgument: files are named, and PyAV is not installed.
        LandingError: a file of `raw_media` cannot be read.
        MissingDay: the day's catalogue was not validated.
    """
    config = night.recipe.section("features.files", Config)
    if not config.made:
        return []
    limits = verify.limits_of(night.recipe)
    timezone = night.config.timezone
    rows = media.read(landing, last=night.day, limits=limits, timezone=timezone)
    refused_media.write(night, landing, rows)
    named = media.files(landing, rows)
    modalities = [name for name in MODALITIES if named and not delivered(night, name)]
    if not modalities:
        return []
    if importlib.util.find_spec("av") is None:
        raise BadArgument(
            "raw_media names files, and PyAV, which decodes them, is not installed: install microrec[media], or set"
            " [features.files] made = false"
        )
    videos = _videos(night, named, modalities)
    versions = files.versions(config)
    answers = {video.video_id: dict.fromkeys(video.missing, NO_FILE) for video in videos}
    for modality in modalities:
        _take_over(night, videos, answers, modality, versions[modality])
    _make_anew(videos, answers, config)
    rows = (_rows(videos, answers, modality, versions[modality]) for modality in modalities)
    return [made for made in rows if made is not None]


def _videos(
    night: Night, named: Mapping[str, Mapping[str, MediaFile | None]], modalities: list[str]
) -> list[Video]:
    """Eligible videos with files, the newest and most shown first: a film that was taken down is not opened."""
    columns = ["video_id", "published_at", "duration_ms", "eligible"]
    rows = night.read("videos", columns=columns)
    rows = rows.filter(pc.and_(rows["eligible"], pc.is_in(rows["video_id"], pa.array([*named]))))
    return [
        _video(row["video_id"], row["duration_ms"], named[row["video_id"]], modalities)
        for row in in_turn(rows, _n_shown(night, rows["video_id"])).to_pylist()
    ]


def in_turn(videos: pa.Table, n_shown: Int64s) -> pa.Table:
    """Return videos in the order in which their files are read: the newest and the most shown take turns.

    What a budget does not reach is then neither new nor much watched. A video stands where the better of its two ranks
    puts it; of equals the newer comes first.

    Args:
        videos: with published_at and video_id.
        n_shown: how often each was shown of late. [n_videos]
    """
    by_age = [("published_at", "descending"), ("video_id", "ascending")]
    at = pc.sort_indices(videos, sort_keys=by_age).to_numpy().astype(np.int64)
    newest = videos.take(at)
    n_shown = n_shown[at]
    rank = np.arange(len(newest))
    by_views = np.argsort(-n_shown, kind="stable")
    # Who was shown to nobody has no place among the most shown.
    place = np.full(len(newest), len(newest))
    place[by_views] = np.where(n_shown[by_views] > 0, rank, len(newest))
    return newest.take(np.lexsort((rank, np.minimum(rank, place))))


def _n_shown(night: Night, videos: pa.ChunkedArray) -> Int64s:
    """How often each video was shown on the day, to people who may teach. [n_videos]."""
    ids = videos.combine_chunks()
    n_shown = np.zeros(len(ids), np.int64)
    if not (len(ids) and night.exists("events")):
        return n_shown
    private = night.private()
    for rows in night.warehouse.batches("events", day=night.day, columns=["video_id", "user_id"]):
        taught = rows.filter(pc.invert(pc.is_in(rows["user_id"], value_set=private)))
        at = pc.index_in(taught["video_id"], value_set=ids).drop_null().to_numpy()
        n_shown += np.bincount(at, minlength=len(ids))
    return n_shown


def _video(
    video_id: str,
    duration_ms: int | None,
    kinds: Mapping[str, MediaFile | None],
    modalities: list[str],
) -> Video:
    there = {kind: file for kind, file in kinds.items() if file is not None}
    inputs, missing = {}, set()
    for modality in modalities:
        kind = next((kind for kind in files.KINDS[modality] if kind in there), None)
        if kind is not None:
            # Where a film is looked at depends on its length.
            inputs[modality] = digest([there[kind].stamp, f"{duration_ms}"])
        elif any(kind in kinds for kind in files.KINDS[modality]):
            inputs[modality] = ""
            missing.add(modality)
    paths = {kind: file.path for kind, file in there.items()}
    return Video(video_id, duration_ms, paths, inputs, frozenset(missing))


def _take_over(
    night: Night, videos: list[Video], answers: Answers, modality: str, version: str
) -> None:
    """Answer for the videos whose input and encoder are those of the day before, with what it had."""
    extractions = before(night, "extractions", modality=modality)
    extractions = extractions.filter(pc.equal(extractions["encoder_version"], version))
    columns = (extractions[name].to_pylist() for name in ("video_id", "input_digest", "reason"))
    was = {video: (digest, reason) for video, digest, reason in zip(*columns, strict=True)}
    wanted = {
        video.video_id: reason
        for video in videos
        if modality in video.inputs and video.video_id in was
        for digest, reason in [was[video.video_id]]
        if digest == video.inputs[modality] and reason not in PASSING
    }
    for video_id, reason in wanted.items():
        if reason:
            answers[video_id].setdefault(modality, reason)
    made = pa.array([video for video, reason in wanted.items() if not reason], pa.string())
    vectors = _clips_before if modality == CLIPS else _vectors_before
    for video_id, vector in vectors(night, modality, made) if len(made) else ():
        answers[video_id].setdefault(modality, vector)


def _vectors_before(
    night: Night, modality: str, wanted: pa.Array
) -> Iterator[tuple[str, Float32s]]:
    """Some videos with their vectors of the day before."""
    for rows in _rows_before(night, "video_features", wanted, modality=modality):
        yield from zip(rows["video_id"].to_pylist(), _matrix(rows["vector"]), strict=True)


def _clips_before(
    night: Night, modality: str, wanted: pa.Array
) -> Iterator[tuple[str, decoders.Clips]]:
    """Some videos with their clips of the day before."""
    # In the order of their key within a file; a film's clips may lie in two of them.
    parts: dict[str, list[tuple[Int64s, Float32s]]] = {}
    for rows in _rows_before(night, "clip_features", wanted):
        rows = rows.sort_by([("video_id", "ascending"), ("clip_no", "ascending")])
        bounds = np.stack([rows[name].to_numpy() for name in ("clip_no", "start_ms", "end_ms")], 1)
        vectors = _matrix(rows["vector"])
        counts = rows["video_id"].value_counts()
        ends = np.cumsum(counts.field("counts").to_numpy())
        start = 0
        for video, end in zip(counts.field("values").to_pylist(), ends.tolist(), strict=True):
            parts.setdefault(video, []).append((bounds[start:end], vectors[start:end]))
            start = end
    while parts:
        video, several = parts.popitem()
        bounds, vectors = several[0]
        if len(several) > 1:
            bounds, vectors = (np.concatenate(arrays) for arrays in zip(*several, strict=True))
            order = np.argsort(bounds[:, 0])
            bounds, vectors = bounds[order], vectors[order]
        yield video, decoders.Clips(bounds[:, 1:], vectors)


def _rows_before(
    night: Night, table: str, wanted: pa.Array, **partition: Any
) -> Iterator[pa.Table]:
    """Rows of some videos of the day before, a share at a time."""
    if night.warehouse.exists(table, day=night.previous_day, **partition):
        for rows in night.warehouse.batches(table, day=night.previous_day, **partition):
            kept = rows.filter(pc.is_in(rows["video_id"], value_set=wanted))
            if len(kept):
                yield kept


def _matrix(vectors: pa.ChunkedArray) -> Float32s:
    """A column of vectors as an array of its own, [n_rows, dim]."""
    flat = vectors.combine_chunks().flatten().to_numpy()
    matrix: Float32s = flat.reshape(len(vectors), -1).copy()
    return matrix


def _make_anew(videos: list[Video], answers: Answers, config: Config) -> None:
    """Answer for what is still open, by the files."""
    open_of = {
        video.video_id: [name for name in video.inputs if name not in answers[video.video_id]]
        for video in videos
    }
    due = [video for video in videos if open_of[video.video_id]]
    jobs = [
        files.job(
            config,
            paths=video.paths,
            modalities=open_of[video.video_id],
            duration_ms=video.duration_ms,
        )
        for video in due
    ]
    made = decoders.make_all(
        jobs,
        processes=config.processes,
        seconds=config.seconds_a_file,
        megabytes=config.megabytes,
        budget=config.seconds_a_night,
    )
    for video, answer in zip(due, made, strict=True):
        answers[video.video_id] |= answer
    logger.info("extract files videos=%d made=%d", len(videos), len(due))


def _rows(videos: list[Video], answers: Answers, modality: str, version: str) -> Made | None:
    """Rows of a modality; None if no video has a file for it."""
    of = {
        video.video_id: answers[video.video_id][modality]
        for video in videos
        if modality in video.inputs
    }
    if not of:
        return None
    reasons = {video: answer if isinstance(answer, str) else None for video, answer in of.items()}
    whole = {video: answer for video, answer in of.items() if reasons[video] is None}
    logger.info(
        "extract modality=%s encoder=%s videos=%d without_vector=%s",
        modality, version, len(of), dict(Counter(filter(None, reasons.values()))),
    )  # fmt: skip
    inputs = {video.video_id: video.inputs.get(modality, "") for video in videos}
    extractions = {
        "video_id": [*of],
        "modality": [modality] * len(of),
        "encoder_version": [version] * len(of),
        "input_digest": [inputs[video] for video in of],
        "reason": pa.array([*reasons.values()], pa.string()),
    }
    features = _of_clips(whole) if modality == CLIPS else _of_videos(whole, version)
    return Made(modality, features, pa.table(extractions))


def _of_videos(vectors: Mapping[str, Float32s], version: str) -> pa.RecordBatchReader:
    """Rows of `video_features`."""

    def share(ids: Sequence[str]) -> pa.Table:
        kinds = {"video_id": pa.string(), "encoder_version": pa.string(), "vector": VECTOR}
        columns = ([*ids], [version] * len(ids), [vectors[video] for video in ids])
        arrays = map(pa.array, columns, kinds.values())
        return pa.table(dict(zip(kinds, arrays, strict=True)))

    return _in_shares([*vectors], share)


def _of_clips(clips: Mapping[str, decoders.Clips]) -> pa.RecordBatchReader:
    """Rows of `clip_features`."""

    def share(ids: Sequence[str]) -> pa.Table:
        n_clips = [len(clips[video].vector) for video in ids]
        bounds = np.concatenate([np.zeros((0, 2), np.int64), *(clips[v].bounds_ms for v in ids)])
        columns = {
            "video_id": pa.array(np.repeat([*ids], n_clips) if ids else [], pa.string()),
            "clip_no": pa.array(np.concatenate([[], *map(np.arange, n_clips)]), pa.int32()),
            "start_ms": pa.array(bounds[:, 0], pa.int64()),
            "end_ms": pa.array(bounds[:, 1], pa.int64()),
            "vector": pa.array([vector for v in ids for vector in clips[v].vector], VECTOR),
        }
        return pa.table(columns)

    return _in_shares([*clips], share)


def _in_shares(
    ids: Sequence[str], share: Callable[[Sequence[str]], pa.Table]
) -> pa.RecordBatchReader:
    starts = range(AT_ONCE, len(ids), AT_ONCE)
    return in_shares(share(ids[:AT_ONCE]), (share(ids[at : at + AT_ONCE]) for at in starts))
