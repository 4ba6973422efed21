"""Alerts: when a task fails, which one, why, and what to do next."""

import json
import logging
import os
import urllib.error
import urllib.request
from typing import Any

from airflow.sdk import Context

URL = "MICROREC_ALERT_URL"
"""Environment variable: the address that a message is posted to as JSON, `{"text": ...}`, as Slack, Mattermost and
Teams take it. It is a secret and is never logged."""

NEXT_STEPS = {
    "LandingError": "have the file or day delivered again, then clear the task",
    "ContractViolation": "a table is not as its contract in schemas/ declares: mend the code that writes it, or the"
    " contract",
    "CheckFailed": "the rule is in schemas/: find out what has changed in the data; the old rows still stand",
    "GateHeld": "the release before stands; `microrec show gate_results --day D --committed` says what was measured;"
    " a run with `promote` and a reason overrules gates that are a matter of judgement",
    "MissingDay": "a table it reads has no such day: run that day's night first, or the task that writes it",
    "BadArgument": "the message says which day, name or setting is not valid: trigger the run again with a valid one",
    "RecipeError": "mend microrec.toml and clear the task",
    "CommitConflict": "a later attempt has written: nothing to do, unless it failed too",
}
"""What to do next, by the error a job ends with."""
OTHERWISE = "clear the task when the cause is gone; nothing half-done is visible"

logger = logging.getLogger(__name__)


def on_failure(context: Context) -> None:
    """Log what failed, and post it to the address in MICROREC_ALERT_URL, if there is one."""
    text = message(context)
    logger.error("%s", text)
    address = os.environ.get(URL)
    if not address:
        return
    body = json.dumps({"text": text}).encode()
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(address, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=10):
            pass
    except (urllib.error.URLError, ValueError, OSError) as error:
        # The text of the error may hold the address.
        logger.error("the alert was not delivered: %s", type(error).__name__)


def message(context: Context) -> str:
    """Return one line for an operator: the task, its run and try, the error, the next step.

    Args:
        context: Airflow's context of the failed task.

    Returns:
        The line.
    """
    values: dict[str, Any] = dict(context)
    instance = values["ti"]
    error = str(values.get("exception") or "no reason was given")
    next_step = next((step for name, step in NEXT_STEPS.items() if f"{name}:" in error), OTHERWISE)
    task = f"{instance.dag_id}.{instance.task_id}"
    attempt = f"run {values['run_id']}, try {instance.try_number}"
    return f"{task} ({attempt}) failed: {error}. Next: {next_step}."
