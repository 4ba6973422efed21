"""Stores to export to: folders, and real servers that start once a session."""

from collections.abc import Iterator

import pytest

from tests.export import servers


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with servers.postgres_server(pgvector=False) as url:
        yield url


@pytest.fixture(scope="session")
def pgvector_url() -> Iterator[str]:
    with servers.postgres_server(pgvector=True) as url:
        yield url
