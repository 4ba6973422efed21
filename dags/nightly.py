"""# nightly: raw logs in, a release out.

**What it makes.** For the day D (of the time zone `night.timezone` of the recipe, UTC by default): validated events, the graphs of the window that ends at D, trained models,
candidates, recommendations, and one row in `releases` that pins the version of every result table.

**Who reads it.** Teams that serve recommendations follow the latest row of `releases`, and read no other rows.

| task | reads | writes | skipped, refused or red |
|---|---|---|---|
| wait_for_late_rows | the clock | | a scheduled run waits until `grace_hours` of the recipe have passed since its day ended; others do not wait |
| resolve_day | the run | | a manual run without a day is refused: trigger it again with `day`, or use Backfill |
| plan_night | names of landing files, nights, releases | nights | if nothing has changed since the day's release, all that follows is skipped, unless the run has `force` |
| erase | privacy requests and preferences of the landing zone, erasures | as of now privacy_ledger, suppressed_users, withheld_periods, preferences; all tables, models and releases without whoever asked to be erased; erasures | nobody asks: done at once. Files of an attempt that may be in progress hold the receipt up until the next night |
| announce_erasures | erasures | the asset microrec://erasures | skipped if there is no receipt since the last event |
| validate_events | landing zone | events, rejected_rows, videos, video_features, clip_features, landing_files, metrics, gate_results; as of now privacy_ledger, suppressed_users, withheld_periods, preferences | the message names table, day and file: have it delivered again and clear the task; a gate holds what is unlike the days before: have it delivered again, or `promote` it |
| extract_features | videos, events, raw_media of the landing zone; of the day before extractions, text_encoders, video_features, clip_features | video_features, clip_features, extractions, text_encoders, rejected_rows (of raw_media) | no rows of what vectors are delivered for, or has no captions and no files; a video without words or with a file at fault has no vector, and its reason |
| build_watch_graph | events, videos | daily_watches, users, video_nodes, watch_edges, clip_edges, private_users, private_edges, remembered_videos | |
| build_modality_graph | video_features | modality_edges, metrics | |
| build_user_graph | watch_edges | user_edges, metrics | |
| count_exposures | daily_watches | exposure_counts | no rows if neither a model of the recipe nor lists of surfaces read them |
| build_sequences | events, user_edges | exposures, sequences, metrics | no rows if neither a model of the recipe nor lists of surfaces read them |
| trial.train_model | the graphs without day D | models | |
| trial.select_candidates | models | candidates | |
| trial.rank_candidates | candidates, models | candidates | skipped if the recipe has no rankers |
| trial.blend_candidates | candidates, day D as the truth for the weights, candidates and watches of earlier nights | fusion_weights, models, candidates, blend_weights | with too few earlier nights it writes no candidates, and the closed form blends |
| evaluate_sources | candidates, day D as the truth | metrics, gate_results | a gate holds the night: the message says which and why |
| final.train_model, final.select_candidates, final.rank_candidates, final.blend_candidates | the graphs with day D | models, candidates, fusion_weights, blend_weights | as in the trial |
| select_recommendations | candidates | recommendations, segment_recommendations, fallback_recommendations, similar_videos, rewatch_recommendations | |
| check_recommendations | recommendations, similar_videos, and all they were made of | gate_results | a list differs from what brute force makes of the stored artefacts: the message names users (by `user_idx`) or videos, and rows; clear final.select_candidates and what follows |
| describe_trends | models, sequences, videos | user_trends | no rows if the recipe has no multi_trend |
| describe_clips | models, clip_edges, video_nodes | clip_interest, exit_points, metrics | no rows if the recipe has no clip_interest |
| publish_release | the result tables | gate_results, metrics, releases | a gate holds the night, or the same rows were withdrawn before |
| report_night | the tables of the day | a page, `reports/day=D.html` beside the tables | runs after a held or failed night too; the release does not wait for it |
| announce_release | releases | the asset microrec://releases | skipped if the latest release did not move: no consumer is started |

**When it fails.** Nothing half-done is visible: each task commits whole days or nothing, and until publish_release is
green, readers stay on the previous release. Every task may be cleared and run again; a day run twice has the same
rows. A task whose data or configuration is at fault fails at once; others are tried twice more, with growing delays.
The task's last lines, and a message to `MICROREC_ALERT_URL` if that is set, name table, day, rule and the next step.

**Parameters.** `day`: for manual runs only. `models`: only these of the recipe's models, and popularity. `force`: make the
night again though nothing has changed. `promote`: release a night that a gate finds not good enough, or whose input is
unlike the days before, never one with wrong lists; the reason is kept beside the release.

**A past day.** Use Backfill, or trigger a run with `day`. It gets a release of its own; the latest release stays the one
with the greatest day.

**Order.** Jobs that start Spark share the pool `microrec_spark`, trainings `microrec_training`. Of the tasks that wait for a
slot those of scheduled runs come first, then manual ones, then backfills (`dags/plugins`).

The runbook, step by step: `dags/README.md`.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TaskGroup, chain
from airflow.sdk.definitions.mappedoperator import MappedOperator
from defaults import DEFAULT_ARGS
from operators import AfterGrace, Job, Report
from recipe import grace_hours, models, rankers, timezone, trained
from runs import announce_erasures, announce_release, plan_night, resolve_day

SPARK = "microrec_spark"
TRAINING = "microrec_training"
POOLS = {
    "validate_events": SPARK,
    "build_watch_graph": SPARK,
    "build_modality_graph": SPARK,
    "build_user_graph": SPARK,
    "count_exposures": SPARK,
    "build_sequences": SPARK,
    "train_model": TRAINING,
}
"""Pools of the heavy jobs; the others share the default pool."""

with DAG(
    dag_id="nightly",
    doc_md=__doc__,
    # A bare cron string has no data interval in Airflow 3; this timetable gives each run its day, of 23 or 25 hours where clocks change.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone=str(timezone())),
    start_date=datetime(2022, 1, 1),
    catchup=False,
    max_active_runs=1,
    # Where DAGs come from a versioned bundle, a run that is cleared would go on with the code of its first try.
    disable_bundle_versioning=True,
    dagrun_timeout=timedelta(hours=12),
    params={
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            description="day in the time zone of the recipe; only for manual runs",
        ),
        "models": Param(
            [],
            type="array",
            items={"type": "string", "enum": trained()},
            uniqueItems=True,
            examples=trained(),
            description="only these and popularity; all models of the recipe if left empty",
        ),
        "force": Param(
            False,
            type="boolean",
            description="make the night again though nothing has changed",
        ),
        "promote": Param(
            None,
            type=["null", "string"],
            minLength=10,
            maxLength=500,
            description="why this night is to be released though a gate finds it not good enough",
        ),
    },
    default_args=DEFAULT_ARGS
    | {
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
        "execution_timeout": timedelta(hours=3),
        # By name: Airflow 3.3 does not take an instance in a mapped task.
        "weight_rule": "microrec_priority.NightFirst",
    },
    tags=["microrec", "tier-1"],
):
    wait = AfterGrace(
        task_id="wait_for_late_rows", hours=grace_hours(), poke_interval=300, timeout=86_400
    )
    day = resolve_day()
    planned = plan_night(day)
    chain(wait, day, planned)

    def job(name: str, **options: str) -> Job:
        """Return a task named as its job; tasks before it may be skipped, as a recipe need not have rankers."""
        pool = {"pool": POOLS[name]} if name in POOLS else {}
        return Job(task_id=name, job=name, day=day, trigger_rule="none_failed", **pool, **options)

    def mapped(name: str, fit: str, over: list[str]) -> MappedOperator:
        """Return a task named as its job and mapped over models."""
        pool = {"pool": POOLS[name]} if name in POOLS else {}
        names = {"task_id": name, "job": name, "map_index_template": "{{ task.model }}"}
        partial = Job.partial(day=day, fit=fit, trigger_rule="none_failed", **names, **pool)
        return partial.expand(model=over)

    def fitted(fit: str) -> tuple[MappedOperator, Job]:
        """Chain the tasks of a fit; return the first, train_model, and the last, blend_candidates."""
        train = mapped("train_model", fit, trained())
        select = mapped("select_candidates", fit, models())
        rank = mapped("rank_candidates", fit, rankers())
        blend = job("blend_candidates", fit=fit)
        chain(train, select, rank)
        # The blend waits for the selection too, as ranking may be skipped.
        chain([select, rank], blend)
        return train, blend

    erase = job("erase")
    validate_events = job("validate_events")
    build_watch_graph = job("build_watch_graph")
    others = [job(name) for name in ("build_modality_graph", "build_user_graph", "count_exposures")]
    build_sequences = job("build_sequences")
    extract_features = job("extract_features")
    with TaskGroup("trial"):
        trial = fitted("trial")
    evaluate_sources = job("evaluate_sources")
    with TaskGroup("final"):
        final = fitted("final")
    publish_release = job("publish_release")

    chain(
        planned,
        erase,
        validate_events,
        build_watch_graph,
        others,
        build_sequences,
        trial[0],
    )
    # Beside build_watch_graph, which takes longer.
    chain(validate_events, extract_features, others)
    chain(trial[1], evaluate_sources, final[0])
    chain(final[1], job("select_recommendations"), job("check_recommendations"), publish_release)
    chain(final[0], [job("describe_trends"), job("describe_clips")], publish_release)
    chain(publish_release, announce_release(day))
    chain(erase, announce_erasures())
    # Also of a night that was held, or failed before.
    report = Report(task_id="report_night", job="report_night", day=day, trigger_rule="all_done")
    chain(publish_release, report)
