"""N-grams of captions: by script, with emoji, without people's names and addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.features import tokens


def grams(caption: str | None, tags: list[str] | None = None) -> list[str]:
    return list(tokens.grams(caption, tags))


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (None, []),
        ("", []),
        ("  \t", []),
        ("12 1999 ٣", []),
        ("a cat", ["word a", "word cat"]),
        ("Cats", ["word cats", "<ca", "cat", "ats", "ts>"]),
        ("don't", ["word don't", "<do", "don", "on'", "n't", "'t>"]),
        ("'ok'", ["word ok"]),
        ("猫咪", ["猫", "咪", "猫咪"]),
        ("แมว", ["แ", "ม", "ว", "แม", "มว"]),
        ("ab猫cd", ["word ab", "猫", "word cd"]),
        ("고양이", ["word 고양이"]),
        ("🐱", ["🐱"]),
        ("👍🏽👍", ["👍", "👍"]),
        ("❤️", ["❤"]),
        ("@anna.b und ben", ["word und", "word ben"]),
        ("see https://x.yz/a?b=1 now", ["word see", "word now"]),
        ("#Tee", ["word tee"]),
    ],
)
def test_grams_of_a_caption_are_those_of_its_scripts(
    caption: str | None, expected: list[str]
) -> None:
    assert grams(caption) == expected


def test_grams_full_width_and_composed_letters_equal_plain_ones() -> None:
    assert grams("\uff23\uff41\uff46e\u0301") == grams("caf\u00e9")
    assert grams("STRASSE") == grams("straße")


def test_grams_of_a_tag_are_the_whole_and_its_words() -> None:
    assert grams(None, ["#cat food"]) == [
        "tag cat food", "word cat", "word food", "<fo", "foo", "ood", "od>",
    ]  # fmt: skip
    assert grams(None, ["", " # "]) == []


def test_long_captions_and_many_tags_are_cut() -> None:
    assert len(grams("ab " * 10_000)) <= tokens.MOST_CHARACTERS
    assert len(grams(None, [f"x{n}" for n in range(1_000)])) <= 2 * tokens.MOST_TAGS


@given(st.text(), st.lists(st.text(), max_size=3))
def test_buckets_of_any_text_are_counts_within_bounds(caption: str, tags: list[str]) -> None:
    counted = tokens.buckets(caption, tags)
    assert counted.total() == len(grams(caption, tags))
    assert all(0 <= number < tokens.N_BUCKETS for number in counted)


def test_buckets_are_the_same_on_every_machine() -> None:
    assert tokens.buckets("cat", None) == {799_535: 1}
