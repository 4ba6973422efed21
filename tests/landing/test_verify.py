"""Whole files pass; cut-off and corrupt ones are refused by name."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.errors import LandingError
from microrec.landing import verify, zone
from tests.landing.test_write import DAY, ROWS, lay


def cuts(size: int) -> list[int]:
    return sorted({1, 5, 12, size // 3, size // 2, size - 9, size - 8, size - 4, size - 1} - {0})


@pytest.mark.parametrize("kind", ["parquet", "jsonl.gz", "csv.gz"])
def test_verify_file_truncated_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    rows = pa.table({"a": [f"{n * 7919 % 1000}" for n in range(5_000)], "b": range(5_000)})
    path = lay(tmp_path, kind, rows)
    whole = path.read_bytes()
    for size in cuts(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(LandingError, match=rf"raw_videos/day=2026-01-02/part-0\.{kind}"):
            verify.verify_file(path)
    path.write_bytes(whole)
    verify.verify_file(path)


@pytest.mark.parametrize("kind", ["parquet", "jsonl.gz", "csv.gz"])
@settings(max_examples=50)
@given(st.data())
def test_verify_any_cut_is_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    path = lay(tmp_path_factory.mktemp("cut"), kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(LandingError):
        verify.verify_file(path)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_verify_text_cut_inside_a_line_is_refused(tmp_path: Path, kind: str) -> None:
    path = lay(tmp_path, kind)
    whole = path.read_bytes()
    for size in (1, len(whole) // 2 + (whole[len(whole) // 2 - 1] == 10), len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(LandingError, match="cut off in the middle of its last line"):
            verify.verify_file(path)


@pytest.mark.parametrize("kind", zone.KINDS)
def test_verify_empty_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = lay(tmp_path, kind)
    path.write_bytes(b"")
    with pytest.raises(LandingError, match="zero bytes"):
        verify.verify_file(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(b"", mtime=0), "no line"),
        (gzip.compress(b"a line\nhalf a l", mtime=0), "middle of its last line"),
        (b"not gzip at all\n", "corrupt gzip"),
    ],
)
def test_verify_gzip_with_hidden_damage_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = lay(tmp_path, "csv.gz")
    path.write_bytes(content)
    with pytest.raises(LandingError, match=reason):
        verify.verify_file(path)


@pytest.mark.parametrize("kind", ["parquet", "csv.gz"])
def test_verify_flipped_byte_in_the_body_is_refused(tmp_path: Path, kind: str) -> None:
    rows = pa.table({"a": [f"{n * 7919 % 1000}" for n in range(5_000)]})
    path = lay(tmp_path, kind, rows)
    body = bytearray(path.read_bytes())
    body[len(body) // 3] ^= 0xFF
    path.write_bytes(bytes(body))
    with pytest.raises(LandingError):
        verify.verify_file(path)


def test_verify_page_checksums_are_checked(tmp_path: Path) -> None:
    """Without compression a flipped bit decodes to another number; only the checksum knows."""
    path = lay(tmp_path, "parquet")
    rows = pa.table({"n": pa.array(range(1_000), pa.int64())})
    pq.write_table(rows, path, compression="none", use_dictionary=False, write_page_checksum=True)
    body = bytearray(path.read_bytes())
    body[2_000] ^= 1
    path.write_bytes(bytes(body))
    assert pq.read_table(path, partitioning=None)["n"].to_pylist() != list(range(1_000))
    with pytest.raises(LandingError, match="CRC"):
        verify.verify_file(path)


def test_verify_footer_of_another_body_is_refused(tmp_path: Path) -> None:
    path = lay(tmp_path, "parquet", pa.table({"a": range(50_000)}))
    whole = path.read_bytes()
    footer = pq.read_metadata(path).serialized_size + 8
    path.write_bytes(whole[:1_000] + whole[-footer:])
    with pytest.raises(LandingError, match="past the file's"):
        verify.verify_file(path)


def test_verify_complete_files_of_other_writers_pass(tmp_path: Path) -> None:
    folder = tmp_path / "raw_videos/day=2026-01-02"
    folder.mkdir(parents=True)
    pq.write_table(ROWS, folder / "plain.parquet", compression="snappy", row_group_size=2)
    pq.write_table(ROWS.slice(0, 0), folder / "empty.parquet")
    (folder / "two.csv.gz").write_bytes(gzip.compress(b"a\n1\n") + gzip.compress(b"2\n"))
    (folder / "windows.csv").write_bytes(b"a\r\n1\r\n")
    for path in zone.files(str(tmp_path), "raw_videos", DAY):
        verify.verify_file(path)


@pytest.mark.parametrize(
    ("content", "by_record"),
    [
        (b"\xef\xbb\xbfa,b\nu1,v1\n", False),
        (b"a,b\n\xef\xbb\xbfu1,v1\n", True),
        (b"a,b\nu1,\xef\xbb\xbfv1\n", False),
    ],
    ids=["of the file", "of a line", "of a later field"],
)
def test_verify_csv_with_a_mark_at_the_start_of_a_line_is_read_by_record(
    tmp_path: Path, content: bytes, by_record: bool
) -> None:
    """Spark's parser of lines would take it off the value."""
    path = zone.path_of(str(tmp_path), "raw_videos", DAY, kind="csv")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert verify.verify_file(path).by_record is by_record
