#!/usr/bin/env -S python3 -S -I
"""Whether this container's part works: `microrec-health PART`, exit status 0 or 1.

Parts of Airflow (metadatabase, scheduler, dag_processor, triggerer) are what its API says of their heartbeats; a Spark
worker works if the master has it among the living; the cleaner if it has cleaned within 25 hours. The standard library
alone, without site-packages: 0.1 CPU seconds, where `airflow jobs check` takes five.
"""

import json
import os
import socket
import sys
import time
import urllib.request

CLEANED = "/srv/scratch/cleaned"
"""File that the cleaner touches when it has ended."""
DAY_AND_AN_HOUR = 25 * 3600


def ask(url: str) -> dict:
    """Return the JSON that a server of the stack answers with."""
    # Without the proxy of the environment, which knows no container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return json.load(answer)


def works(part: str) -> bool:
    """Return whether a part works.

    Args:
        part: a name of Airflow's health page, spark-master, spark-worker or cleaner.
    """
    if part == "cleaner":
        return time.time() - os.path.getmtime(CLEANED) < DAY_AND_AN_HOUR
    if part.startswith("spark"):
        master = ask(os.environ.get("SPARK_MASTER_PAGE", "http://spark-master:8080") + "/json/")
        if part == "spark-master":
            return master["status"] == "ALIVE"
        here = socket.gethostbyname(socket.gethostname())
        return any(
            worker["host"] == here and worker["state"] == "ALIVE" for worker in master["workers"]
        )
    airflow = ask(
        os.environ.get("AIRFLOW_PAGE", "http://api-server:8080") + "/api/v2/monitor/health"
    )
    return airflow[part]["status"] == "healthy"


if __name__ == "__main__":
    try:
        healthy = works(sys.argv[1])
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{sys.argv[1]}: {error!r}")
    sys.exit(0 if healthy else f"{sys.argv[1]} does not work")
