"""The vectors of words of a night: which it takes over from the night before, which it makes anew, by what encoder."""

import logging
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Bools, Float32s, Int64s
from microrec.features import sentences, words
from microrec.features.words import Config, Encoder
from microrec.pipeline.extraction import Made, before, delivered, in_shares, lists
from microrec.pipeline.night import Night

TEXTUAL = words.MODALITY
COLUMNS = ["video_id", "caption", "tags"]

logger = logging.getLogger(__name__)


def make(night: Night) -> Made | None:
    """Make the vectors of words.

    Args:
        night: its day is validated.

    Returns:
        Rows of its tables, by video; None if the recipe wants none, vectors are delivered, or there are no captions.

    Raises:
        BadArgument: the recipe names a network, and its package or folder is not there.
        MissingDay: the day's catalogue was not validated.
    """
    config = night.recipe.section("features.words", Config)
    obstacle = _obstacle(night, config)
    videos = None if obstacle else _catalogue(night, config)
    if videos is None:
        logger.info("extract modality=%s rows=0 reason=%s", TEXTUAL, obstacle or "few_captions")
        return None
    encoder, news = _trained(config) or _encoder(night, videos, config)
    if encoder is None:
        logger.info("extract modality=%s rows=0 reason=no_shared_words", TEXTUAL)
        return None
    if news:
        logger.info("extract modality=%s encoder=%s because=%s", TEXTUAL, encoder.version, news)
    return _rows(night, videos, encoder)


def _obstacle(night: Night, config: Config) -> str | None:
    """Why no vectors of words are made, whatever the catalogue has."""
    if not config.made:
        return "recipe"
    return "delivered" if delivered(night, TEXTUAL) else None


def _catalogue(night: Night, config: Config) -> pa.Table | None:
    """Rows of `videos` by id, with `input_digest` and `has_words`; None if too few have a caption."""
    videos = night.read("videos", columns=COLUMNS).sort_by("video_id")
    has_caption = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(videos["caption"])), 0)
    if (pc.sum(has_caption).as_py() or 0) < config.least_captions:
        return None
    digests: list[str] = []
    has_words: list[bool] = []
    for share in _shares(videos):
        for text in zip(share["caption"].to_pylist(), share["tags"].to_pylist(), strict=True):
            digests.append(words.input_digest(*text))
            has_words.append(words.has_words(*text))
    videos = videos.append_column("input_digest", pa.array(digests, pa.string()))
    return videos.append_column("has_words", pa.array(has_words, pa.bool_()))


def _shares(rows: pa.Table) -> Iterator[pa.Table]:
    """Rows a share at a time: texts as Python has them take ten times the memory of the table."""
    for start in range(0, len(rows), words.AT_ONCE):
        yield rows.slice(start, words.AT_ONCE)


def _trained(config: Config) -> tuple[sentences.Encoder, None] | None:
    """The network of the recipe, None if it names none: then an encoder is fitted."""
    if config.encoder == "ngrams":
        return None
    return sentences.Encoder(config.encoder, config.weights), None


def _encoder(night: Night, videos: pa.Table, config: Config) -> tuple[Encoder | None, str | None]:
    """The encoder of the night before, or a new one and why."""
    n_videos = pc.sum(videos["has_words"]).as_py()
    encoder = Encoder.from_table(before(night, "text_encoders"))
    news = (
        encoder.outgrown(n_videos, night.day, config) if encoder else "no_encoder_of_the_day_before"
    )
    if news is None:
        return encoder, None
    with_words = videos.filter(videos["has_words"])
    rng = night.generator("text_encoders")
    fitted = words.fit(with_words, day=night.day, n_videos=n_videos, config=config, rng=rng)
    return fitted, news


def _rows(night: Night, videos: pa.Table, encoder: Encoder | sentences.Encoder) -> Made:
    """Vectors that stand, and those made anew, of each video with words."""
    vectors = np.full((len(videos), encoder.dim), np.nan, np.float32)
    stands = _taken_over(night, videos, encoder.version, vectors)
    has_words = videos["has_words"].to_numpy()
    due = np.flatnonzero(has_words & ~stands)
    for start in range(0, len(due), words.AT_ONCE):
        at = due[start : start + words.AT_ONCE]
        texts = videos.take(at)
        vectors[at] = encoder.encode(texts["caption"].to_pylist(), texts["tags"].to_pylist())
    known = ~np.isnan(vectors[:, 0])
    missing = np.where(has_words, words.NO_KNOWN_WORDS, words.NO_WORDS)
    logger.info(
        "extract modality=%s encoder=%s videos=%d taken_over=%d made=%d without_vector=%d",
        TEXTUAL, encoder.version, len(videos), int(stands.sum()), len(due), int((~known).sum()),
    )  # fmt: skip
    extractions = {
        "video_id": videos["video_id"],
        "modality": pa.repeat(TEXTUAL, len(videos)),
        "input_digest": videos["input_digest"],
        "reason": pa.array(missing.tolist(), pa.string(), mask=known),
    }
    version = encoder.version
    return Made(
        TEXTUAL,
        _features(videos["video_id"], vectors, known, version),
        pa.table({**extractions, "encoder_version": pa.repeat(version, len(videos))}),
        encoder.to_table() if isinstance(encoder, Encoder) else None,
    )


def _features(
    ids: pa.ChunkedArray, vectors: Float32s, known: Bools, version: str
) -> pa.RecordBatchReader:
    """Rows of `video_features` of the videos that have a vector."""

    def share(start: int) -> pa.Table:
        block = slice(start, start + words.AT_ONCE)
        has_vector = known[block]
        columns = {
            "video_id": ids[block].filter(pa.array(has_vector)),
            "vector": lists(vectors[block][has_vector]),
            "encoder_version": pa.repeat(version, int(has_vector.sum())),
        }
        return pa.table(columns)

    starts = range(words.AT_ONCE, len(ids), words.AT_ONCE)
    return in_shares(share(0), map(share, starts))


def _taken_over(night: Night, videos: pa.Table, version: str, vectors: Float32s) -> Bools:
    """Fill in the vectors of the night before that stand; return of which videos nothing is to be made, [n_videos]."""
    extractions = before(night, "extractions", modality=TEXTUAL)
    same = pc.equal(extractions["encoder_version"], version)
    extractions = extractions.filter(same)
    at = pc.index_in(videos["video_id"], value_set=extractions["video_id"].combine_chunks())
    unchanged = pc.equal(extractions["input_digest"].take(at), videos["input_digest"])
    stands: Bools = pc.fill_null(unchanged, False).to_numpy(zero_copy_only=False).copy()
    failed = pc.fill_null(pc.is_valid(extractions["reason"].take(at)), False)
    has_vector = np.zeros(len(videos), dtype=np.bool_)
    for place, old in _vectors_before(night, videos["video_id"], version):
        vectors[place] = old
        has_vector[place] = True
    vectors[has_vector & ~stands] = np.nan
    stands &= has_vector | failed.to_numpy(zero_copy_only=False)
    return stands


def _vectors_before(
    night: Night, ids: pa.ChunkedArray, version: str
) -> Iterator[tuple[Int64s, Float32s]]:
    """Vectors of an encoder on the day before, with the places of their videos; a share at a time."""
    day = night.previous_day
    if not night.warehouse.exists("video_features", day=day, modality=TEXTUAL):
        return
    value_set = ids.combine_chunks()
    for rows in night.warehouse.batches("video_features", day=day, modality=TEXTUAL):
        rows = rows.filter(pc.equal(rows["encoder_version"], version))
        place = pc.index_in(rows["video_id"], value_set=value_set)
        rows = rows.filter(place.is_valid())
        if len(rows):
            flat = rows["vector"].combine_chunks().flatten().to_numpy()
            yield place.drop_null().to_numpy(), flat.reshape(len(rows), -1)
