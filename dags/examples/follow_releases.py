"""# follow_releases: what a consumer's DAG looks like.

It runs when the latest release of microrec has moved, and only then: a backfilled old day does not start it. The
event names the release; the rows that are read are those the release pins, whatever is written meanwhile. Copy it
and put your own task in the place of `show`. It is paused until it is switched on.
"""

import logging
import os
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task
from processes import WORKING_FOLDER, passed_on

RELEASES = Asset("microrec://releases")

logger = logging.getLogger(__name__)

with DAG(
    dag_id="follow_releases",
    doc_md=__doc__,
    schedule=[RELEASES],
    start_date=datetime(2022, 1, 1),
    is_paused_upon_creation=True,
    max_active_runs=1,
    default_args={
        "owner": "a consumer",
        "retries": 2,
        "execution_timeout": timedelta(minutes=10),
    },
    tags=["microrec", "example"],
):

    @task
    def show(**context: Any) -> str:
        """Read the head of the released lists; of several events the last one counts."""
        event: dict[str, str] = context["triggering_asset_events"][RELEASES][-1].extra
        command = [sys.executable, "-m", "microrec.cli", "show", "recommendations"]
        shown = subprocess.run(
            [*command, "--day", event["day"], "--limit", "5"],
            cwd=WORKING_FOLDER,
            env=passed_on(os.environ),
            capture_output=True,
            text=True,
            check=True,
        )
        logger.info("%s", shown.stdout)
        return event["release"]

    show()
