"""Alerts: when a task fails, which one, why, and what to do next."""

import json
import logging
import os
import re
import urllib.error
import urllib.request
from typing import Any

from airflow.sdk import Context

URL = "MICROREC_ALERT_URL"
"""Environment variable: the address that a message is posted to as JSON, `{"text": ...}`, as Slack, Mattermost and
Teams take it. It is a secret and is never logged, and no job gets it."""

REPORTS = "MICROREC_REPORTS_URL"
"""Environment variable: the address under which the folder `reports` of the warehouse can be read in a browser."""
DAY = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b")

NEXT_STEPS = {
    "LandingError": "have the file or day delivered again, then clear the task",
    "ContractViolation": "a table is not as its contract in schemas/ declares: mend the code that writes it, or the"
    " contract",
    "CheckFailed": "the rule is in schemas/: find out what has changed in the data; the old rows still stand",
    "GateHeld": "the release before stands; the page of the night (`microrec report --day D`) says why, `microrec show"
    " gate_results --day D --committed` what was measured;"
    " a run with `promote` and a reason overrules gates that are a matter of judgement",
    "MissingDay": "a table it reads has no such day: run that day's night first, or the task that writes it",
    "BadArgument": "the message says which day, name or setting is not valid: trigger the run again with a valid one",
    "RecipeError": "mend microrec.toml and clear the task",
    "LockHeld": "another process works on the same: wait for it and clear the task; a lock whose holder is gone goes by"
    " itself",
    "CommitConflict": "a later attempt has written: nothing to do, unless it failed too",
}
"""What to do next, by the error a job ends with."""
OTHERWISE = "clear the task when the cause is gone; nothing half-done is visible"

OF_PROCESS = re.compile(
    r"(?P<start>(?:\S+ (?:refused day \S+|ended with(?: exit status)? -?\d+): )?)(?P<error>\w+)(?P<rest>: .*)",
    re.DOTALL,
)
"""How a task fails whose process has failed (`processes.raise_if_failed`, `operators.Command`)."""
QUOTED = re.compile(r"""(?<!\w)(?:'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$))""", re.DOTALL)
"""A value from outside, as messages of ours show it: it may be an id or a whole line of a log."""
IN_THE_LOG = "the log of the task has its message"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
"""Characters that end a line, move a cursor or turn writing around (`microrec.core.messages`)."""
MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
WIDTH = 1500
"""Characters of an error that a chat gets."""

logger = logging.getLogger(__name__)


def report_address(day: str) -> str | None:
    """Return the address of the page of a night, None where no address of pages is set.

    Args:
        day: of the night, YYYY-MM-DD.
    """
    base = os.environ.get(REPORTS, "").rstrip("/")
    return f"{base}/day={day}.html" if base else None


def on_failure(context: Context) -> None:
    """Log what failed, and post it to the address in MICROREC_ALERT_URL, if there is one."""
    text = message(context)
    logger.error("%s", text)
    address = os.environ.get(URL)
    if not address:
        return
    body = json.dumps({"text": chat_message(context)}).encode()
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
        The line, for the log of the task.
    """
    return _line(context, _error(context))


def chat_message(context: Context) -> str:
    """Return the line as a chat may have it: it names no user, and nothing in it acts as markup or calls people.

    Values that the error quotes are left out, as they may be ids or raw lines. So is all that an error says that is
    none of ours, such as a library's: what it quotes is not known. The log of the task has the whole line.

    Args:
        context: Airflow's context of the failed task.

    Returns:
        The line, with `&`, `<` and `>` as Slack, Mattermost and Teams read them.
    """
    line = _line(context, public_error(_error(context)))
    line = re.sub("[&<>]", lambda match: MARKUP[match[0]], line)
    # A space of no width: who is written to by a name preceded by `@` is not.
    return line.replace("@", "@\u200b")


def public_error(error: str) -> str:
    """Return an error as others than the operator may read it: without values it quotes, and what is none of ours.

    Args:
        error: how a task failed.
    """
    return QUOTED.sub("'...'", _public(error))[:WIDTH]


def _error(context: Context) -> str:
    return str(dict(context).get("exception") or "no reason was given")


def _public(error: str) -> str:
    """The error without what a process said that did not end with an error of ours."""
    process = OF_PROCESS.fullmatch(error)
    if process is None:
        return error if " ended with " not in error else f"{error.split(': ')[0]}: {IN_THE_LOG}"
    if process["error"] in NEXT_STEPS:
        return error
    if process["start"]:
        name = process["error"] if process["error"].endswith(("Error", "Exception")) else ""
        return f"{process['start']}{name or 'no error of ours'}: {IN_THE_LOG}"
    return error


def _line(context: Context, error: str) -> str:
    values: dict[str, Any] = dict(context)
    instance = values["ti"]
    whole = _error(context)
    next_step = next((step for name, step in NEXT_STEPS.items() if f"{name}:" in whole), OTHERWISE)
    task = f"{instance.dag_id}.{instance.task_id}"
    attempt = f"run {values['run_id']}, try {instance.try_number}"
    line = f"{task} ({attempt}) failed: {error}. Next: {next_step}.{_report(values, whole)}"
    return CONTROL.sub(" ", line)


def _report(values: dict[str, Any], error: str) -> str:
    """The address of the page of the night that failed, if it is known."""
    given = (values.get("params") or {}).get("day")
    day = DAY.search(str(given or error))
    address = report_address(day[0]) if day and values["ti"].dag_id == "nightly" else None
    return f" Report: {address}" if address else ""
