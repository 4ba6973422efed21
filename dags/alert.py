"""What an operator is told when a task fails: which, why, and what to do next."""

import json
import logging
import os
import urllib.error
import urllib.request
from typing import Any

from airflow.sdk import Context

URL = "MICROREC_ALERT_URL"
"""Environment variable: where a message is posted as JSON, `{"text": ...}`, as Slack, Mattermost and Teams take it.
The address is a secret, and is never logged."""

NEXT = {
    "LandingError": "have the file or day delivered again, then clear the task",
    "ContractViolation": "a table is not what its contract in schemas/ says: mend who writes it, or the contract",
    "CheckFailed": "the rule is in schemas/: find out what changed in the data; the old rows still stand",
    "GateHeld": "the release before stands; `microrec show gate_results --day` says what was measured; a run with"
    " `promote` and a reason overrules what is a matter of judgement",
    "MissingDay": "a table it reads has no such day: run that day's night first, or the task that writes it",
    "BadArgument": "the message says which day, name or setting is none: trigger the run again with a right one",
    "RecipeError": "mend microrec.toml and clear the task",
    "CommitConflict": "a later attempt has written: nothing to do, unless it failed too",
}
"""What to do, by the error a job ends with."""
OTHERWISE = "clear the task when the cause is gone; nothing half-done is visible"

logger = logging.getLogger(__name__)


def on_failure(context: Context) -> None:
    """Say what failed, in the task's log and where MICROREC_ALERT_URL points."""
    text = message(context)
    logger.error("%s", text)
    address = os.environ.get(URL)
    if not address:
        return
    body, kind = json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(address, data=body, headers=kind)
        with urllib.request.urlopen(request, timeout=10):
            pass
    except (urllib.error.URLError, ValueError, OSError) as error:
        # The address stays out of the log, and with it what an error says of it.
        logger.error("the alert was not delivered: %s", type(error).__name__)


def message(context: Context) -> str:
    """One line for people."""
    found: dict[str, Any] = dict(context)
    instance, why = found["ti"], str(found.get("exception") or "no reason was given")
    step = next((step for name, step in NEXT.items() if f"{name}:" in why), OTHERWISE)
    where = (
        f"{instance.dag_id}.{instance.task_id} (run {found['run_id']}, try {instance.try_number})"
    )
    return f"{where} failed: {why}. Next: {step}."
