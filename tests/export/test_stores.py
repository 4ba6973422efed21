"""Addresses of stores: each opens its own, without a word of a password, or is refused."""

import sys
from pathlib import Path

import pytest

from microrec.config.settings import redacted, settings
from microrec.errors import BadArgument, MicrorecError
from microrec.export import stores
from microrec.export.files import Files


def test_open_store_opens_a_folder(tmp_path: Path) -> None:
    for form in ("parquet", "jsonl"):
        store = stores.open_store(f"{form}:{tmp_path}")
        assert isinstance(store, Files)
        assert (store.folder, store.form) == (tmp_path, form)


@pytest.mark.parametrize(
    "address", ["", "parquet:", "parquet:s3://bucket", "mysql://u:secret@h/d", "secret", "redis:x"]
)
def test_open_store_refuses_other_addresses_without_showing_them(address: str) -> None:
    with pytest.raises(BadArgument) as refused:
        stores.open_store(address)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "A", "x" * 32, 'x"; DROP', "a:b"])
def test_open_store_refuses_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="name"):
        stores.open_store(f"parquet:{tmp_path}", name)


@pytest.mark.parametrize(
    ("address", "module", "extra"),
    [
        ("redis://127.0.0.1:1/0", "redis", "microrec[redis]"),
        ("postgresql://127.0.0.1:1/x", "psycopg", "microrec[postgres]"),
    ],
)
def test_open_store_without_its_client_names_the_extra(
    address: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MicrorecError) as refused:
        stores.open_store(address)
    assert extra in str(refused.value)


def test_password_of_the_address_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROREC_EXPORT_TO", "redis://me:s%40cret-word@host:6379/0")
    settings.cache_clear()
    try:
        assert redacted("no s@cret-word and no s%40cret-word") == "no *** and no ***"
        assert "cret-word" not in repr(settings())
    finally:
        settings.cache_clear()
