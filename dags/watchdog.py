"""# watchdog: checks the releases as a consumer would.

It reads the releases and the names of landing files, and knows nothing of runs of `nightly`. Every hour it fails,
and says why, if the latest release is late or expired, if its lists have shrunk or swollen against the releases
before, if a day of the last week was withdrawn, or was begun and never released, or if a landing file of the last
night's window was added, rewritten or removed after that night had read its day. The limits are in `[release.watch]`
of the recipe. Where `MICROREC_METRICS_FILE` names a file, it writes figures for Prometheus there, whatever it finds.

**When it is red.** Its last line names the day: read that day's run of `nightly`. It turns green by itself.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable
from defaults import DEFAULT_ARGS
from operators import Command

with DAG(
    dag_id="watchdog",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("17 * * * *", timezone="UTC"),
    start_date=datetime(2022, 1, 1),
    catchup=False,
    max_active_runs=1,
    # Where DAGs come from a versioned bundle, a run that is cleared would go on with the code of its first try.
    disable_bundle_versioning=True,
    default_args=DEFAULT_ARGS
    | {"retry_delay": timedelta(minutes=1), "execution_timeout": timedelta(minutes=10)},
    tags=["microrec", "tier-1"],
):
    Command(task_id="watch_releases", words=["watch"])
