r"""What was counted of clips and of users before a day: the evidence the clip model starts from.

With left and reached the numbers of viewings before the day, and `expected` the sum over the clips that
were reached of the hazard of their place as known on the day itself:

    place    h_0 = (left at the place + 20 h) / (reached there + 20), h the hazard of all places
    video    r_v = (left + 5) / (expected + 5)
    clip     h_c = (left + 10 h_0 r_v) / (reached + 10)
    user     r_u = (left + 3) / (expected + 3), and the same of the first place alone
"""

import numpy as np

from microrec.core.array_types import Float32s, Float64s, Int64s
from microrec.models.inputs.clip_arrays import Clips, Ledger

OF_CLIP = 8
OF_USER = 3
N_EVIDENCE = OF_CLIP + OF_USER
OWN = 1
RATIO = OF_CLIP
"""Columns of the clip's log-odds and of the user's log-ratio, in the evidence of a pair."""
LAST_PLACE = 39
"""Later places count as this one."""
SCALE = 5.0
"""Logarithms of counts are divided by it."""


class Counts:
    """Evidence as of any day, from one fit's edges."""

    def __init__(self, clips: Clips) -> None:
        """Enter the edges."""
        edges = clips.edges
        self.clips = clips
        self.video = clips.video
        self.place = np.minimum(clips.number, LAST_PLACE)
        left = ~edges.through
        ones = np.ones(len(edges))
        place = self.place[edges.clip]
        self.by_place = Ledger.of(place, edges.day, left, ones)
        self.everywhere = Ledger.of(np.zeros_like(place), edges.day, left, ones)
        expected = self._of_place(place, edges.day)
        first = place == 0
        self.by_clip = Ledger.of(edges.clip, edges.day, left, ones)
        self.by_video = Ledger.of(self.video[edges.clip], edges.day, left, expected, first)
        amounts = (left, expected, left * first, expected * first, first)
        self.by_user = Ledger.of(edges.user_idx, edges.day, *amounts)

    def of_clips(self, clip: Int64s, day: Int64s) -> Float32s:
        """Return the counts of clips as of the start of days.

        Args:
            clip: number of the clip. [n]
            day: days since 1970. [n]

        Returns:
            [n, OF_CLIP].
        """
        hazard, ratio, started = self._of_place(self.place[clip], day), *self._of_video(clip, day)
        left, reached = self.by_clip.before(clip, day).T
        shrunk = np.clip(hazard * ratio, 1e-4, 0.99)
        own = (left + 10 * shrunk) / (reached + 10)
        n_clips = np.diff(self.clips.first)[self.video[clip]]
        number = self.clips.number[clip]
        columns = [
            -_logit(hazard),
            -_logit(own),
            -np.log(ratio),
            np.log1p(reached) / SCALE,
            np.log1p(started) / SCALE,
            np.log1p(number) / SCALE,
            np.log1p(n_clips - 1 - number) / SCALE,
            np.log1p(self.clips.end_ms[self.clips.first[self.video[clip] + 1] - 1] / 1e3) / SCALE,
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def of_users(self, user_idx: Int64s, day: Int64s) -> Float32s:
        """Return the counts of users as of the start of days.

        Args:
            user_idx: [n].
            day: days since 1970. [n]

        Returns:
            [n, OF_USER].
        """
        left, expected, left_first, expected_first, started = self.by_user.before(user_idx, day).T
        columns = [
            -np.log((left + 3) / (expected + 3)),
            -np.log((left_first + 3) / (expected_first + 3)),
            np.log1p(started) / SCALE,
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def _of_place(self, place: Int64s, day: Int64s) -> Float64s:
        left, reached = self.everywhere.before(np.zeros_like(place), day).T
        anywhere = (left + 1) / (reached + 2)
        left, reached = self.by_place.before(place, day).T
        hazard: Float64s = (left + 20 * anywhere) / (reached + 20)
        return hazard

    def _of_video(self, clip: Int64s, day: Int64s) -> tuple[Float64s, Float64s]:
        left, expected, started = self.by_video.before(self.video[clip], day).T
        return (left + 5) / (expected + 5), started


def _logit(p: Float64s) -> Float64s:
    logit: Float64s = np.log(p) - np.log1p(-p)
    return logit
