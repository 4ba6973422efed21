"""Words into vectors: hashed n-grams, weighted by TF-IDF, reduced to a few dimensions (latent semantic analysis).

Let X [n_videos, n_buckets] hold 1 + ln(count) of each n-gram of a video (0 where it has none), idf_b = ln((1 + n) /
(1 + df_b)) + 1, and the rows of X idf be scaled to length 1. V [n_buckets, dim] are its first right singular vectors,
and a video's vector is X idf V, scaled to length 1 (Deerwester et al., "Indexing by Latent Semantic Analysis", 1990).
Words that stand beside the same other words lie near one another, those of two languages as far as videos use both.

`fit` makes an encoder from the catalogue of one day; its version names its settings and a digest of its directions. The
vectors of one version are comparable whatever the night that made them, and an encoder is used until `outgrown`.
"""

import datetime as dt
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from microrec.core.array_types import Float32s, Float64s, Int64s
from microrec.core.digests import digest
from microrec.features import sentences, tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MODALITY = "textual"
PREFIX = "words-"
"""Begins the version of every encoder made here, and of no other."""
FORMAT = f"{PREFIX}1"
"""Changed with every change of what a text's vector is; a part of each encoder's version."""
NO_WORDS, NO_KNOWN_WORDS = "no_words", "no_known_words"
"""Why a video has no vector."""
OVERSAMPLED, ITERATIONS = 16, 4
"""Further directions and power iterations of the randomised decomposition."""
AT_ONCE = 8_192
"""Videos whose n-grams are held at once."""


class Config(BaseModel):
    """Whether and how vectors are made from captions and tags."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made: bool = True
    """Make `textual` vectors where the catalogue has captions and nobody delivers such vectors."""
    encoder: Literal["ngrams"] | sentences.Name = "ngrams"
    """What makes vectors of words: n-grams of the day's catalogue, or a network by name (`microrec[sentences]`)."""
    weights: Path | None = None
    """Folder of the network, in the format of sentence-transformers, with `encoder = "folder"`."""
    least_captions: PositiveInt = 20
    """Videos with a caption that a catalogue has at least; of fewer nothing is made, whatever their tags."""
    dim: int = Field(default=128, ge=2, le=4_096)
    """Length of the vectors; shorter where the catalogue has fewer videos or n-grams."""
    least_videos: PositiveInt = 2
    """Videos that have an n-gram at least; rarer ones relate no two videos."""
    most_grams: PositiveInt = 32_768
    """N-grams of an encoder, those of most videos."""
    fit_videos: PositiveInt = 50_000
    """Most videos an encoder is fitted to, drawn by the digest of their ids."""
    outgrown: float = Field(default=1.5, gt=1.0)
    """A new encoder is fitted when the videos with words have become so many times those of its day."""
    max_age_days: PositiveInt = 90
    """A new encoder is fitted after so many days, for the words that have come up since."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """Directions of n-grams, and what they were fitted to.

    Attributes:
        bucket: numbers of the n-grams, ascending  # [n_buckets]
        direction: of each n-gram, weighted by its inverse document frequency  # [n_buckets, dim]
        settings: digest of what it was fitted with.
        fitted_on: day of the catalogue.
        fitted_videos: videos with words that the catalogue had.
    """

    bucket: Int64s
    direction: Float32s
    settings: str
    fitted_on: dt.date
    fitted_videos: int

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.direction.shape[1])

    @cached_property
    def version(self) -> str:
        """Name of the space of its vectors: format, settings, digest of the weights."""
        weights = sha256(self.bucket.astype("<i8").tobytes())
        weights.update(self.direction.astype("<f4").tobytes())
        return f"{FORMAT}-{self.settings}-{weights.hexdigest()[:16]}"

    def outgrown(self, n_videos: int, day: dt.date, config: Config) -> str | None:
        """Return why a new encoder is due, None if this one stands.

        Args:
            n_videos: videos with words in the catalogue of the day.
            day: of the night.
            config: of the night.
        """
        if self.settings != settings_digest(config):
            return "settings"
        if n_videos >= config.outgrown * self.fitted_videos:
            return "catalogue_has_grown"
        age = (day - self.fitted_on).days
        return "age" if age >= config.max_age_days else None

    def encode(self, captions: Sequence[str | None], tags: Sequence[list[str] | None]) -> Float32s:
        """Return a vector of length 1 for each video, NaN where the encoder knows none of its words.

        Args:
            captions: [n_videos]
            tags: [n_videos]

        Returns:
            [n_videos, dim]
        """
        parts = [np.empty((0, self.direction.shape[1]), np.float32)]
        for start in range(0, len(captions), AT_ONCE):
            end = start + AT_ONCE
            counts = _counts(captions[start:end], tags[start:end])
            parts.append(_scaled(_columns(counts, self.bucket) @ self.direction))
        return np.concatenate(parts)

    def to_table(self) -> pa.Table:
        """Return the rows of `text_encoders`, one per n-gram."""
        n = len(self.bucket)
        flat = pa.array(self.direction.ravel(), pa.float32())
        offsets = pa.array(np.arange(n + 1) * self.direction.shape[1], pa.int32())
        return pa.table(
            {
                "encoder_version": pa.repeat(self.version, n),
                "settings": pa.repeat(self.settings, n),
                "fitted_on": pa.repeat(pa.scalar(self.fitted_on, pa.date32()), n),
                "fitted_videos": pa.repeat(pa.scalar(self.fitted_videos, pa.int64()), n),
                "bucket": pa.array(self.bucket, pa.int64()),
                "direction": pa.ListArray.from_arrays(offsets, flat),
            }
        )

    @classmethod
    def from_table(cls, rows: pa.Table) -> Self | None:
        """Return the encoder that `to_table` was called of, None of no rows.

        Args:
            rows: of `text_encoders`, of one day, in any order.
        """
        if not rows.num_rows:
            return None
        ordered = rows.sort_by("bucket").combine_chunks()
        flat = ordered["direction"].combine_chunks().flatten().to_numpy()
        first = ordered.select(["settings", "fitted_on", "fitted_videos"]).slice(0, 1).to_pylist()
        return cls(ordered["bucket"].to_numpy(), flat.reshape(ordered.num_rows, -1), **first[0])


def settings_digest(config: Config) -> str:
    """Return the digest of the settings by which an encoder is fitted; when to fit anew is no part of them."""
    fitted = {"dim", "least_videos", "most_grams", "fit_videos"}
    values = config.model_dump(include=fitted)
    return digest([f"{name}={values[name]}" for name in sorted(values)], digits=8)


def input_digest(caption: str | None, tags: Sequence[str] | None) -> str:
    """Return the digest of what a video's vector is made of, by which a later night knows that it stands."""
    joined = "\x1f".join([caption or "", *(tags or ())])
    return sha256(joined.encode("utf-8", "replace")).hexdigest()[:16]


def has_words(caption: str | None, tags: Sequence[str] | None) -> bool:
    """Return whether a caption or tags hold a word."""
    return any(True for _ in tokens.grams(caption, tags))


def fit(
    videos: pa.Table, *, day: dt.date, n_videos: int, config: Config, rng: np.random.Generator
) -> Encoder | None:
    """Fit an encoder to the words of a catalogue.

    Args:
        videos: rows of `videos`: video_id, caption, tags.
        day: of the catalogue.
        n_videos: its videos with words.
        config: sizes.
        rng: of the randomised decomposition.

    Returns:
        The encoder; None if no two videos share an n-gram.
    """
    drawn = sample(videos, config.fit_videos).to_pydict()
    counts = _counts(drawn["caption"], drawn["tags"])
    numbers, frequency = np.unique(counts.indices, return_counts=True)
    order = np.lexsort((numbers, -frequency))
    kept = order[frequency[order] >= config.least_videos][: config.most_grams]
    bucket = np.sort(numbers[kept]).astype(np.int64)
    if len(bucket) < 2 or counts.shape[0] < 2:
        return None
    matrix = _columns(counts, bucket)
    del counts
    df = np.bincount(matrix.indices, minlength=len(bucket))
    idf = np.log((1 + matrix.shape[0]) / (1 + df)) + 1.0
    # In place: four copies of the catalogue's n-grams would be the job's peak.
    matrix.data *= idf[matrix.indices]
    lengths = np.sqrt(matrix.power(2).sum(axis=1))
    matrix.data *= np.repeat(1.0 / np.where(lengths > 0, lengths, 1.0), np.diff(matrix.indptr))
    direction = _directions(matrix, min(config.dim, *matrix.shape), rng) * idf[:, None]
    return Encoder(bucket, direction.astype(np.float32), settings_digest(config), day, n_videos)


def sample(videos: pa.Table, most: int) -> pa.Table:
    """Return at most so many rows, those whose ids have the least digests: the same whatever the order of the rows.

    Args:
        videos: rows with video_id.
        most: number of rows.
    """
    drawn = sorted((zlib.crc32(video.encode()), video) for video in videos["video_id"].to_pylist())
    chosen = pa.array([video for _, video in drawn[:most]], pa.string())
    ordered = videos.sort_by("video_id")
    return ordered.filter(pc.is_in(ordered["video_id"], value_set=chosen))


def _counts(captions: Sequence[str | None], tags: Sequence[list[str] | None]) -> "csr_array":
    """1 + ln(count) of each n-gram of each video, [n_videos, N_BUCKETS]."""
    from scipy.sparse import csr_array

    starts = np.zeros(len(captions) + 1, np.int64)
    # The n-grams of a catalogue are many: four bytes each, and no copy.
    numbers, values = array("i"), array("i")
    for row, (caption, of_video) in enumerate(zip(captions, tags, strict=True)):
        counted = tokens.buckets(caption, of_video)
        numbers.extend(counted.keys())
        values.extend(counted.values())
        starts[row + 1] = len(numbers)
    weights = 1.0 + np.log(np.frombuffer(values, np.intc))
    shape = (len(captions), tokens.N_BUCKETS)
    matrix = csr_array((weights, np.frombuffer(numbers, np.intc).copy(), starts), shape=shape)
    matrix.sort_indices()
    return matrix


def _columns(counts: "csr_array", bucket: Int64s) -> "csr_array":
    """The columns of the encoder's n-grams, [n_videos, n_buckets]; others are left out."""
    from scipy.sparse import csr_array

    position = np.minimum(np.searchsorted(bucket, counts.indices), len(bucket) - 1)
    known = bucket[position] == counts.indices
    starts = np.concatenate([[0], np.cumsum(known)])[counts.indptr]
    shape = (counts.shape[0], len(bucket))
    return csr_array((counts.data[known], position[known], starts), shape=shape)


def _directions(unit: "csr_array", dim: int, rng: np.random.Generator) -> Float64s:
    """First right singular vectors [n_buckets, dim] (Halko et al., 2011), fewer of a matrix of lower rank.

    Signs are such that the largest entry of each vector is positive.
    """
    width = min(dim + OVERSAMPLED, *unit.shape)
    basis, _ = np.linalg.qr(unit @ rng.normal(size=(unit.shape[1], width)))
    for _ in range(ITERATIONS):
        basis, _ = np.linalg.qr(unit @ np.linalg.qr(unit.T @ basis)[0])
    _, values, right = np.linalg.svd((unit.T @ basis).T, full_matrices=False)
    kept = int(np.count_nonzero(values[:dim] > values[0] * 1e-6))
    largest = np.take_along_axis(right, np.abs(right).argmax(axis=1)[:, None], axis=1)
    vectors: Float64s = (right * np.sign(largest))[:kept].T
    return vectors


def _scaled(vectors: Float64s) -> Float32s:
    """Vectors scaled to length 1; NaN where they have none."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    nothing = np.full_like(vectors, np.nan)
    unit = np.divide(vectors, lengths, out=nothing, where=lengths > 0)
    single: Float32s = unit.astype(np.float32)
    return single
