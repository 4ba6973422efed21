"""May tonight's lists be published? Counted in SQL, compared with a threshold, told in words.

The same checks serve the trial (lists by index) and the final and fallback lists (by id, read back
from the tables). A gate of severity `hold` that fails stops the release; `warn` only tells.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import duckdb
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from microrec.errors import GateHeld
from microrec.evaluation.lists import Lists
from microrec.evaluation.report import DIFFERENCE, Figure

Share = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    """Thresholds. Checks that count broken rows have none: they allow 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: PositiveInt = 1
    """Least rows of a table of lists."""
    users_covered: Share = 1.0
    """Least share of the expected users that have a list."""
    k_filled: Share = 1.0
    """Least share of the expected users with exactly min(K, eligible unseen videos) rows."""
    identical_top10: Share = 0.5
    """Greatest share of users with the same first ten videos (warns)."""
    better_than_popularity: float = 0.0
    """The interval of the blend's gain in `metric` over popularity lies above this."""
    metric: str = "ndcg@20"
    """Figure of merit of the comparison with popularity."""


@dataclass(frozen=True)
class Check:
    """One observed number and what it is compared with.

    `threshold` is a number, or the name of the field of `Config` that holds it.
    """

    name: str
    words: str
    sql: str
    threshold: float | str = 0.0
    sense: Literal["at least", "at most"] = "at most"
    severity: Literal["hold", "warn"] = "hold"


@dataclass(frozen=True)
class Result:
    """One `gate_results` row."""

    gate: str
    severity: str
    status: str
    observed: float | None
    threshold: float
    detail: str


LAWS = (
    Check("rows", "rows of the lists", "SELECT count(*) FROM lists", "rows", "at least"),
    Check(
        "users_covered",
        "share of expected users who have a list",
        """SELECT avg(CAST("user" IN (SELECT "user" FROM lists) AS INT)) FROM users""",
        "users_covered",
        "at least",
    ),
    Check(
        "k_filled",
        "share of expected users with exactly min(K, eligible unseen videos) rows",
        """
        WITH filled AS (SELECT "user", count(*) AS n FROM lists GROUP BY "user"),
        known AS (
            SELECT "user", count(*) AS n FROM seen SEMI JOIN eligible USING (video) GROUP BY "user")
        SELECT avg(CAST(coalesce(filled.n, 0) = least(
            $k, (SELECT count(*) FROM eligible) - coalesce(known.n, 0)) AS INT))
        FROM users LEFT JOIN filled USING ("user") LEFT JOIN known USING ("user")
        """,
        "k_filled",
        "at least",
    ),
    Check(
        "ranks_contiguous",
        "users whose ranks are not 1..n",
        """
        SELECT count(*) FROM (
            SELECT count(*) AS n, count(DISTINCT rank) AS ranks, min(rank) AS low, max(rank) AS high
            FROM lists GROUP BY "user")
        WHERE low <> 1 OR high <> n OR ranks <> n
        """,
    ),
    Check(
        "distinct",
        "rows that repeat a video of the same user",
        'SELECT count(*) - count(DISTINCT ("user", video)) FROM lists',
    ),
    Check(
        "seen",
        "rows with a video the user has seen",
        'SELECT count(*) FROM lists SEMI JOIN seen USING ("user", video)',
    ),
    Check(
        "ineligible",
        "rows with a video that may not be recommended or is not in the catalogue",
        "SELECT count(*) FROM lists ANTI JOIN eligible USING (video)",
    ),
    Check(
        "suppressed",
        "rows of users who opted out or were erased",
        'SELECT count(*) FROM lists SEMI JOIN suppressed USING ("user")',
    ),
    Check(
        "finite_scores",
        "rows whose score is null, NaN or infinite",
        "SELECT count(*) FROM lists WHERE score IS NULL OR NOT isfinite(score)",
    ),
    Check(
        "scores_ordered",
        "rows whose score is above that of the rank before",
        """
        SELECT count(*) FROM (
            SELECT score > lag(score) OVER (PARTITION BY "user" ORDER BY rank) AS rises FROM lists)
        WHERE rises
        """,
    ),
)
"""What any table of lists obeys."""

VARIETY = Check(
    "identical_top10",
    "share of users with the most common first ten videos",
    """
    SELECT max(n) / sum(n) FROM (
        SELECT count(*) AS n FROM (
            SELECT list(video ORDER BY rank) AS first FROM lists WHERE rank <= 10 GROUP BY "user")
        GROUP BY first)
    """,
    "identical_top10",
    severity="warn",
)
"""Lists that are the same for everybody are not recommendations."""


def check(
    subject: Lists, *, config: Config, checks: Sequence[Check] = (*LAWS, VARIETY), prefix: str = ""
) -> list[Result]:
    """Compare the lists with every check.

    Args:
        subject: The lists and what they must obey.
        config: Thresholds.
        checks: What to check.
        prefix: Put before the name of each gate.
    """
    with duckdb.connect() as session:
        for name in ("lists", "users", "seen", "eligible", "suppressed"):
            session.register(name, getattr(subject, name))
        observed = [
            session.execute(one.sql, {"k": subject.k} if "$k" in one.sql else {}).fetchone()
            for one in checks
        ]
    return [
        _compare(one, None if found is None else found[0], config=config, prefix=prefix)
        for one, found in zip(checks, observed, strict=True)
    ]


def better_than_popularity(figures: Sequence[Figure], *, config: Config) -> Result:
    """Whether the paired interval of the blend's gain over popularity lies above the threshold.

    Args:
        figures: Metrics of the trial.
        config: Threshold and metric.
    """
    gate, threshold = "better_than_popularity", config.better_than_popularity
    words = f"{DIFFERENCE} of {config.metric}"
    for figure in figures:
        if (figure.name, figure.metric, figure.slice) == (DIFFERENCE, config.metric, "all"):
            if figure.low is None or figure.high is None:
                continue
            status = "pass" if figure.low > threshold else "fail"
            detail = (
                f"{words}: {figure.value:.5f} [{figure.low:.5f}, {figure.high:.5f}] over {figure.n}"
                f" users, lower end above {threshold:g} asked"
            )
            return Result(gate, "hold", status, figure.low, threshold, detail)
    detail = f"{words}: not measured, so nothing shows that the blend is better"
    return Result(gate, "hold", "fail", None, threshold, detail)


def table(results: Sequence[Result]) -> pa.Table:
    """Results in the types of the `gate_results` contract, without day and fit."""
    types = {"observed": pa.float64(), "threshold": pa.float64()}
    names = ("gate", "severity", "status", "observed", "threshold", "detail")
    columns = {
        name: pa.array([getattr(one, name) for one in results], types.get(name, pa.string()))
        for name in names
    }
    return pa.table(columns)


def require(results: pa.Table, *, day: dt.date, fit: str) -> None:
    """Hold the night if a gate of severity hold failed.

    Args:
        results: `gate_results` rows.
        day: Day they are about.
        fit: Fit they are about.

    Raises:
        GateHeld: Names every failed gate; nothing is published, the previous release stands.
    """
    failed = [
        f"{row['gate']} ({row['detail']})"
        for row in results.to_pylist()
        if row["severity"] == "hold" and row["status"] != "pass"
    ]
    if failed:
        raise GateHeld(
            f"gate_results[day={day} fit={fit}]: {len(failed)} failed: {'; '.join(sorted(failed))}"
        )


def _compare(one: Check, observed: float | None, *, config: Config, prefix: str) -> Result:
    """Pass or fail in words; what could not be counted fails."""
    asked = getattr(config, one.threshold) if isinstance(one.threshold, str) else one.threshold
    value = None if observed is None else float(observed)
    if value is None:
        passed, seen = False, "nothing to count"
    else:
        passed = value >= asked if one.sense == "at least" else value <= asked
        seen = f"{value:.10g}"
    status = "pass" if passed else "fail"
    detail = f"{one.words}: {seen}, {one.sense} {asked:g} asked"
    return Result(prefix + one.name, one.severity, status, value, float(asked), detail)
