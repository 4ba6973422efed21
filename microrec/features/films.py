"""Films, pictures and sound as small arrays, decoded by FFmpeg (PyAV) within bounds.

A file comes from whoever uploaded it. Only containers of one file are opened, by no protocol but `file`, so that no
playlist leads elsewhere; its bytes, pixels, frames and seconds are bounded before and while it is decoded. What a bound
cannot hold (a decoder that never returns, or dies) is the reader's: it calls from a process of its own, with a limit of
time and of memory (`runner/decoders.py`).

A file that breaks off gives what it had until there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from microrec.core.array_types import Float32s, Floats

if TYPE_CHECKING:
    from av.container import InputContainer

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,ogg,wav,mp3,aac,flac,gif,"
    "image2,jpeg_pipe,png_pipe,webp_pipe,bmp_pipe"
)
"""Formats of one file that are opened; no playlists, no scripts, no devices."""
OPENING = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
SIDE = 64
"""Height and width that frames are shrunk to, in pixels."""
RATE = 16_000
"""Samples a second that sound is resampled to, of one channel."""
TOO_LARGE, UNREADABLE, NO_PICTURES, NO_SOUND = "too_large", "unreadable", "no_pictures", "no_sound"


class Limits(BaseModel):
    """How much of a file is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    most_megabytes: PositiveInt = 512
    """Of a file; a larger one is refused."""
    most_pixels: PositiveInt = 4_096 * 4_096
    """Of a frame; a larger one is refused."""
    most_seconds: PositiveFloat = 300.0
    """Of a film or of sound that are looked at; what follows is not."""
    most_frames: PositiveInt = 20_000
    """Of a film that are decoded."""


class Refused(Exception):
    """A file gives no vector; the message is the reason."""


def frames(
    path: Path, places_ms: Sequence[int] | Floats, limits: Limits, *, side: int = SIDE
) -> Float32s:
    """Return the frames of a film at some places, shrunk.

    Args:
        path: of the file; a picture is a film of one frame.
        places_ms: instants, ascending  # [n_places]
        limits: how much is read.
        side: height and width that frames are shrunk to, in pixels.

    Returns:
        The frame that is shown at each place, the last one after the end; red, green and blue in 0 .. 1.
        [n_places, side, side, 3]

    Raises:
        Refused: the file cannot be read, is too large, or has no pictures.
    """
    taken: list[Float32s] = []
    last = None
    with _opened(path, limits) as container:
        for at_ms, frame in _pictures(container, limits):
            while last and len(taken) < len(places_ms) and at_ms > places_ms[len(taken)]:
                taken.append(_shrunk(last, side))
            last = frame
            if len(taken) == len(places_ms):
                break
        if last is None:
            raise Refused(NO_PICTURES)
        missing = len(places_ms) - len(taken)
        taken += [_shrunk(last, side)] * missing
    return np.stack(taken)


def duration_ms(path: Path, limits: Limits) -> int | None:
    """Return how long a file says it is, None if it does not.

    Args:
        path: of the file.
        limits: how much is read.

    Raises:
        Refused: the file cannot be read, or is too large.
    """
    with _opened(path, limits) as container:
        return int(container.duration // 1_000) if container.duration else None


def sound(path: Path, limits: Limits) -> Float32s:
    """Return the sound of a file.

    Args:
        path: of the file.
        limits: how much is read.

    Returns:
        Samples in -1 .. 1, RATE a second, of all channels together. [n_samples]

    Raises:
        Refused: the file cannot be read, is too large, or has no sound.
    """
    import av

    parts: list[Float32s] = []
    most = int(limits.most_seconds * RATE)
    n_samples = 0
    with _opened(path, limits) as container:
        if not container.streams.audio:
            raise Refused(NO_SOUND)
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        for frame in _decoded(container, container.streams.audio[0]):
            for resampled in resampler.resample(frame):
                parts.append(resampled.to_ndarray()[0].astype(np.float32))
                n_samples += len(parts[-1])
            if n_samples >= most:
                break
    if not n_samples:
        raise Refused(NO_SOUND)
    return np.nan_to_num(np.concatenate(parts)[:most])


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator["InputContainer"]:
    """The file as a container; it is closed at the end."""
    import av

    if path.stat().st_size > limits.most_megabytes * 1_000_000:
        raise Refused(TOO_LARGE)
    try:
        container = av.open(str(path), options=OPENING, metadata_errors="ignore")
    except (av.FFmpegError, ValueError) as error:
        raise Refused(UNREADABLE) from error
    with container:
        yield container


def _pictures(container: "InputContainer", limits: Limits) -> Iterator[tuple[float, Any]]:
    """Frames with their time in ms from the first one."""
    if not container.streams.video:
        raise Refused(NO_PICTURES)
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    _require_small(stream.codec_context.width, stream.codec_context.height, limits)
    first: float | None = None
    for number, frame in enumerate(_decoded(container, stream)):
        _require_small(frame.width, frame.height, limits)
        at = 1_000 * frame.time if frame.time is not None else 40.0 * number
        first = at if first is None else first
        if number >= limits.most_frames or at - first > 1_000 * limits.most_seconds:
            return
        yield at - first, frame


def _decoded(container: "InputContainer", stream: Any) -> Iterator[Any]:
    """What a stream holds, up to where it breaks off; refused if it does so at once."""
    import av

    n_decoded = 0
    try:
        for frame in container.decode(stream):
            yield frame
            n_decoded += 1
    except (av.FFmpegError, ValueError) as error:
        if not n_decoded:
            raise Refused(UNREADABLE) from error


def _require_small(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.most_pixels:
        raise Refused(TOO_LARGE)


def _shrunk(frame: Any, side: int) -> Float32s:
    pixels = frame.reformat(width=side, height=side, format="rgb24").to_ndarray()
    scaled: Float32s = pixels.astype(np.float32) / 255.0
    return scaled
