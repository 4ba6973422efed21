"""The files of one video into its vectors: `visual`, `acoustic`, and one a clip.

Also the process that does so: `python -m microrec.features.files` reads a job a line and answers with a line. A process
of its own, as a decoder may hang, die or fill the memory over a hostile file.
"""

import json
import resource
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from microrec.core.array_types import Float32s, Floats
from microrec.core.digests import digest
from microrec.features import films, looks, networks, sounds
from microrec.features.films import Limits, Refused

VISUAL, ACOUSTIC, CLIPS = "visual", "acoustic", "clips"
MODALITIES = (VISUAL, ACOUSTIC, CLIPS)
KINDS = {VISUAL: ("video", "cover"), ACOUSTIC: ("sound", "video"), CLIPS: ("video",)}
"""Kinds of files that a modality is made of, the first that a video has."""
FAILED = "failed"
OUT_OF_MEMORY = "out_of_memory"


class Cuts(BaseModel):
    """How films are cut and where they are looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_ms: PositiveInt = 5_000
    """Length of a clip; the last one reaches to the end."""
    most_clips: PositiveInt = 40
    frames_a_clip: PositiveInt = 3
    """Frames looked at, evenly within the clip."""


class Config(BaseModel):
    """Whether and how vectors are made of the files that `raw_media` names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made: bool = True
    """Make `visual`, `acoustic` and clip vectors where files are named and nobody delivers such vectors."""
    looks: Literal["counts"] | networks.Name = "counts"
    """What makes vectors of frames: counts of colours, edges, motion, or a network by name (`microrec[networks]`)."""
    weights: Path | None = None
    """File of the network's weights; those of its package if left out."""
    limits: Limits = Limits()
    cuts: Cuts = Cuts()
    processes: PositiveInt = 2
    """That decode at the same time."""
    seconds_a_file: PositiveFloat = 60.0
    """After which a decoder is ended and its file has no vector."""
    seconds_a_night: PositiveFloat = 3_600.0
    """After which no further file is begun; the newest and most shown videos come first, the others the night after."""
    megabytes: PositiveInt = 2_048
    """Of memory that a decoder may have."""


class Job(TypedDict):
    """What a process is asked for."""

    files: dict[str, str]
    """Path of each kind of file there is."""
    modalities: list[str]
    duration_ms: int | None
    """Of the catalogue; the file's own if null."""
    limits: dict[str, Any]
    cuts: dict[str, Any]
    looks: str
    """As `Config.looks`."""
    weights: str | None


def job(
    config: Config, *, paths: dict[str, str], modalities: list[str], duration_ms: int | None
) -> Job:
    """Return what a process is asked for.

    Args:
        config: of the night.
        paths: of each kind of file there is.
        modalities: that are wanted.
        duration_ms: of the catalogue.
    """
    return Job(
        files=paths,
        modalities=modalities,
        duration_ms=duration_ms,
        limits=_dumped(config.limits),
        cuts=_dumped(config.cuts),
        looks=config.looks,
        weights=None if config.weights is None else str(config.weights),
    )


@lru_cache(maxsize=8)
def _dumped(settings: Limits | Cuts) -> dict[str, Any]:
    """The values of some settings; a night's jobs share them."""
    return settings.model_dump()


def versions(config: Config) -> dict[str, str]:
    """Return the version of the encoder of each modality: format, digest of settings, of a network that of its weights.

    Args:
        config: of the night.

    Raises:
        BadArgument: the network's package, or the file of its weights, is not there.
    """
    limits = config.limits
    seconds = f"{limits.most_seconds:g} {limits.most_frames}"
    cuts = (f"{cut}={value}" for cut, value in sorted(config.cuts))
    seen, heard = digest([seconds, *cuts], digits=8), digest([seconds], digits=8)
    by = looks.FORMAT
    if config.looks != "counts":
        by = networks.version(config.looks, config.weights)
    of_frames = f"{by}-{seen}"
    return {VISUAL: of_frames, CLIPS: of_frames, ACOUSTIC: f"{sounds.FORMAT}-{heard}"}


def file_of(modality: str, files: dict[str, str]) -> str | None:
    """Return the path of the file that a modality is made of, None if the video has none of its kinds."""
    return next((files[kind] for kind in KINDS[modality] if kind in files), None)


def make(job: Job) -> dict[str, Any]:
    """Make the vectors of a video.

    Args:
        job: its files, and what is wanted of them.

    Returns:
        By modality its vector, or the reason as text; of the clips pairs of bounds in ms and vectors.
    """
    _looked_at.cache_clear()
    makers: dict[str, Callable[[Job], Any]] = {VISUAL: _visual, ACOUSTIC: _acoustic, CLIPS: _clips}
    made = {}
    for modality in job["modalities"]:
        try:
            made[modality] = makers[modality](job)
        except Refused as error:
            made[modality] = str(error)
        except MemoryError:
            made[modality] = OUT_OF_MEMORY
        except Exception:
            # Whatever a library makes of a hostile file is that file's failure.
            made[modality] = FAILED
    return made


def ends_ms(duration_ms: int, cuts: Cuts) -> list[int]:
    """Return the ends of a film's clips, in ms.

    Args:
        duration_ms: of the film.
        cuts: how films are cut.

    Returns:
        Ascending, the last one the duration. [n_clips]
    """
    n_clips = min(-(-duration_ms // cuts.clip_ms), cuts.most_clips)
    return [*(cuts.clip_ms * number for number in range(1, n_clips)), duration_ms]


def places_ms(ends: list[int], cuts: Cuts) -> Floats:
    """Return the instants at which a film is looked at, in ms.

    Args:
        ends: of its clips  # [n_clips]
        cuts: how often.

    Returns:
        [n_clips * frames_a_clip]
    """
    starts = np.array([0, *ends[:-1]], dtype=np.float64)
    step = (np.array(ends) - starts) / cuts.frames_a_clip
    within = np.arange(cuts.frames_a_clip) + 0.5
    return (starts[:, None] + step[:, None] * within).ravel()


def _visual(job: Job) -> list[float]:
    if "video" not in job["files"]:
        frames = films.frames(_path(job, VISUAL), [0], _limits(job), side=_side(job))
        return _of_frames(job, frames)
    return _of_frames(job, np.concatenate(_frames_of_clips(job)[1]))


def _clips(job: Job) -> list[tuple[int, int, list[float]]]:
    ends, clips = _frames_of_clips(job)
    starts = [0, *ends[:-1]]
    return [
        (start, end, _of_frames(job, clip))
        for start, end, clip in zip(starts, ends, clips, strict=True)
    ]


def _frames_of_clips(job: Job) -> tuple[list[int], list[Any]]:
    """Ends of the clips that are looked at, and the frames of each."""
    cuts = Cuts(**job["cuts"])
    return _looked_at(_path(job, CLIPS), job["duration_ms"], _limits(job), cuts, _side(job))


@lru_cache(maxsize=1)
def _looked_at(
    path: Path, duration_ms: int | None, limits: Limits, cuts: Cuts, side: int
) -> tuple[list[int], list[Any]]:
    """As `_frames_of_clips`; a film is decoded once for both modalities made of it."""
    length = duration_ms or films.duration_ms(path, limits) or cuts.clip_ms
    ends = ends_ms(length, cuts)
    places = places_ms(ends, cuts).reshape(len(ends), -1)
    seen = places[:, 0] <= 1_000 * limits.most_seconds
    frames = films.frames(path, places[seen].ravel(), limits, side=side)
    n_clips = int(seen.sum())
    return ends[:n_clips], [*frames.reshape(n_clips, -1, *frames.shape[1:])]


def _of_frames(job: Job, frames: Float32s) -> list[float]:
    if job["looks"] == "counts":
        return _listed(looks.of_frames(frames))
    weights = Path(job["weights"]) if job["weights"] else None
    return _listed(networks.of_frames(frames, cast(networks.Name, job["looks"]), weights))


def _side(job: Job) -> int:
    return films.SIDE if job["looks"] == "counts" else networks.SIDE


def _acoustic(job: Job) -> list[float]:
    return _listed(sounds.of_samples(films.sound(_path(job, ACOUSTIC), _limits(job))))


def _path(job: Job, modality: str) -> Path:
    path = file_of(modality, job["files"])
    assert path is not None
    return Path(path)


def _limits(job: Job) -> Limits:
    return Limits(**job["limits"])


def _listed(vector: Floats) -> list[float]:
    return [float(value) for value in vector]


def main() -> None:
    """Answer each line of the input, a job, with a line of what was made.

    The first argument is the limit of the process's memory, in MB.
    """
    most = int(sys.argv[1]) * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(make(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
