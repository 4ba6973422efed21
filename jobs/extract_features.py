"""Make the vectors that nobody delivers: of each video's caption and tags, of its film, cover and sound.

Reads:  videos, events, preferences, video_features, clip_features, landing raw_media; of the day before extractions,
        text_encoders, video_features and clip_features
Writes: video_features and clip_features (modalities without delivered vectors), extractions, text_encoders,
        rejected_rows (of raw_media)

Where the catalogue has no captions and raw_media no files, or vectors are delivered, the two tables of the stage have
no rows and the others stay as they are.
"""

from microrec.config.settings import settings
from microrec.pipeline import extraction, extraction_of_files, extraction_of_words
from microrec.pipeline.night import Night
from microrec.runner import job


def main(day: job.Day) -> None:
    """Make the vectors of the day's catalogue."""
    night = Night.open(day)
    of_words = extraction_of_words.make(night)
    of_files = extraction_of_files.make(night, settings().landing)
    extraction.write(night, [*([of_words] if of_words else []), *of_files])


if __name__ == "__main__":
    job.start(main)
