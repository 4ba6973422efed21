"""What a night makes of words and files: which modalities nobody delivers, and the rows that are written."""

import itertools
import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Float32s
from microrec.features import files, looks, networks, sentences, sounds, words
from microrec.pipeline.night import Night

OF_VIDEOS = (words.MODALITY, files.VISUAL, files.ACOUSTIC)
FORMATS = (words.PREFIX, *(f"{each.FORMAT}-" for each in (looks, networks, sentences, sounds)))
"""How the versions of the encoders of this package begin, and of no other."""
STAMP = "extract_features"
"""What a commit of `clip_features` was made with, whose rows name no encoder."""

logger = logging.getLogger(__name__)


class Made(NamedTuple):
    """Rows of one modality of a night."""

    modality: str
    features: pa.RecordBatchReader
    """Of `video_features` or `clip_features`, without day and modality; a share at a time, as it is written."""
    extractions: pa.Table
    """Without the day."""
    encoder: pa.Table | None = None
    """Of `text_encoders`."""


def delivered(night: Night, modality: str) -> bool:
    """Return whether producers deliver vectors of a modality, which then stand.

    Args:
        night: its day is validated.
        modality: of videos, or `clips`.
    """
    table = "video_features"
    partition: dict[str, Any] = {"modality": modality}
    if modality == files.CLIPS:
        table, partition = "clip_features", {}
    if not night.exists(table, **partition) or _is_made_here(night, modality):
        return False
    return night.warehouse.count(table, day=night.day, **partition) > 0


def before(night: Night, table: str, **partition: Any) -> pa.Table:
    """Return the rows of the day before, none if it has none.

    Args:
        night: of the day.
        table: name of the table.
        **partition: further partition values.
    """
    if night.warehouse.exists(table, day=night.previous_day, **partition):
        return night.warehouse.read(table, day=night.previous_day, **partition)
    return night.warehouse.table(table).contract.schema.empty_table()


def write(night: Night, made: Sequence[Made]) -> None:
    """Commit what was made, and take out what an earlier attempt made and this one does not.

    Args:
        night: of the day.
        made: one per modality that nobody delivers and that has something to be made of.
    """
    for each in made:
        if each.modality == files.CLIPS:
            night.warehouse.write("clip_features", each.features, day=night.day, made_with=[STAMP])
        else:
            night.write("video_features", each.features, modality=each.modality)
    _take_out(night, {each.modality for each in made})
    encoders = [each.encoder for each in made if each.encoder is not None]
    extractions = [each.extractions for each in made]
    for table, rows in (("text_encoders", encoders), ("extractions", extractions)):
        if rows:
            columns = rows[0].column_names
            night.write(table, pa.concat_tables([each.select(columns) for each in rows]))
        else:
            night.write_empty(table)


def in_shares(first: pa.Table, others: Iterator[pa.Table]) -> pa.RecordBatchReader:
    """Return tables as they are written: one after the other is made, written and forgotten.

    Args:
        first: the first table; it may have no rows.
        others: the others, with the same columns.
    """
    batches = (
        batch
        for table in itertools.chain([first], others)
        for batch in table.combine_chunks().to_batches()
    )
    return pa.RecordBatchReader.from_batches(first.schema, batches)


def lists(vectors: Float32s) -> pa.Array:
    """Return vectors [n_rows, dim] as a column of lists, [n_rows]."""
    offsets = pa.array(np.arange(len(vectors) + 1) * vectors.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel(), pa.float32()))


def _take_out(night: Night, kept: Collection[str]) -> None:
    """Remove the vectors of other modalities that an earlier attempt of the night made."""
    gone = [name for name in OF_VIDEOS if name not in kept and _is_made_here(night, name)]
    if gone:
        scopes = [{"day": night.day, "modality": modality} for modality in gone]
        night.warehouse.remove("video_features", scopes)
    if files.CLIPS not in kept and _is_made_here(night, files.CLIPS):
        night.write_empty("clip_features")


def _is_made_here(night: Night, modality: str) -> bool:
    """Whether the day has vectors of a modality that an earlier attempt of the night made."""
    if modality == files.CLIPS:
        return night.warehouse.made_with("clip_features", day=night.day) == STAMP
    if not night.exists("video_features", modality=modality):
        return False
    rows = night.read("video_features", modality=modality, columns=["encoder_version"])
    return any(
        version.startswith(FORMATS) for version in pc.unique(rows["encoder_version"]).to_pylist()
    )
