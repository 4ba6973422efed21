"""Alerts: what they say, and that their address is a secret."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

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
    assert posted[0][1] == {"text": alerts.message(FAILURE)}
    assert "-word" not in caplog.text
    assert caplog.text.count("the alert was not delivered") == 2
