"""Default arguments of every task of our DAGs; a DAG adds its own timeout and delays."""

from typing import Any

from alerts import on_failure

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "data platform",
    "retries": 2,
    "on_failure_callback": on_failure,
}
