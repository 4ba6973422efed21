"""Vectors made of words, films and sound, on planted worlds: `python -m tests.benchmarks.features --out DIR`.

Nearest videos: of a video's ten nearest by cosine, the share that is of its theme; one in eight would be by chance.
Cold videos: a fifth of the videos is taken out of everybody's history. A user's profile is the mean vector of the
other videos they watched to the end or liked; recall@20 of those that were taken out and the user liked, among all
that were. Throughput: videos a second, medians over repeats.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from microrec.features import files, words
from microrec.features.files import Cuts
from microrec.runner import decoders
from microrec.synth import media
from microrec.synth.media import Film
from microrec.synth.world import Config, World, generate
from tests.benchmarks import report

logger = logging.getLogger(__name__)

BENCHMARK = "features"
NEAREST, LENGTH = 10, 20
FILM_SECONDS = 4.0


def catalogue(world: World) -> pa.Table:
    """The last row of each video, by id."""
    rows: dict[str, dict[str, Any]] = {}
    for part in world.parts:
        if part.table == "raw_videos" and part.rows is not None:
            rows |= {row["video_id"]: row for row in part.rows.to_pylist()}
    return pa.Table.from_pylist([rows[video] for video in sorted(rows)])


def job(path: Path, modalities: list[str], *, kind: str = "video") -> files.Job:
    """What a decoder is asked for, with clips of a second."""
    config = files.Config(cuts=Cuts(clip_ms=1_000))
    return files.job(config, paths={kind: str(path)}, modalities=modalities, duration_ms=None)


def vectors_of_words(videos: pa.Table, config: Config) -> np.ndarray:
    """Vectors of captions and tags [n_videos, dim], by an encoder fitted to them."""
    rng = np.random.default_rng(1)
    encoder = words.fit(
        videos, day=config.first_day, n_videos=len(videos), config=words.Config(), rng=rng
    )
    assert encoder is not None
    return encoder.encode(videos["caption"].to_pylist(), videos["tags"].to_pylist())


def vectors_of_films(world: World, seed: int, folder: Path) -> dict[str, np.ndarray]:
    """Vectors of looks and of sound [n_videos, dim]; each film is rendered, short, decoded and deleted."""
    made: dict[str, list[list[float]]] = {files.VISUAL: [], files.ACOUSTIC: []}
    for number, (_, film) in enumerate(sorted(world.films.items())):
        path = folder / "film.mp4"
        shown = Film(film.theme, film.weak_clip, FILM_SECONDS)
        path.write_bytes(media.render(shown, np.random.default_rng([seed, number])))
        answer = files.make(job(path, [*made]))
        for modality, vectors in made.items():
            vectors.append(answer[modality])
    return {modality: np.array(vectors) for modality, vectors in made.items()}


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; 0 where there is none."""
    whole = np.nan_to_num(vectors.astype(np.float64))
    lengths = np.linalg.norm(whole, axis=1, keepdims=True)
    return np.divide(whole, lengths, out=np.zeros_like(whole), where=lengths > 0)


def purity(vectors: np.ndarray, theme: np.ndarray) -> float:
    """Share of the nearest videos that are of a video's theme."""
    similarity = unit(vectors) @ unit(vectors).T
    np.fill_diagonal(similarity, -2)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEAREST]
    return float((theme[nearest] == theme[:, None]).mean())


def liked_by(world: World, videos: pa.Table) -> list[np.ndarray]:
    """Positions of the videos that each user watched to the end or liked."""
    position = {video: number for number, video in enumerate(videos["video_id"].to_pylist())}
    length = dict(zip(position, videos["duration_ms"].to_pylist(), strict=True))
    liked: dict[str, set[int]] = {}
    for part in world.parts:
        rows = part.rows.to_pylist() if part.table == "raw_interactions" and part.rows else []
        for row in rows:
            video, watched = row["video_id"], row["watch_ms"]
            whole = watched is not None and watched >= 0.95 * (length.get(video) or np.inf)
            if video in position and (whole or row["liked"]):
                liked.setdefault(row["user_id"], set()).add(position[video])
    return [np.array(sorted(several)) for _, several in sorted(liked.items())]


def cold_recall(vectors: np.ndarray, liked: list[np.ndarray], cold: np.ndarray) -> float:
    """Recall@20 of cold videos by the nearness to a user's profile, mean over users."""
    scaled = unit(vectors)
    is_cold = np.isin(np.arange(len(vectors)), cold)
    recalls = []
    for several in liked:
        known, hidden = several[~is_cold[several]], several[is_cold[several]]
        if len(known) and len(hidden):
            score = scaled[cold] @ scaled[known].mean(axis=0)
            best = cold[np.argsort(-score, kind="stable")[:LENGTH]]
            recalls.append(np.isin(hidden, best).mean())
    return float(np.mean(recalls))


def of_world(seed: int, n_videos: int, folder: Path) -> dict[tuple[str, str], float]:
    """Purity and cold recall by name and metric."""
    config = Config(users=400, videos=n_videos, words=True, media=True, dirt_per_kind=0)
    world = generate(config, np.random.default_rng(seed))
    videos = catalogue(world)
    ids = videos["video_id"].to_pylist()
    theme = np.array([world.truth.video_cluster[video] for video in ids])
    bare = videos.set_column(
        videos.schema.get_field_index("tags"), "tags", pa.nulls(len(videos), pa.list_(pa.string()))
    )
    made = {
        "words and tags": vectors_of_words(videos, config),
        "words": vectors_of_words(bare, config),
        **vectors_of_films(world, seed, folder),
    }
    rng = np.random.default_rng([seed, 1])
    made["limit:themes themselves"] = np.eye(config.clusters)[theme]
    made["limit:chance"] = rng.normal(size=(len(ids), 64))
    cold = np.sort(rng.permutation(len(ids))[: len(ids) // 5])
    liked = liked_by(world, videos)
    figures = {}
    for name, vectors in made.items():
        figures[name, "same theme@10"] = purity(vectors, theme)
        figures[name, "cold recall@20"] = cold_recall(vectors, liked, cold)
    return figures


def quality(seeds: list[int], n_videos: int) -> list[report.Row]:
    """Rows of purity and cold recall: mean over worlds, least and greatest."""
    with tempfile.TemporaryDirectory(prefix="microrec-films-") as folder:
        worlds = [of_world(seed, n_videos, Path(folder)) for seed in seeds]
    return [
        report.row(
            BENCHMARK, name, metric, "planted", statistics.mean(values), unit="share",
            low=min(values), high=max(values), seeds=len(seeds),
        )
        for name, metric in worlds[0]
        if (values := [figures[name, metric] for figures in worlds])
    ]  # fmt: skip


def large_film(path: Path, seconds: float) -> None:
    """A film as phones make them: 540 x 960, 30 frames a second, H.264, with sound."""
    import av

    rng = np.random.default_rng(1)
    still = rng.integers(0, 255, size=(960 + 64, 540, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 540, 960, "yuv420p"
        video.options = {"preset": "veryfast", "crf": "35"}
        audio = container.add_stream("aac", rate=44_100, layout="mono")
        smooth = np.repeat(np.repeat(still[::32, ::36], 32, axis=0), 36, axis=1)
        for number in range(round(seconds * 30)):
            picture = np.ascontiguousarray(smooth[number % 64 : number % 64 + 960])
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        for start in range(0, round(seconds * 44_100), 1_024):
            tone = 0.2 * np.sin(np.arange(start, start + 1_024) / 20.0).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44_100, start
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def a_second(call: Callable[[], object], n: int, repeats: int) -> list[float]:
    """How many of n are done in a second, by repeat."""
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        rates.append(n / (time.perf_counter() - began))
    return rates


def throughput(n_captions: int, n_files: int, repeats: int) -> list[report.Row]:
    """Rows of videos a second: words, covers, films of 15 s."""
    config = Config(users=20, videos=n_captions, days=1, words=True)
    videos = catalogue(generate(config, np.random.default_rng(1)))
    captions, tags = videos["caption"].to_pylist(), videos["tags"].to_pylist()

    def fit() -> words.Encoder:
        rng = np.random.default_rng(1)
        encoder = words.fit(
            videos, day=config.first_day, n_videos=len(videos), config=words.Config(), rng=rng
        )
        assert encoder is not None
        return encoder

    encoder = fit()
    rates = {
        "words: fitting": a_second(fit, len(videos), repeats),
        "words: vectors": a_second(lambda: encoder.encode(captions, tags), len(videos), repeats),
    }
    with tempfile.TemporaryDirectory(prefix="microrec-films-") as folder:
        film = Path(folder) / "film.mp4"
        large_film(film, 15.0)
        options = {"seconds": 120.0, "megabytes": 4_096, "budget": 3_600.0}
        asked = {
            "film of 15 s: looks, sound, clips": [job(film, [*files.MODALITIES])] * n_files,
            "film of 15 s: sound alone": [job(film, [files.ACOUSTIC])] * n_files,
        }
        cover = Path(folder) / "cover.mp4"
        large_film(cover, 0.03)
        asked["cover"] = [job(cover, [files.VISUAL], kind="cover")] * n_files
        network = files.Config(looks="efficientnet_lite0", cuts=Cuts(clip_ms=1_000))
        of_film = files.job(
            network, paths={"video": str(film)}, modalities=[files.VISUAL], duration_ms=None
        )
        asked["film of 15 s: efficientnet_lite0, 45 frames"] = [of_film] * max(1, n_files // 4)
        for name, jobs in asked.items():
            for processes in (1, 2):
                call = lambda jobs=jobs, n=processes: [  # noqa: E731
                    *decoders.make_all(jobs, processes=n, **options)
                ]
                rates[f"{name}, {processes} process(es)"] = a_second(call, len(jobs), repeats)
    return [
        report.row(
            BENCHMARK, name, "videos a second", "throughput", statistics.median(values), unit="/s",
            low=min(values), high=max(values), seeds=repeats,
        )
        for name, values in rates.items()
    ]  # fmt: skip


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--videos", type=int, default=400, help="videos of a world")
    parser.add_argument("--captions", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=16, help="decoded for each rate")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows = throughput(arguments.captions, arguments.files, arguments.repeats)
    rows += quality(arguments.seeds, arguments.videos)
    report.write(rows, arguments.out)


if __name__ == "__main__":
    main()
