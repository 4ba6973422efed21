"""How videos are cut into clips: consecutive numbers of clips, in the order of video_idx and clip_no."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from microrec.core.array_types import Int64s
from microrec.core.pairs import positions

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipLayout:
    """The clips of all videos.

    Shapes:
        first: [n_videos + 1]; end_ms: [n_clips]
    """

    first: Int64s
    """Number of each video's first clip; a video of unknown length has none."""
    end_ms: Int64s
    """End of each clip within its video; it starts where the one before ends."""

    @property
    def n_clips(self) -> int:
        """Clips of all videos."""
        return len(self.end_ms)

    @property
    def video(self) -> Int64s:
        """video_idx of each clip. [n_clips]."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))

    @property
    def number(self) -> Int64s:
        """clip_no of each clip. [n_clips]."""
        return np.arange(self.n_clips) - self.first[self.video]

    @property
    def start_ms(self) -> Int64s:
        """Start of each clip within its video. [n_clips]."""
        return self.before(self.end_ms, first=0)

    def before(self, values: NDArray[Number], *, first: Any) -> NDArray[Number]:
        """Return for each clip the value of the clip before it in the same video.

        Args:
            values: of each clip. [n_clips]
            first: value for the first clip of a video.

        Returns:
            Values of the same type. [n_clips]
        """
        shifted = np.roll(values, 1)
        shifted[self.number == 0] = first
        return shifted

    def of(self, videos: Int64s) -> tuple[Int64s, Int64s]:
        """Return all clips of some videos.

        Args:
            videos: video_idx, in any order. [n]

        Returns:
            Place of the video in `videos`, and the number of the clip. [n_found] each
        """
        position, clip_no = positions(np.diff(self.first)[videos])
        return position, clip_no + self.first[videos][position]
