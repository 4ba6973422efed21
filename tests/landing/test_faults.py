"""Exceptions of Spark: those about a landing file name it, those about the machines stay as they are."""

import datetime as dt

import pytest

from microrec.landing import faults

FILE = "file:/landing/raw_videos/day=2026-01-04/part%201.parquet"
DAY = dt.date(2026, 1, 4)


def test_of_spark_names_table_day_file_and_the_last_cause() -> None:
    error = RuntimeError(
        f"[FAILED_READ_FILE.NO_HINT] Encountered error while reading file {FILE}.\n"
        "Caused by: java.io.IOException: outer\nCaused by: java.io.EOFException: no more bytes"
    )
    fault = faults.of_spark(error)
    assert str(fault).startswith(
        "raw_videos[2026-01-04]: file part 1.parquet: Spark cannot read it"
    )
    assert "EOFException: no more bytes" in str(fault)


def test_of_spark_our_error_in_a_worker_keeps_its_words() -> None:
    error = RuntimeError(
        "Traceback\nmicrorec.errors.LandingError: raw_videos[2026-01-04]: a.csv: no\n"
    )
    assert str(faults.of_spark(error)) == "raw_videos[2026-01-04]: a.csv: no"


@pytest.mark.parametrize(
    "text",
    [
        "java.lang.ArithmeticException: division by zero",
        f"FAILED_READ_FILE {FILE}\nCaused by: java.lang.OutOfMemoryError: Java heap space",
        f"java.io.IOException: No space left on device while reading {FILE} FAILED_READ_FILE",
    ],
)
def test_of_spark_what_is_not_about_a_file_is_no_fault_of_one(text: str) -> None:
    assert faults.of_spark(RuntimeError(text)) is None


def test_unreadable_without_causes_gives_the_first_line() -> None:
    fault = faults.unreadable("raw_videos", DAY, "a\nb.csv", ValueError("first\nsecond"))
    assert "(first)" in str(fault)
    assert "\n" not in str(fault)
