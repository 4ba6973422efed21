"""Pictures of clips and of the blend: interest in clips, the audience of a video, the sources' weights.

Functions of arrays and tables; `plots/data.py` reads them. matplotlib is an extra (`plots`), imported
when a picture is drawn. Figures are built without pyplot: no display, no global state, nothing left open.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microrec.core import messages
from microrec.errors import MicrorecError
from microrec.insights.clips import HALF, SEGMENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = dict(zip(SEGMENTS, ("tab:red", "tab:orange", "tab:green"), strict=True))
"""Of the segments' exit points."""


def figure_of_clips(
    end_ms: NDArray[np.int64], interest: NDArray[np.float64], viewings: pa.Table, *, title: str
) -> "Figure":
    """Draw one user and one video (figure 6 of Shang et al. 2023): interest, retention, where the user left.

    Args:
        end_ms: end of each clip [n_clips].
        interest: chance that the user, reaching the clip, watches it through [n_clips].
        viewings: rows of `clip_edges` of the pair; none if the user never watched the video.
        title: of the picture.

    Returns:
        The figure, not saved.
    """
    figure, axes = _figure(title)
    end = _bounds(end_ms)
    steps = np.append(interest, interest[-1])
    retention = np.append(1.0, np.cumprod(interest))
    axes.step(end, steps, where="post", label="interest: who reaches the clip watches it through")
    axes.plot(end, retention, color="tab:grey", marker="o", markersize=3, label="still there")
    for row in viewings.filter(pc.less(viewings["sign"], 0)).to_pylist():
        span = end[row["clip_no"] :][:2]
        label = f"left here, {row['watched_on']}"
        axes.axvspan(*span, color="tab:red", alpha=0.2, linewidth=0, label=label)
    through = pc.unique(viewings.filter(pc.greater(viewings["sign"], 0))["clip_no"]).to_numpy()
    if len(through):
        middle = (end[:-1] + end[1:])[through] / 2
        axes.plot(middle, interest[through], "^", color="tab:green", label="watched through")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def figure_of_retention(clips: pa.Table, exits: pa.Table, *, title: str) -> "Figure":
    """Draw the audience of one video: predicted and observed retention, exit points by user segment.

    Args:
        clips: rows of `clip_interest` of the video.
        exits: rows of `exit_points` of the video.
        title: of the picture.

    Returns:
        The figure, not saved.
    """
    figure, axes = _figure(title)
    clips = clips.sort_by("clip_no")
    end = _bounds(clips["end_ms"].to_numpy())
    axes.plot(end, np.append(1.0, clips["interest"].to_numpy()), label="predicted, all users")
    n_started = clips["n_reached"][0].as_py()
    # Counts of few people are not told.
    if n_started and not clips["n_left"].null_count:
        label = f"observed, {n_started} viewings in the window"
        axes.plot(end, observed(clips), color="black", marker="o", markersize=3, label=label)
    by_segment = {row["segment"]: row for row in exits.to_pylist()}
    for segment in filter(by_segment.__contains__, SEGMENTS):
        exit_ms = by_segment[segment]["exit_ms"]
        completed = by_segment[segment]["completed"]
        fate = f"{completed:.0%} stay to the end" if completed > HALF else "half have left"
        label = f"users of kind {segment}: {fate}"
        axes.axvline(exit_ms / 1000, color=COLOURS[segment], linestyle="--", label=label)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def figure_of_weights(weights: pa.Table, *, title: str) -> "Figure":
    """Draw the weight of each source in the blend, by bucket of user history: bars that add up to 1.

    Args:
        weights: rows of `blend_weights` of one day and fit.
        title: of the picture.

    Returns:
        The figure, not saved.
    """
    figure, axes = _figure(title)
    axes.set(xlabel="users by positive edges", ylabel="share of the order", ylim=(0, 1))
    weight = {(row["bucket"], row["source"]): row["weight"] for row in weights.to_pylist()}
    buckets = list(dict.fromkeys(bucket for bucket, _ in weight))
    buckets.sort(key=_least)
    floor = np.zeros(len(buckets))
    for source in sorted({source for _, source in weight}):
        share = np.array([weight.get((bucket, source), 0.0) for bucket in buckets])
        axes.bar(
            [bucket.removeprefix("history=") for bucket in buckets],
            share,
            bottom=floor,
            label=source,
        )
        floor += share
    figure.legend(loc="outside right center")
    return figure


def observed(clips: pa.Table) -> NDArray[np.float64]:
    """Compute the share of a video's viewings that watched each clip through, from 1 at 0 s.

    Viewings of a user and a day count as one; where they cancel out in the first clip, more may have
    left than started: the share does not go below 0.

    Args:
        clips: rows of `clip_interest` of the video, in order; its first clip was reached.

    Returns:
        [n_clips + 1]
    """
    left = np.cumsum(clips["n_left"].to_numpy()) / clips["n_reached"][0].as_py()
    return np.append(1.0, np.maximum(1.0 - left, 0.0))


def save(figure: "Figure", path: Path) -> None:
    """Write a picture in the format its file name ends in.

    Args:
        figure: the picture.
        path: where to.

    Raises:
        MicrorecError: it cannot be written there, or there is no such format.
    """
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise MicrorecError(f"picture {path}: {error}") from error


def _figure(title: str) -> tuple["Figure", "Axes"]:
    """An empty picture of shares over a video's seconds."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MicrorecError(
            "pictures need matplotlib, which is not installed: pip install 'microrec[plots]'"
        ) from error

    figure = Figure(figsize=(8, 4.5), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # An id in the title may hold dollars, which are no formula, and characters that end a line or turn it around.
    axes.set_title(messages.plain(title), parse_math=False)
    axes.set(xlabel="seconds into the video", ylabel="share", ylim=(0, 1.05))
    return figure, axes


def _least(bucket: str) -> int:
    """Least history of a bucket, such as 3 of history=3-5 and 20 of history=>20."""
    return int(bucket.removeprefix("history=").lstrip(">").split("-")[0])


def _bounds(end_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds at which clips start and end, [n_clips + 1]."""
    return np.append(0.0, end_ms / 1000)
