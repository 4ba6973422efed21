"""CSV as RFC 4180 has it, compared with Python's csv; what breaks it costs its record, or the file by line."""

import csv
import gzip
import io
import random
from pathlib import Path

import pytest

from microrec.errors import LandingError
from microrec.landing import records, verify
from microrec.landing.records import Record, Sizes
from tests.landing.test_write import DAY

SIZES = Sizes(line=200, record=600)


def lay(tmp_path: Path, content: bytes, kind: str = "csv") -> Path:
    path = tmp_path / f"raw_videos/day={DAY}/part-0.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read(tmp_path: Path, content: bytes, sizes: Sizes = SIZES) -> list[Record]:
    return list(records.csv_records(lay(tmp_path, content), sizes))


def test_csv_records_that_span_lines_are_one_record_each(tmp_path: Path) -> None:
    content = b'v1,"hello\nv2,9000,1,0\nworld",9\r\nv3,"a\r\nb",""\n"c\rd","say ""x"", \\",\n'
    found = read(tmp_path, content)
    assert [record.fields for record in found] == [
        ("v1", "hello\nv2,9000,1,0\nworld", "9"),
        ("v3", "a\r\nb", ""),
        ("c\rd", 'say "x", \\', None),
    ]
    assert [record.number for record in found] == [1, 4, 6]
    assert found[0].text == 'v1,"hello\nv2,9000,1,0\nworld",9'
    assert not any(record.malformed or record.too_long for record in found)


@pytest.mark.parametrize("line", [b'"a"b,c', b'a"b",c', b'"a" ,c', b' "a",c', b"a\rb,c", b"\xff,c"])
def test_csv_records_broken_in_its_line_costs_that_record(tmp_path: Path, line: bytes) -> None:
    found = read(tmp_path, b"1,2\n" + line + b"\n3,4\n")
    assert [record.malformed for record in found] == [False, True, False]
    assert [record.fields for record in found[::2]] == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize(
    ("content", "number", "reason"),
    [
        (b'1,2\n3,"4\n5,6\n', 2, "not closed before the end"),
        (b'1,2\n3,"' + b"4\n" * 400, 2, "not closed within 600 bytes"),
        (b'1,2\n3,4\n5,6" tv\n', 3, "a quote is missing or one too many"),
        (b'1,2\n"3"4,"5\n6,7\n"8",9\n', 2, "a quote is missing|not doubled"),
        (
            b'1,2\n"3"4,5\n6,"7\n8"\n',
            2,
            "not doubled, in a file whose record at line 3 spans lines",
        ),
        (b'1,2\n3,"' + b"4" * 700 + b"\n5,6\n", 2, "not closed"),
    ],
)
def test_csv_records_broken_beyond_its_line_refuses_the_file(
    tmp_path: Path, content: bytes, number: int, reason: str
) -> None:
    path = lay(tmp_path, content)
    with pytest.raises(LandingError, match=rf"part-0\.csv: line {number}: .*({reason})"):
        list(records.csv_records(path, SIZES))


def test_csv_records_one_quote_lost_or_added_makes_no_row(tmp_path: Path) -> None:
    """Whatever quote of a sound file is lost or doubled: rows are those of the file, or there are none."""
    sound = b'v1,"a ""b"", c\nv2,forged\n",x\nv3,"d",y\n"v4","",z\n'
    rows = {record.fields for record in read(tmp_path, sound)}
    damaged = []
    for at in (at for at, code in enumerate(sound) if code == ord('"')):
        damaged += [sound[:at] + sound[at + 1 :], sound[:at] + b'"' + sound[at:]]
    for content in damaged:
        try:
            found = read(tmp_path, content)
        except LandingError:
            continue
        pytest.fail(f"{content!r} was read: {found} of {rows}")


@pytest.mark.parametrize(
    "line", [b"," * 300, b"x" * 900, b"x" * 300 + b",y", b'"' + b"x" * 300 + b'"']
)
def test_csv_records_long_line_costs_that_line(tmp_path: Path, line: bytes) -> None:
    found = read(tmp_path, b"1,2\n" + line + b"\r\n3,4\n")
    assert [record.too_long for record in found] == [False, True, False]
    assert found[1].text == line.decode()[: len(found[1].text)]
    assert len(found[1].text) <= records.KEPT
    assert found[2] == Record(3, "3,4", ("3", "4"), malformed=False, too_long=False)


def test_csv_records_sound_files_equal_python_csv(tmp_path: Path) -> None:
    random_ = random.Random(4)
    alphabet = ["a", "é", ",", '"', "\n", "\r\n", "\r", " ", "\\", "'", "\x00", "😀", ""]
    for _ in range(200):
        rows = [
            ["".join(random_.choices(alphabet, k=random_.randrange(5))) for _ in range(3)]
            for _ in range(random_.randrange(1, 6))
        ]
        text = io.StringIO()
        quoting = random_.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        # Python quotes a carriage return only where lines end in one.
        end = random_.choice(["\n", "\r\n"]) if quoting == csv.QUOTE_ALL else "\r\n"
        csv.writer(text, quoting=quoting, lineterminator=end).writerows(rows)
        found = read(tmp_path, text.getvalue().encode(), Sizes(10_000, 10_000))
        assert [[value or "" for value in record.fields] for record in found] == rows
        assert not any(record.malformed for record in found)


def test_csv_records_fast_check_agrees_with_the_reader(tmp_path: Path) -> None:
    """What `verify` leaves to Spark has a record a line, none of them broken."""
    random_ = random.Random(5)
    alphabet = ['"', '""', ",", "\n", "\r\n", "\r", "a", "\x00"]
    plain = 0
    for _ in range(3_000):
        body = "".join(random_.choices(alphabet, k=random_.randrange(12)))
        path = lay(tmp_path, f"h,i\n{body}\n".encode())
        try:
            findings = verify.verify_file(path)
        except LandingError:
            continue
        if not findings.by_record:
            plain += 1
            found = list(records.csv_records(path, SIZES))
            assert not any(record.malformed for record in found), body
            assert [record.text for record in found] == path.read_bytes().decode().replace(
                "\r\n", "\n"
            ).split("\n")[:-1]
    assert plain > 100


def test_lines_of_any_length_are_read_in_bounded_pieces(tmp_path: Path) -> None:
    path = lay(tmp_path, b"\xef\xbb\xbf{}\n" + b"x" * 5_000 + b"\n\r\n[]\n", "jsonl")
    found = list(records.json_records(path, SIZES))
    assert [(record.number, record.text[:9], record.too_long) for record in found] == [
        (1, "{}", False),
        (2, "x" * 9, True),
        (3, "", False),
        (4, "[]", False),
    ]


def test_gzip_members_and_padding_are_read_and_rubbish_is_refused(tmp_path: Path) -> None:
    content = gzip.compress(b"1,2\n") + gzip.compress(b"") + gzip.compress(b"3,4\n")
    for padded in (content, content + bytes(1), content + bytes(700)):
        path = lay(tmp_path, padded, "csv.gz")
        assert [record.text for record in records.csv_records(path, SIZES)] == ["1,2", "3,4"]
        assert verify.verify_file(path).by_record
    assert not verify.verify_file(lay(tmp_path, gzip.compress(b"1,2\n3,4\n"), "csv.gz")).by_record
    assert verify.verify_file(lay(tmp_path, gzip.compress(b"1,2\n") + bytes(2), "csv.gz")).by_record
    for rubbish in (b"x", bytes(9) + b"x" * 40, b"1,2\n"):
        with pytest.raises(LandingError, match=r"part-0\.csv\.gz: truncated or corrupt gzip"):
            verify.verify_file(lay(tmp_path, content + rubbish, "csv.gz"))
