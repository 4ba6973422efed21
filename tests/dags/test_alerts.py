"""Alerts: what they say, and that their address is a secret."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from microrec.core import messages

FAILURE = {
    "ti": SimpleNamespace(dag_id="nightly", task_id="validate_events", try_number=1),
    "run_id": "scheduled__2026-01-05",
    "exception": Exception(
        "validate_events refused day 2026-01-04: CheckFailed: events[day=2026-01-04] watch_ms: 3 rows"
    ),
}


def test_message_of_a_failure_has_table_day_rule_count_and_next_step() -> None:
    import alerts

    assert alerts.message(FAILURE) == (
        "nightly.validate_events (run scheduled__2026-01-05, try 1) failed: validate_events refused day"
        " 2026-01-04: CheckFailed: events[day=2026-01-04] watch_ms: 3 rows. Next: the rule is in schemas/:"
        " find out what has changed in the data; the old rows still stand."
    )
    other = {**FAILURE, "exception": None}
    assert alerts.OTHERWISE in alerts.message(other)


def test_message_of_a_failed_night_has_the_address_of_its_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import alerts

    assert "Report:" not in alerts.message(FAILURE)
    monkeypatch.setenv(alerts.REPORTS, "https://pages.internal/reports/")
    address = "Report: https://pages.internal/reports/day=2026-01-04.html"
    assert alerts.message(FAILURE).endswith(address)
    assert alerts.chat_message(FAILURE).endswith(address)
    without_day = {**FAILURE, "exception": "no day"}
    assert "Report:" not in alerts.message(without_day)
    assert alerts.message({**without_day, "params": {"day": "2026-01-04"}}).endswith(address)


def test_next_steps_cover_every_error_of_a_job() -> None:
    import alerts

    from microrec import errors

    ours = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.MicrorecError)
    }
    assert set(alerts.NEXT_STEPS) == ours - {"MicrorecError"}


def test_on_failure_posts_the_message_and_does_not_log_the_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import alerts

    posted: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            posted.append((self.path, json.loads(self.rfile.read(length))))
            self.send_response(200 if "secret" in self.path else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        for path in ("secret-word", "broken-word"):
            address = f"http://127.0.0.1:{server.server_port}/{path}"
            monkeypatch.setenv(alerts.URL, address)
            alerts.on_failure(FAILURE)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    monkeypatch.setenv(alerts.URL, "no address at all, secret-word")
    alerts.on_failure(FAILURE)
    assert [path for path, _ in posted] == ["/secret-word", "/broken-word"]
    assert posted[0][1] == {"text": alerts.chat_message(FAILURE)}
    assert "-word" not in caplog.text
    assert caplog.text.count("the alert was not delivered") == 2


USERS = ("u000017", "alice@example.com", "it's me", "back\\")


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (
            "validate_events refused day 2026-01-04: LandingError: raw_interactions[2026-01-04]: none of 9 lines is"
            " accepted, unreadable_id refused 9, user_id {shown}; e.g. part-0.csv {shown} (90 characters)",
            "LandingError: raw_interactions[2026-01-04]: none of 9 lines is accepted, unreadable_id refused 9",
        ),
        ("CheckFailed: releases[day=2026-01-04]: withdrawn for {shown}", "CheckFailed: releases"),
        (
            "train_model ended with exit status 1: KeyError: {plain}",
            "KeyError: the log of the task",
        ),
        ("train_model ended with exit status -9: read user {plain}", "the log of the task has"),
        ("microrec ended with 1: {plain}: what {plain}", "the log of the task has"),
    ],
    ids=["quoted line", "quoted id", "library", "killed", "command"],
)
def test_chat_message_names_no_user(error: str, kept: str, user: str) -> None:
    import alerts

    text = error.format(shown=messages.shown(user), plain=user)
    context = {**FAILURE, "exception": Exception(text)}
    chat = alerts.chat_message(context)
    assert kept in chat
    for part in (user, user.split("@")[0], user.replace("'", "\\'"), "me'"):
        assert part not in chat.replace("validate_events (run scheduled__2026-01-05, try 1)", "")
    assert text in alerts.message(context), "the log has it all"


def test_quoted_values_are_left_out_among_apostrophes() -> None:
    import alerts

    error = "CheckFailed: the day's lists of users' trends lack 'bob', and no one's 'carol \\' x' or 'cut"
    chat = alerts.chat_message({**FAILURE, "exception": Exception(error)})
    assert "the day's lists of users' trends lack '...', and no one's '...' or '...'" in chat


@pytest.mark.parametrize(
    ("text", "chat"),
    [
        ("<!channel> & <http://x|y>", "&lt;!channel&gt; &amp; &lt;http://x|y&gt;"),
        ("@channel @here @everyone", "@\u200bchannel @\u200bhere @\u200beveryone"),
        ("a\nFAKE \x1b[2J\u202eb", "a FAKE  [2J b"),
    ],
)
def test_chat_message_is_no_markup_and_calls_nobody(text: str, chat: str) -> None:
    import alerts

    context = {**FAILURE, "exception": Exception(f"GateHeld: {text}"), "run_id": f"r {text}"}
    said = alerts.chat_message(context)
    assert said.count(chat) == 2
    assert "@c" not in said
    assert "\n" not in alerts.message(context)
