"""Make the vectors that nobody delivers: of each video's caption and tags.

Reads:  videos, video_features; of the day before extractions, text_encoders and video_features
Writes: video_features (modalities without delivered vectors), extractions, text_encoders

Where the catalogue has no captions, or vectors of words are delivered, the two tables of the stage have no rows and
`video_features` stays as it is.
"""

from microrec.pipeline import extraction
from microrec.pipeline.night import Night
from microrec.runner import job


def main(day: job.Day) -> None:
    """Make the vectors of the day's catalogue."""
    night = Night.open(day)
    made = extraction.of_words(night)
    if made is None:
        extraction.clear(night)
        return
    night.write("video_features", made.features, modality=extraction.TEXTUAL)
    night.write("text_encoders", made.encoder)
    night.write("extractions", made.extractions)


if __name__ == "__main__":
    job.start(main)
