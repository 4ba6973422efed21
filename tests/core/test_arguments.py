"""What is said from outside: what is no day, name, id or root is refused in one line, wherever it comes in."""

import ast
import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.cli import app
from microrec.config.settings import HOME, settings
from microrec.core import arguments, messages
from microrec.errors import BadArgument, ContractViolation, LandingError, MissingDay
from microrec.landing import zone
from microrec.release import reader, rollback
from microrec.runner.exit_status import ExitStatus
from microrec.tables import checks
from microrec.tables.arrow import Warehouse

DAY = dt.date(2026, 1, 4)
HOSTILE = ("../../etc", "/etc/passwd", "a/b", "x'; DROP TABLE users; --", 'x" OR 1=1', "", " ", "..",
           "day=2026-01-01/..", "users\n", "users\x00", "%2e%2e", "*", "{a,b}", "~", "$(id)", "\u202eusers",
           "u" * 10_000)  # fmt: skip
NO_DAYS = (*HOSTILE, "20260104", "2026-W01-7", "2026-01-04 ", " 2026-01-04", "2026-1-4", "2026-01-04T00:00",
           "\u0662\u0660\u0662\u0666-01-04", "2026-02-30", "2026-13-01", "0000-01-01", "1969-12-31", "3000-01-01",
           "9999-12-31", "10000-01-01", "-2026-01-04", "2026-01-04/..", "today")  # fmt: skip
NO_ROOTS = ("", " ", "a\nb", "a\x00b", "ftp://host/x", "file:///etc", "s3://", "s3:///x", "s3://key:PLANTED@bucket/x",
            "s3://PLANTED@bucket/x", "s3://bucket/x?secret=PLANTED", "s3://bucket/../x", "s3://bucket//x",
            "gs://bucket/./x", "s3://bucket/x#PLANTED")  # fmt: skip


def refusal(parse: Callable[[str], object], text: str) -> str:
    with pytest.raises(BadArgument) as refused:
        parse(text)
    said = str(refused.value)
    assert len(said) < 400
    assert said.isprintable()
    return said


@pytest.mark.parametrize("text", NO_DAYS)
def test_day_malformed_is_refused(text: str) -> None:
    assert "not a day YYYY-MM-DD from 1970-01-01 to 2999-12-31" in refusal(arguments.day, text)


@given(st.dates(arguments.FIRST, arguments.LAST))
def test_day_valid_is_parsed(day: dt.date) -> None:
    assert arguments.day(day.isoformat()) == day


@pytest.mark.parametrize(
    "parse", [arguments.table, arguments.model, arguments.fit, arguments.release]
)
@pytest.mark.parametrize("text", HOSTILE)
def test_name_malformed_is_refused(parse: Callable[[str], object], text: str) -> None:
    refusal(parse, text)


@pytest.mark.parametrize("text", NO_ROOTS)
def test_root_malformed_is_refused_without_repeating_secrets(text: str) -> None:
    assert "PLANTED" not in refusal(arguments.root, text)


def test_arguments_valid_pass(tmp_path: Path) -> None:
    assert arguments.table("watch_edges") == "watch_edges"
    assert arguments.model("rp3beta") == "rp3beta"
    assert arguments.fit("trial") == "trial"
    assert arguments.release("2026-01-04-0123456789ab") == "2026-01-04-0123456789ab"
    assert arguments.release("2026-01-04") == "2026-01-04"
    assert arguments.instant("2026-01-04T10:00").tzinfo == dt.UTC
    assert arguments.root(f"{tmp_path}/a/../b") == f"{tmp_path}/b"
    for uri in ("s3://bucket", "s3://bucket/a/b", "abfss://box@account.dfs.core.windows.net/a"):
        assert arguments.root(uri) == arguments.root(f"{uri}/") == uri
    for id_ in HOSTILE[:5]:
        assert arguments.identifier(id_) == id_, "an id is data: it is compared, never a path"
    for text in ("", "u" * 513):
        refusal(arguments.identifier, text)
    refusal(arguments.words, "two\nlines")
    refusal(arguments.instant, "yesterday")


@given(st.text())
def test_message_any_argument_is_one_line(text: str) -> None:
    for line in (messages.shown(text), messages.one_line(text)):
        assert len(line.splitlines()) <= 1
        assert "\x1b" not in line
    assert len(messages.shown(text * 100)) < 60 * 10 + 30


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    """Exit status of `microrec` and all it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["microrec", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
    said = capsys.readouterr()
    return ended.value.code, said.out + said.err


@pytest.mark.parametrize(
    "words",
    [
        *[["show", name] for name in HOSTILE],
        ["show", "no_such_table"],
        *[["show", "users", "--day", day] for day in NO_DAYS],
        ["show", "users", "--user", "u" * 513],
        ["show", "users", "--warehouse", "s3://key:word@bucket/x"],
        *[["rollback", "--to", name, "--reason", "why"] for name in HOSTILE],
        ["rollback", "--to", "2026-01-04", "--reason", "why\nERROR all is well"],
        ["releases", "--warehouse", "a\nb"],
        ["watch", "--now", "soon"],
        ["night", "--day", "20260104"],
        ["plot", "weights", "--day", "2026-W01-7"],
        ["plot", "clips", "--day", "2026-01-04", "--user", "", "--video", "v"],
    ],
    ids=lambda words: " ".join(words)[:40].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_command_bad_argument_is_refused_in_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    status, said = typed(capsys, *words)
    assert status == ExitStatus.DATA_ERROR
    assert said.startswith(("BadArgument: ", "ContractViolation: "))
    assert len(said.splitlines()) == 1
    assert "word" not in said
    assert list(place.iterdir()) == [], "nothing was made under such a name"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--day", "20260104", "--fit", "trial", "--model", "content"],
            "day '20260104': not a day",
        ),
        (
            ["--day", "2026-01-04", "--fit", "a/../..", "--model", "content"],
            "fit 'a/../..': not one",
        ),
        (["--day", "2026-01-04", "--fit", "trial"], "Missing option '--model'"),
    ],
)
def test_job_bad_argument_is_refused_and_not_retried(words: list[str], message: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "jobs.rank_candidates", *words],
        cwd=HOME, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == ExitStatus.DATA_ERROR
    assert "Traceback" not in ended.stderr
    assert f" ERROR microrec.runner.job BadArgument: {message}" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", HOSTILE)
def test_readers_of_tables_open_no_other_path(place: Path, name: str) -> None:
    warehouse = Warehouse.open()
    for read in (
        warehouse.read,
        warehouse.partitions,
        warehouse.version,
        warehouse.digest,
        reader.rows_of,
    ):
        with pytest.raises(ContractViolation, match="not the name of a table"):
            read(name)
    with pytest.raises(LandingError, match="not one of raw_interactions"):
        zone.files(str(place), name, DAY)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("value", HOSTILE)
def test_partition_values_cannot_leave_the_table(place: Path, value: str) -> None:
    warehouse = Warehouse.open()
    empty = (
        warehouse.table("models")
        .contract.schema.empty_table()
        .drop_columns(["day", "fit", "model"])
    )
    for values in ({"fit": value, "model": "content"}, {"fit": "trial", "model": value}):
        with pytest.raises(ContractViolation, match="letters, digits"):
            warehouse.write("models", empty, day=DAY, **values)
        with pytest.raises(ContractViolation, match="letters, digits"):
            warehouse.save_artefact(day=DAY, save=lambda folder: None, **values)
        with pytest.raises(MissingDay):
            warehouse.read("models", day=DAY, **values)
    assert not (place / "warehouse").exists() or not list((place / "warehouse").rglob("*.parquet"))


def test_artefact_path_must_lie_in_the_warehouse(place: Path) -> None:
    (place / "outside").mkdir()
    (place / "warehouse" / "artefacts").mkdir(parents=True)
    (place / "warehouse" / "artefacts" / "link").symlink_to(place / "outside")
    for path in ("../outside", str(place / "outside"), "artefacts/../../outside", "artefacts/link"):
        with pytest.raises(MissingDay, match="not among those of"):
            Warehouse.open().open_artefact(path, "0" * 64)


def test_release_id_is_compared_not_looked_up(place: Path) -> None:
    for name in HOSTILE:
        with pytest.raises(Exception, match=r"no release") as refused:
            rollback.to(name, reason="why")
        assert len(str(refused.value)) < 200


def test_reader_ids_of_any_kind_are_found(place: Path) -> None:
    ids = sorted({name for name in HOSTILE if name.strip()} | {"😀", "\uffff", "\x1b[2J", "[/b]"})
    rows = pa.table(
        {
            "user_idx": pa.array(range(len(ids)), pa.int32()),
            "user_id": ids,
            "degree": pa.array([1] * len(ids), pa.int32()),
            "first_seen": pa.array([0] * len(ids), pa.timestamp("us", tz="UTC")),
        }
    )
    warehouse = Warehouse.open()
    warehouse.write("users", rows, day=DAY)
    assert warehouse.read("users", day=DAY)["user_id"].to_pylist() == ids
    for number, id_ in enumerate(ids):
        for found in (
            warehouse.read("users", day=DAY, where={"user_id": id_}),
            reader.rows_of("users", user_id=id_),
        ):
            assert found["user_idx"].to_pylist() == [number]


def test_show_control_characters_are_escaped(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test_reader_ids_of_any_kind_are_found(place)
    status, said = typed(capsys, "show", "users", "--limit", "50")
    assert status == 0
    assert "\\x1b[2J" in said
    assert "[/b]" in said
    assert "users\\n" in said
    assert not {"\x1b", "\x00", "\u202e"} & set(said)


def test_contract_text_is_quoted_in_sql() -> None:
    name = 'a" FROM staged; DROP TABLE staged; --'
    rule = checks.Rule(
        "expect_column_values_to_be_in_set", {"column": name, "value_set": ["x'); --"]}, "fail"
    )
    with duckdb.connect() as connection:
        connection.register("staged", pa.table({name: ["x'); --", "y"]}))
        query = f"SELECT {checks._sql(rule)} FROM staged"
        assert connection.execute(query).fetchall() == [(1,)]


BUILDERS = {
    "checks.py", "expressions.py", "inspection.py", "lines.py", "sources.py", "table.py",
    "proof.py", "airflow_records.py", "contents.py", "postgres.py", "subjects.py",
}  # fmt: skip
"""`checks` quotes a contract's words (above). The imports (`expressions`, `sources`, `table`) make queries of a
mapping, which is code, with names and paths quoted, in a connection that reaches one file; `lines` and `inspection` of
the contracts' tables and columns, the recipe's numbers and its checked time zone. `proof` quotes the names of an SQLite
file's tables, `airflow_records` makes a query of SQLAlchemy's own expressions, `postgres` of psycopg's, names and
literals quoted by it. `contents` puts its own column names into a query, and `subjects` makes a table of one that is a
constant.
"""


def test_queries_are_not_built_from_values() -> None:
    """`execute`, `sql` and `expr` are given constants; values are bound or compared."""
    built = set()
    for path in sorted((HOME / "microrec").rglob("*.py")) + sorted((HOME / "jobs").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr not in ("execute", "sql", "expr", "selectExpr") or not node.args:
                continue
            parts = list(ast.walk(node.args[0]))
            names = {one.id for one in parts if isinstance(one, ast.Name)}
            made = any(isinstance(one, ast.JoinedStr | ast.Call | ast.Mod) for one in parts)
            if made or any(
                name.islower() and name not in ("one", "rule", "authors_are_users")
                for name in names
            ):
                built.add(path.name)
    assert built == BUILDERS


def test_run_folder_name_is_short_enough(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROREC_RUN_ID", "manual__../../" + "r" * 240)
    settings.cache_clear()
    warehouse = Warehouse.open()
    warehouse.write_empty("suppressed_users", day=DAY)
    (folder,) = (place / "warehouse" / "suppressed_users").glob("attempt-*")
    assert len(folder.name) < 130
