"""Digests are compared with those stored by earlier nights: their values may not change."""

from microrec.core.digests import digest


def test_digest_of_two_texts_has_the_value_it_always_had() -> None:
    assert digest(["events", "videos"]) == "11076565f591235d"


def test_digest_other_order_or_other_cut_is_another_digest() -> None:
    assert len({digest(texts) for texts in (["a", "b"], ["b", "a"], ["ab"], ["a b"])}) == 4


def test_digest_more_digits_begins_with_the_fewer() -> None:
    long = digest(["events"], digits=64)
    assert len(long) == 64
    assert long.startswith(digest(["events"]))
