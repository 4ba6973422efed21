"""The vectors of words of a night: which it takes over from the night before, which it makes anew, by what encoder."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Bools, Float32s
from microrec.features import words
from microrec.features.words import Config, Encoder
from microrec.pipeline.extraction import Made, before, delivered, lists
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
        MissingDay: the day's catalogue was not validated.
    """
    config = night.recipe.section("features.words", Config)
    obstacle = _obstacle(night, config)
    videos = None if obstacle else _catalogue(night, config)
    if videos is None:
        logger.info("extract modality=%s rows=0 reason=%s", TEXTUAL, obstacle or "few_captions")
        return None
    encoder, news = _encoder(night, videos, config)
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
    texts = list(zip(videos["caption"].to_pylist(), videos["tags"].to_pylist(), strict=True))
    digests = pa.array([words.input_digest(*text) for text in texts], pa.string())
    has_words = pa.array([words.has_words(*text) for text in texts], pa.bool_())
    return videos.append_column("input_digest", digests).append_column("has_words", has_words)


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


def _rows(night: Night, videos: pa.Table, encoder: Encoder) -> Made:
    """Vectors that stand, and those made anew, of each video with words."""
    vectors = np.full((len(videos), encoder.direction.shape[1]), np.nan, np.float32)
    stands = _taken_over(night, videos, encoder, vectors)
    has_words = videos["has_words"].to_numpy()
    anew = videos.filter(pa.array(has_words & ~stands)).to_pydict()
    vectors[has_words & ~stands] = encoder.encode(anew["caption"], anew["tags"])
    known = ~np.isnan(vectors[:, 0])
    missing = np.where(has_words, words.NO_KNOWN_WORDS, words.NO_WORDS)
    logger.info(
        "extract modality=%s encoder=%s videos=%d taken_over=%d made=%d without_vector=%d",
        TEXTUAL, encoder.version, len(videos), int(stands.sum()), len(anew["video_id"]), int((~known).sum()),
    )  # fmt: skip
    ids = videos["video_id"]
    features = {"video_id": ids.filter(pa.array(known)), "vector": lists(vectors[known])}
    extractions = {
        "video_id": ids,
        "modality": pa.repeat(TEXTUAL, len(videos)),
        "input_digest": videos["input_digest"],
        "reason": pa.array(missing.tolist(), pa.string(), mask=known),
    }
    version = encoder.version
    return Made(
        TEXTUAL,
        pa.table({**features, "encoder_version": pa.repeat(version, int(known.sum()))}),
        pa.table({**extractions, "encoder_version": pa.repeat(version, len(videos))}),
        encoder.to_table(),
    )


def _taken_over(night: Night, videos: pa.Table, encoder: Encoder, vectors: Float32s) -> Bools:
    """Fill in the vectors of the night before that stand; return of which videos nothing is to be made, [n_videos]."""
    extractions = before(night, "extractions", modality=TEXTUAL)
    same = pc.equal(extractions["encoder_version"], encoder.version)
    extractions = extractions.filter(same)
    at = pc.index_in(videos["video_id"], value_set=extractions["video_id"].combine_chunks())
    unchanged = pc.equal(extractions["input_digest"].take(at), videos["input_digest"])
    stands: Bools = pc.fill_null(unchanged, False).to_numpy(zero_copy_only=False).copy()
    failed = pc.fill_null(pc.is_valid(extractions["reason"].take(at)), False)
    features = before(night, "video_features", modality=TEXTUAL)
    features = features.filter(pc.equal(features["encoder_version"], encoder.version))
    at_vector = pc.index_in(videos["video_id"], value_set=features["video_id"].combine_chunks())
    has_vector = at_vector.is_valid().to_numpy(zero_copy_only=False)
    stands &= has_vector | failed.to_numpy(zero_copy_only=False)
    if stands.any() and len(features):
        flat = features["vector"].combine_chunks().flatten().to_numpy()
        old = flat.reshape(len(features), -1)
        copied = stands & has_vector
        vectors[copied] = old[at_vector.filter(pa.array(copied)).to_numpy()]
    return stands
