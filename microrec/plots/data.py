"""The rows behind the pictures: one user and video by the night's final fit, or a video's audience as released."""

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microrec.core import messages
from microrec.errors import MicrorecError, MissingDay
from microrec.release import reader
from microrec.tables import arrow

MODEL = "clip_interest"


@dataclass(frozen=True, eq=False)
class UserClips:
    """The clips of one video, for one user.

    Shapes:
        end_ms, interest: [n_clips]
    """

    end_ms: NDArray[np.int64]
    interest: NDArray[np.float64]
    """Chance that the user, reaching the clip, watches it through."""
    viewings: pa.Table
    """Rows of `clip_edges` of the pair, of all days the night looks at."""


def of_user(user_id: str, video_id: str, day: dt.date, root: str | None = None) -> UserClips:
    """Return what a night's final fit predicts for one user and one video, and the viewings it learned from.

    Args:
        user_id: the user.
        video_id: the video.
        day: the night's day.
        root: root of the warehouse; None is the configured one.

    Returns:
        End and interest of each clip [n_clips], and the pair's rows of `clip_edges`.

    Raises:
        MissingDay: the night fitted no clip model, or has no such user or video.
        MicrorecError: the length of the video is not known.
    """
    import torch

    from microrec.models.clip import clip_batches, clip_interest
    from microrec.pipeline import networks
    from microrec.pipeline.night import Night

    warehouse = arrow.Warehouse.open(root)
    if not warehouse.exists("models", day=day, fit="final", model=MODEL):
        raise MissingDay(f"models[day={day}]: no {MODEL} was fitted that night in {warehouse.root}")
    night = Night.open(day, root=root)
    tables, graph = networks.read_inputs(night, MODEL)
    user = _index(tables["users"], "users", "user", user_id, day)
    video = _index(tables["video_nodes"], "video_nodes", "video", video_id, day)
    clips = clip_interest.clips_of(graph)
    _, clip = clips.of(np.array([video]))
    if not len(clip):
        raise MicrorecError(
            f"video_nodes[day={day}]: length of video {messages.shown(video_id)} is not known"
        )
    network = networks.load(night, MODEL, graph, device="cpu").eval()
    today = np.full(len(clip), clips.today)
    batch = clip_batches.Reader(clips, network.config).pairs(np.full(len(clip), user), clip, today)
    with torch.no_grad():
        interest = torch.sigmoid(network(batch).double()).numpy()
    edges = tables["clip_edges"]
    of_pair = pc.and_(pc.equal(edges["user_idx"], user), pc.equal(edges["video_idx"], video))
    viewings = edges.filter(pc.and_(of_pair, pc.less(edges["clip_no"], len(clip))))
    order = [("watched_on", "ascending"), ("clip_no", "ascending")]
    return UserClips(clips.end_ms[clip], interest, viewings.sort_by(order))


def of_video(video_id: str, day: dt.date, root: str | None = None) -> tuple[pa.Table, pa.Table]:
    """Return the released rows of `clip_interest` and of `exit_points` of one video.

    Args:
        video_id: the video.
        day: day of the release.
        root: root of the warehouse; None is the configured one.

    Raises:
        MissingDay: the day has no release, or its release has no rows of the video.
    """
    release = reader.of(day, root)
    interest = release.read(MODEL)
    if not interest.num_rows:
        raise MissingDay(f"{MODEL}[day={day}]: empty, the night had no {MODEL} model")
    clips = interest.filter(pc.equal(interest["video_id"], video_id))
    if not clips.num_rows:
        raise MissingDay(
            f"{MODEL}[day={day}]: no video {messages.shown(video_id)}; it is unknown, not eligible, or its length is"
            " not known"
        )
    exits = release.read("exit_points")
    return clips, exits.filter(pc.equal(exits["video_id"], video_id))


def _index(rows: pa.Table, table: str, kind: str, key: str, day: dt.date) -> int:
    """Dense index of a user or a video."""
    indices = rows.filter(pc.equal(rows[f"{kind}_id"], key))[f"{kind}_idx"]
    if not len(indices):
        raise MissingDay(f"{table}[day={day}]: no {kind} {messages.shown(key)}")
    index: int = indices[0].as_py()
    return index
