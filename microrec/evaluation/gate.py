"""Gates: counts in SQL and paired differences compared with thresholds decide whether lists may be published.

The same checks serve the trial (lists by index) and the final and fallback lists (by id, read back
from the tables). A gate of severity `hold` that fails stops the release; `warn` only tells.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from microrec.errors import GateHeld
from microrec.evaluation.report import (
    BEST_SOURCE,
    BLEND,
    CHAMPION,
    DIFFERENCE,
    FLOOR,
    OURS,
    Figure,
)
from microrec.evaluation.subjects import Lists

Share = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    """Thresholds. Checks that count broken rows have none: they allow 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: PositiveInt = 1
    """Least rows of a table of lists."""
    users_covered: Share = 1.0
    """Least share of the expected users with an eligible unseen video that have a list."""
    k_filled: Share = 1.0
    """Least share of the expected users with exactly min(K, eligible unseen videos) rows."""
    identical_top10: Share = 0.5
    """Greatest share of users with the same first ten videos (warns)."""
    better_than_popularity: float = 0.0
    """The interval of the blend's gain in `metric` over popularity lies above this, of the last nights together."""
    pooled_nights: PositiveInt = 14
    """Nights that count together, tonight among them; 1: tonight alone."""
    gain_lost: Share = 0.05
    """Share of the best source's `metric` that the gain over popularity may lose against the nights released before,
    beside their own ups and downs."""
    metric: str = "ndcg@20"
    """Figure of merit of all comparisons."""
    worse_than_source: Share = 0.05
    """Share of the best source's `metric` by which the blend's mean may lie below it; else the source stands."""
    worse_than_champion: float = Field(default=0.002, ge=0)
    """How far below the release of the day before the whole interval of the blend's gain may lie, beside what a day
    less of history costs."""
    too_good: float = Field(default=10.0, gt=1)
    """Times popularity's `metric` above which a source, or the blend, is worth a look (warns); the lower end of its
    interval counts, as of few users one is enough for a high mean."""
    risen: float = Field(default=3.0, gt=1)
    """Times its `metric` of the day before above which a source, or the blend, seems to know the held-out day; the
    lower end of its interval counts."""
    source_kept: Share = 0.5
    """Least share of its `metric` of the day before that a source's upper end reaches."""
    refit_alike: Share = 0.2
    """Least share of the first 20 videos of a source's trial that its final fit has among its first 20."""
    coverage_kept: Share = 0.5
    """Least share of the champion's coverage@20 (warns)."""
    gini_rise: Share = 0.1
    """Most that gini@20 may rise above the champion's (warns)."""
    popularity_lift: float = Field(default=5.0, gt=0)
    """Greatest popularity_lift@20 (warns)."""
    cold_metric: str = "recall@20"
    """Figure of merit of videos nobody liked before."""
    cold_source: str = "content"
    """The source whose `cold_metric` the blend must not lie below outside noise."""
    cold_recall: Literal["warn", "hold"] = "warn"
    """What happens where it does."""
    new_listed: Share = 0.02
    """Least share of the eligible videos nobody liked before that are in a list (warns)."""
    hubs: PositiveFloat = 10.0
    """Greatest number of lists of a modality's graph that one video may stand in, in times of the mean (warns)."""
    churn: Share = 0.98
    """Greatest mean share of a user's first ten videos that were not there the day before (warns)."""


@dataclass(frozen=True)
class Threshold:
    """Comparison of an observed number.

    `threshold` is a number, or the name of the field of `Config` that holds it.
    """

    name: str
    words: str
    threshold: float | str = 0.0
    sense: Literal["at least", "at most"] = "at most"
    severity: Literal["hold", "warn"] = "hold"


@dataclass(frozen=True)
class Check(Threshold):
    """Comparison of a number that SQL counts in a table of lists."""

    sql: str = field(kw_only=True)


@dataclass(frozen=True)
class Result:
    """One `gate_results` row."""

    gate: str
    severity: str
    status: str
    observed: float | None
    threshold: float
    detail: str


LEARNED_NOT_WORSE = "learned_not_worse"
"""The gate that decides between the learned blend and the closed form."""

ARRIVALS = (
    "refused",
    "refused_rise",
    "encoders",
    "watch_ms_median",
    "watch_ms_shift",
    "duration_ms_median",
    "duration_ms_shift",
    "watch_ratio_median",
    "watch_ratio_shift",
    "catalogue_duration_ms_median",
    "catalogue_duration_ms_shift",
    "skipped_change",
    "zero_watch_change",
    "positives",
    "hours",
    "returning_users",
    "returning_videos",
)
"""Gates of what arrived, before anything is built on it: an odd day may be what really happened."""

JUDGEMENTS = (
    "cold_recall",
    "better_than_popularity",
    "gain_kept",
    "champion",
    "collapsed_sources",
    "dead_sources",
    "risen_sources",
    "refit_alike",
    "users_covered",
    "k_filled",
    *ARRIVALS,
)
"""Gates that say a night is not good enough, too good, that rows are missing, or that the input is odd: somebody may
know better. Of the others none can be overruled: they say that rows are wrong."""

OVERRULE = "; a run with a reason (MICROREC_PROMOTE) is released in spite of that"
"""Advice where all that failed are judgements."""

LEFT = """
    known AS (
        SELECT "user", count(*) AS n FROM seen SEMI JOIN eligible USING (video) GROUP BY "user"),
    wanted AS (
        SELECT "user", (SELECT count(*) FROM eligible) - coalesce(known.n, 0) AS n
        FROM users LEFT JOIN known USING ("user"))
"""
"""Expected users with their numbers of eligible unseen videos."""

NOTHING_LEFT = Check(
    "nothing_left",
    "expected users who have seen every eligible video",
    sql=f"WITH {LEFT} SELECT count(*) FROM wanted WHERE n = 0",
)
"""They get no list, which is right: a figure, no gate."""

LAWS = (
    Check(
        "rows",
        "rows of the lists",
        "rows",
        "at least",
        sql="SELECT count(*) FROM lists",
    ),
    Check(
        "users_covered",
        "share of expected users with an eligible unseen video who have a list",
        "users_covered",
        "at least",
        sql=f"""
        WITH {LEFT}
        SELECT avg(CAST("user" IN (SELECT "user" FROM lists) AS INT)) FROM wanted WHERE n > 0
        """,
    ),
    Check(
        "k_filled",
        "share of expected users with exactly min(K, eligible unseen videos) rows",
        "k_filled",
        "at least",
        sql=f"""
        WITH {LEFT}, filled AS (SELECT "user", count(*) AS n FROM lists GROUP BY "user")
        SELECT avg(CAST(coalesce(filled.n, 0) = least($k, wanted.n) AS INT))
        FROM wanted LEFT JOIN filled USING ("user")
        """,
    ),
    Check(
        "ranks_contiguous",
        "users whose ranks are not 1..n",
        sql="""
        SELECT count(*) FROM (
            SELECT count(*) AS n, count(DISTINCT rank) AS ranks, min(rank) AS low, max(rank) AS high
            FROM lists GROUP BY "user")
        WHERE low <> 1 OR high <> n OR ranks <> n
        """,
    ),
    Check(
        "distinct",
        "rows that repeat a video of the same user",
        sql='SELECT count(*) - count(DISTINCT ("user", video)) FROM lists',
    ),
    Check(
        "seen",
        "rows with a video the user has seen or uploaded",
        sql='SELECT count(*) FROM lists SEMI JOIN seen USING ("user", video)',
    ),
    Check(
        "ineligible",
        "rows with a video that may not be recommended or is not in the catalogue",
        sql="SELECT count(*) FROM lists ANTI JOIN eligible USING (video)",
    ),
    Check(
        "suppressed",
        "rows of users who opted out or were erased",
        sql='SELECT count(*) FROM lists SEMI JOIN suppressed USING ("user")',
    ),
    Check(
        "finite_scores",
        "rows whose score is null, NaN or infinite",
        sql="SELECT count(*) FROM lists WHERE score IS NULL OR NOT isfinite(score)",
    ),
    Check(
        "scores_ordered",
        "rows whose score is above that of the rank before",
        sql="""
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
    "identical_top10",
    severity="warn",
    sql="""
    SELECT max(n) / sum(n) FROM (
        SELECT count(*) AS n FROM (
            SELECT list(video ORDER BY rank) AS first FROM lists WHERE rank <= 10 GROUP BY "user")
        GROUP BY first)
    """,
)
"""Lists that are the same for everybody are not recommendations."""

COVERAGE_KEPT = Threshold(
    "coverage_kept", "share of the champion's coverage", "coverage_kept", "at least", "warn"
)
GINI_RISE = Threshold("gini_rise", "gini above the champion's", "gini_rise", severity="warn")
POPULARITY_LIFT = Threshold(
    "popularity_lift", "popularity lift", "popularity_lift", severity="warn"
)
NEW_LISTED = Threshold(
    "new_listed",
    "share of the eligible videos nobody liked before that are in anybody's first",
    "new_listed",
    "at least",
    "warn",
)
HUBS = Threshold(
    "hubs",
    "lists that one video stands in, in times of the mean, modality",
    "hubs",
    severity="warn",
)
CHURN = Threshold("churn", "share of first places that are new", "churn", severity="warn")


def check(
    subject: Lists, *, config: Config, checks: Sequence[Check] = (*LAWS, VARIETY), prefix: str = ""
) -> list[Result]:
    """Compare the lists with every check.

    Args:
        subject: the lists and what they must obey.
        config: thresholds.
        checks: what to check.
        prefix: put before the name of each gate.

    Returns:
        One result per check, in their order.
    """
    observed = _counted(subject, checks)
    return [
        _compare(rule, value, config=config, prefix=prefix)
        for rule, value in zip(checks, observed, strict=True)
    ]


def nothing_left(subject: Lists) -> int:
    """Count the expected users who have seen every eligible video, and so get no list.

    Args:
        subject: the lists and what they must obey.
    """
    (count,) = _counted(subject, [NOTHING_LEFT])
    return int(count or 0)


def _counted(subject: Lists, checks: Sequence[Check]) -> list[float | None]:
    """Return the number that each check counts; None where there is nothing to count."""
    with duckdb.connect() as session:
        for name in ("lists", "users", "seen", "eligible", "suppressed"):
            session.register(name, getattr(subject, name))
        rows = [
            session.execute(rule.sql, {"k": subject.k} if "$k" in rule.sql else {}).fetchone()
            for rule in checks
        ]
    return [None if row is None else row[0] for row in rows]


def learned_not_worse(gain: Sequence[Figure]) -> Result:
    """Judge whether the learned blend is not shown to be worse than the closed form; a night goes on either way.

    Args:
        gain: paired difference of the two, with its interval, overall and by history.

    Returns:
        A result that warns.
    """
    return _not_worse(gain[0], LEARNED_NOT_WORSE, least=0.0, severity="warn")


def cold_recall(gain: Sequence[Figure], *, config: Config) -> list[Result]:
    """Judge whether the blend is not shown to find fewer of the videos nobody liked before than their own source.

    Args:
        gain: paired difference of the two over the users who came to like such a video, with its interval; empty
            where nobody did.
        config: what happens where it does.

    Returns:
        One result; none where nothing was measured.
    """
    return [
        _not_worse(figure, "cold_recall", least=0.0, severity=config.cold_recall)
        for figure in gain[:1]
    ]


def new_listed(figures: Sequence[Figure], *, config: Config) -> list[Result]:
    """Judge whether lists have enough of the videos nobody liked before.

    Args:
        figures: metrics of the trial.
        config: least share.

    Returns:
        One result that warns, about the longest lists that are measured; none where there are no such videos.
    """
    shares = {
        int(figure.metric.split("@")[1]): figure.value
        for figure in figures
        if figure.name == BLEND and figure.metric.startswith("new_listed@")
    }
    if not shares:
        return []
    rule = replace(NEW_LISTED, words=f"{NEW_LISTED.words} {max(shares)}")
    return [_compare(rule, shares[max(shares)], config=config, prefix="")]


def not_below_source(gain: Sequence[Figure], source_value: float, *, config: Config) -> Result:
    """Judge whether the blend is as good as its best source alone; where it is not, that source is released.

    Args:
        gain: paired difference of the two, with its interval, overall and by history.
        source_value: the source's `metric`.
        config: how far below it the mean may lie.

    Returns:
        A result that warns; it fails too where the whole interval is below 0.
    """
    least = -config.worse_than_source * source_value
    overall = gain[0]
    shown_worse = overall.high is not None and overall.high < 0
    status = "fail" if shown_worse or overall.value < least else "pass"
    detail = (
        f"{overall.name} of {overall.metric}, all: {overall.value:.5f} [{overall.low:.5f}, {overall.high:.5f}] over"
        f" {overall.n} users, at least {least:.5f} and not all below 0 asked"
    )
    return Result(BEST_SOURCE, "warn", status, overall.value, least, detail)


def best_source(values: Mapping[str, float]) -> str:
    """Return the source with the greatest value, of equal ones the first by name.

    Args:
        values: by source, at least one.
    """
    return min(values, key=lambda name: (-values[name], name))


def against_champion(
    gain: Sequence[Figure], source_value: float, window_days: int, *, config: Config
) -> list[Result]:
    """Judge whether the blend is not shown to be worse than the release of the day before.

    That release has seen a day more than the trial, the first of its window: so much of the best source's value may be
    missing without anything being wrong.

    Args:
        gain: paired difference of the two, with its interval, overall and by history.
        source_value: the best source's `metric`.
        window_days: event days a release sees.
        config: how much worse it may be beside that.

    Returns:
        One result per figure: that of all users holds, those by history warn.
    """
    least = -(config.worse_than_champion + source_value / window_days)
    return [
        _not_worse(
            figure,
            "champion" if figure.slice == "all" else f"champion_{figure.slice}",
            least=least,
            severity="hold" if figure.slice == "all" else "warn",
        )
        for figure in gain
    ]


def guardrails(figures: Sequence[Figure], *, churn: float | None, config: Config) -> list[Result]:
    """Judge what accuracy does not see: lists that become narrow, popular or restless.

    Args:
        figures: metrics of the trial, of the champion too where there is one.
        churn: result of `champion.churn`; None where there is no champion.
        config: thresholds.

    Returns:
        Results that warn, of what could be measured.
    """
    value_of = {
        (figure.name, figure.metric): figure.value for figure in figures if figure.slice == "all"
    }
    tonight = {
        metric: value_of.get((BLEND, f"{metric}@20"))
        for metric in ("coverage", "gini", "popularity_lift")
    }
    before = {metric: value_of.get((CHAMPION, f"{metric}@20")) for metric in tonight}
    observed: list[tuple[Threshold, float | None]] = []
    if before["coverage"] and tonight["coverage"] is not None:
        observed.append((COVERAGE_KEPT, tonight["coverage"] / before["coverage"]))
    if before["gini"] is not None and tonight["gini"] is not None:
        observed.append((GINI_RISE, tonight["gini"] - before["gini"]))
    observed += [(POPULARITY_LIFT, tonight["popularity_lift"]), (CHURN, churn)]
    return [
        _compare(rule, value, config=config, prefix="")
        for rule, value in observed
        if value is not None
    ]


def hubs(crowding: Mapping[str, float], *, config: Config) -> list[Result]:
    """Judge whether graphs of videos are made of a few hubs.

    Args:
        crowding: by modality the greatest number of lists that one video stands in, over the mean.
        config: the bound.

    Returns:
        One result that warns, of the modality with the greatest hub; none without modalities.
    """
    if not crowding:
        return []
    modality = max(crowding, key=lambda name: (crowding[name], name))
    rule = replace(HUBS, words=f"{HUBS.words} {modality}")
    return [_compare(rule, crowding[modality], config=config, prefix="")]


def of_sources(
    candidates: Mapping[str, pa.Table],
    figures: Sequence[Figure],
    before: Mapping[str, float],
    *,
    absent: Mapping[str, str],
    config: Config,
) -> list[Result]:
    """Judge whether every source is alive, and as good as the day before within bounds.

    Args:
        candidates: `candidates` rows by source.
        figures: metrics of the trial.
        before: `metric` of the trial of the day before, by name; empty where there was none.
        absent: see `alive`.
        config: thresholds and metric.

    Returns:
        The results of `alive`, `plausible` and `steady`.
    """
    return [
        *alive(candidates, absent=absent),
        *plausible(figures, before, config=config),
        steady(figures, before, config=config),
    ]


def alive(candidates: Mapping[str, pa.Table], *, absent: Mapping[str, str]) -> list[Result]:
    """Judge whether every source proposes something and gives different scores to different videos.

    Args:
        candidates: `candidates` rows by source.
        absent: the tables that nobody ever delivered and a model needs, by model: such a source has nothing to
            propose, which is no fault.

    Returns:
        A result that holds and names the sources that do not, and one that warns of absent ones if there are any.
    """
    dead = []
    for name, rows in sorted(candidates.items()):
        if name in absent:
            continue
        spread = rows.group_by("user_idx").aggregate([("score", "min"), ("score", "max")])
        differs = pc.any(pc.greater(spread["score_max"], spread["score_min"]), min_count=0).as_py()
        if not differs:
            dead.append(name)
    words = "sources that propose nothing, or all with equal scores"
    results = [_none("dead_sources", words, dead)]
    if absent:
        named = ", ".join(f"{model} (needs {tables})" for model, tables in sorted(absent.items()))
        detail = f"models with nothing to go by, as no producer delivers what they need: {named}"
        results.append(Result("absent_models", "warn", "fail", float(len(absent)), 0.0, detail))
    return results


def plausible(
    figures: Sequence[Figure], before: Mapping[str, float], *, config: Config
) -> list[Result]:
    """Judge whether nothing is so good that it seems to have seen the held-out day.

    How far a source is above popularity is the service's nature: where taste is spread thin, neighbours alone reach
    sixteen times popularity every night. What a leak does is to raise a source from one night to the next.

    Args:
        figures: metrics of the trial.
        before: `metric` of the trial of the day before, by name; empty where there was none.
        config: how good is too good.

    Returns:
        A result that warns of what is far above popularity, and one that holds and names what has risen too far.
    """
    figures_of = _of_metric(figures, config.metric)
    figures_of.pop(DIFFERENCE, None)
    least = {
        name: figure.value if figure.low is None else figure.low
        for name, figure in figures_of.items()
    }
    floor = figures_of.get(FLOOR)
    most = np.inf if floor is None or floor.value <= 0 else config.too_good * floor.value
    far = [name for name, low in least.items() if low > most]
    text = f"sources above {config.too_good:g} times the {config.metric} of {FLOOR}"
    risen = [
        name
        for name, low in least.items()
        if before.get(name) and low > config.risen * before[name]
    ]
    return [
        replace(_none("too_good", text, far), severity="warn"),
        _none(
            "risen_sources",
            f"sources above {config.risen:g} times yesterday's {config.metric}",
            risen,
        ),
    ]


def steady(figures: Sequence[Figure], before: Mapping[str, float], *, config: Config) -> Result:
    """Judge whether no source has collapsed since the day before.

    Args:
        figures: metrics of the trial.
        before: `metric` of the trial of the day before, by name; empty where there was none. Only
            sources are compared: differences and the blend have gates of their own.
        config: how much must be left.

    Returns:
        A result that holds and names the sources that have.
    """
    fallen = [
        name
        for name, figure in _of_metric(figures, config.metric).items()
        if name not in OURS
        and figure.high is not None
        and figure.high < config.source_kept * before.get(name, 0.0)
    ]
    words = f"sources with less than {config.source_kept:g} of yesterday's {config.metric}"
    return _none("collapsed_sources", words, fallen)


def _of_metric(figures: Sequence[Figure], metric: str) -> dict[str, Figure]:
    return {
        figure.name: figure
        for figure in figures
        if (figure.metric, figure.slice) == (metric, "all")
    }


def _none(name: str, text: str, names: Sequence[str]) -> Result:
    """Pass if there are none of them."""
    detail = f"{text}: {', '.join(sorted(names)) or 'none'}"
    return Result(name, "hold", "fail" if names else "pass", float(len(names)), 0.0, detail)


def verdict(results: Sequence[Result]) -> Result:
    """Return all gates in one word: PROMOTE, HOLD (not shown to be good enough) or REJECT (lists are wrong).

    Args:
        results: of all gates.

    Returns:
        A result that only tells: the other gates hold the night by themselves.
    """
    failed = [result for result in results if result.severity == "hold" and result.status != "pass"]
    laws = {result.name for result in LAWS} - set(JUDGEMENTS)
    broken = laws & {result.gate for result in failed}
    word = "REJECT" if broken else "HOLD" if failed else "PROMOTE"
    warned = [
        result.gate for result in results if result.severity == "warn" and result.status != "pass"
    ]
    reasons = ", ".join([result.gate for result in failed] + [f"{name} (warns)" for name in warned])
    status = "fail" if failed else "pass"
    return Result(
        "verdict",
        "warn",
        status,
        float(len(failed)),
        0.0,
        f"{word}: {reasons or 'every gate passed'}",
    )


def _not_worse(gain: Figure, name: str, *, least: float, severity: str) -> Result:
    """Pass unless the whole interval of a paired difference lies below `least`."""
    known = gain.low is not None and gain.high is not None
    words = f"[{gain.low:.5f}, {gain.high:.5f}]" if known else "no interval"
    detail = (
        f"{gain.name} of {gain.metric}, {gain.slice}: {gain.value:.5f} {words} over {gain.n} users,"
        f" upper end at least {least:.4g} asked"
    )
    passed = gain.high is not None and gain.high >= least
    return Result(name, severity, "pass" if passed else "fail", gain.high, least, detail)


def trusts_learned(results: pa.Table) -> bool:
    """Return whether the trial has judged the learned blend and has not found it worse.

    Args:
        results: `gate_results` rows of fit trial.
    """
    return not falls_back(results) and _has(results, LEARNED_NOT_WORSE, "pass")


def falls_back(results: pa.Table) -> bool:
    """Return whether the trial's blend was worse than its best source, which then stands alone.

    Args:
        results: `gate_results` rows of fit trial.
    """
    return _has(results, BEST_SOURCE, "fail")


def _has(results: pa.Table, gate: str, status: str) -> bool:
    return any(row["gate"] == gate and row["status"] == status for row in results.to_pylist())


def table(results: Sequence[Result]) -> pa.Table:
    """Return rows of `gate_results`, without day and fit.

    Args:
        results: of the gates, in any order.
    """
    types = {"observed": pa.float64(), "threshold": pa.float64()}
    names = ("gate", "severity", "status", "observed", "threshold", "detail")
    columns = {
        name: pa.array([getattr(result, name) for result in results], types.get(name, pa.string()))
        for name in names
    }
    return pa.table(columns)


def require(results: pa.Table, *, day: dt.date, fit: str, promoted: str | None = None) -> list[str]:
    """Hold the night if a gate of severity hold failed.

    Args:
        results: `gate_results` rows.
        day: Day they are about.
        fit: Fit they are about.
        promoted: Why the gates of `JUDGEMENTS` do not count, if somebody has said so.

    Returns:
        Those that failed and did not count.

    Raises:
        GateHeld: Names every failed gate; nothing is published, the previous release stands.
    """
    failed = {
        row["gate"]: f"{row['gate']} ({row['detail']})"
        for row in results.to_pylist()
        if row["severity"] == "hold" and row["status"] != "pass"
    }
    excused = sorted(set(JUDGEMENTS) & set(failed)) if promoted else []
    failed = {name: words for name, words in failed.items() if name not in excused}
    if failed:
        texts = "; ".join(sorted(failed.values()))
        advice = "" if set(failed) - set(JUDGEMENTS) else OVERRULE
        raise GateHeld(f"gate_results[day={day} fit={fit}]: {len(failed)} failed: {texts}{advice}")
    return excused


def _compare(rule: Threshold, observed: float | None, *, config: Config, prefix: str) -> Result:
    """Pass or fail in words; what could not be counted fails."""
    wanted = getattr(config, rule.threshold) if isinstance(rule.threshold, str) else rule.threshold
    value = None if observed is None else float(observed)
    if value is None:
        passed = False
        seen = "nothing to count"
    else:
        passed = value >= wanted if rule.sense == "at least" else value <= wanted
        seen = f"{value:.10g}"
    status = "pass" if passed else "fail"
    detail = f"{rule.words}: {seen}, {rule.sense} {wanted:g} asked"
    return Result(prefix + rule.name, rule.severity, status, value, float(wanted), detail)
