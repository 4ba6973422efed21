"""Pseudonyms: the same for the same id and key, and the key is kept where only its owner reads it."""

import stat
from pathlib import Path

import pytest

from microrec.config.settings import settings
from microrec.errors import BadArgument
from microrec.privacy import subjects
from microrec.privacy.subjects import Subjects


def test_subject_is_the_hmac_of_rfc_4231() -> None:
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert Subjects(b"Jefe").of("what do ya want for nothing?") == expected


def test_open_key_of_the_settings_stands_above_all(place: Path) -> None:
    assert Subjects.open(str(place)).key == b"a key that tests share"
    assert not (place / subjects.KEY_FILE).exists()


def test_open_without_a_key_draws_one_and_keeps_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MICROREC_PRIVACY_KEY")
    settings.cache_clear()
    first = Subjects.open(str(place / "one"))
    assert Subjects.open(str(place / "one")) == first
    assert Subjects.open(str(place / "other")).of("u1") != first.of("u1")
    mode = (place / "one" / subjects.KEY_FILE).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert [path.name for path in (place / "one").iterdir()] == [subjects.KEY_FILE]


def test_open_refuses_a_short_key_and_a_store_without_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROREC_PRIVACY_KEY", "short")
    settings.cache_clear()
    with pytest.raises(BadArgument, match="5 characters, at least 16"):
        Subjects.open(str(place))
    monkeypatch.delenv("MICROREC_PRIVACY_KEY")
    settings.cache_clear()
    with pytest.raises(BadArgument, match="in an object store keeps no key"):
        Subjects.open("s3://bucket/warehouse")


def test_key_is_shown_nowhere() -> None:
    assert "secret key of mine" not in repr(Subjects(b"secret key of mine"))
    assert "a key that tests share" in settings().secrets
