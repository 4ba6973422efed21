"""The layout of clips, against a loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from microrec.core.clips import ClipLayout


@given(st.lists(st.lists(st.integers(1, 9), max_size=3), min_size=1, max_size=5))
def test_clip_layout_any_cuts_equals_a_loop(lengths: list[list[int]]) -> None:
    ends = [np.cumsum(of_video).tolist() for of_video in lengths]
    layout = ClipLayout(
        first=np.cumsum([0, *map(len, lengths)]),
        end_ms=np.array([end for of_video in ends for end in of_video]),
    )
    right = [
        (video, clip_no, 0 if clip_no == 0 else ends[video][clip_no - 1])
        for video, of_video in enumerate(ends)
        for clip_no in range(len(of_video))
    ]
    columns = (layout.video, layout.number, layout.start_ms)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == right
    videos = np.arange(len(lengths))[::-1]
    place, clip = layout.of(videos)
    assert [
        (int(videos[p]), int(c - layout.first[videos[p]])) for p, c in zip(place, clip, strict=True)
    ] == [(int(video), clip_no) for video in videos for clip_no in range(len(lengths[video]))]
