"""Gates of the encoders: vectors of two versions are never compared, so videos on another one have no vector."""

from collections.abc import Mapping, Sequence
from typing import Any

from microrec.evaluation.arrivals import Config
from microrec.evaluation.gate import Result

ENCODERS, ENCODERS_WARNED = "encoders", "encoders_warned"
METRIC = "encoder_share"
TABLE = "raw_video_features"


def figures(encoders: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the share of each modality's videos that are on the night's encoder version, as rows of `metrics`.

    Args:
        encoders: one per modality: encoder_version, n_videos on it, n_all with a vector of any version.

    Returns:
        Rows without day and stage, by modality.
    """
    return [
        {"name": TABLE, "metric": METRIC, "slice": f"modality={row['modality']}"}
        | {"value": row["n_videos"] / row["n_all"], "n": row["n_all"]}
        for row in sorted(encoders, key=lambda row: str(row["modality"]))
    ]


def judge(encoders: Sequence[Mapping[str, Any]], *, config: Config) -> list[Result]:
    """Judge the least share of the modalities.

    Args:
        encoders: as for `figures`.
        config: the two bounds, and the fewest videos of a modality that are judged.

    Returns:
        `encoders`, which holds, and `encoders_warned`, which warns.
    """
    judged = sorted(
        (row["n_videos"] / row["n_all"], _words(row))
        for row in encoders
        if row["n_all"] >= config.least_rows
    )
    gates = (
        (ENCODERS, "hold", config.encoder_holds),
        (ENCODERS_WARNED, "warn", config.encoder_warns),
    )
    results = []
    for name, severity, bound in gates:
        failed = [words for share, words in judged if share < bound]
        words = failed or [words for _, words in judged[:1]] or ["nothing to compare"]
        status = "fail" if failed else "pass"
        observed = judged[0][0] if judged else None
        detail = f"at least {bound:.0%} of a modality's videos on one version: {'; '.join(words)}"
        results.append(Result(name, severity, status, observed, bound, detail))
    return results


def _words(row: Mapping[str, Any]) -> str:
    share = row["n_videos"] / row["n_all"]
    return (
        f"{TABLE} {row['modality']}: {share:.2%} of {row['n_all']} videos have a vector of version"
        f" {row['encoder_version']!r}, the others only of another: deliver theirs with that version, or all with the"
        " new one"
    )
