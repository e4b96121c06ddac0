"""Servers beside MinIO: one of each kind a session, or one of its own for a test. Started by the first that asks.

Each is a `scripts.servers.Server`: endpoint (URL), host (host:port), port, url (with keys), access_key, secret_key,
pid. `servers.stop`, `servers.kill` and `servers.restart` are for servers of a test's own; a session's server is shared.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.requirements import in_ci, require
from support.scripts import load_script

servers = load_script("servers")


def start_server(name: str, folder: Path, **options: Any) -> Any:
    """A server of its own for the caller, who stops it with `servers.stop`. Installed in CI, else used if there.

    `options` are those of `servers.start`: environment, arguments.
    """
    remedy = install_command(name)
    require(in_ci() or servers.find(name), f"No {name} server is installed.", remedy)
    try:
        return servers.start(name, folder, **options)
    except RuntimeError as e:
        require(False, f"No {name} server: {e}", remedy)
        raise


def install_command(name: str) -> str:
    return f"python scripts/servers.py install {name}"


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`own_server("nats", arguments=…)`: a server for this test alone, stopped at its end, restarted or not."""
    started: list[Any] = []

    def start(name: str, **options: Any) -> Any:
        started.append(start_server(name, tmp_path / f"server-{len(started)}-{name}", **options))
        return started[-1]

    yield start
    for server in started:
        servers.stop(server)


def _session(name: str, temporary: pytest.TempPathFactory) -> Iterator[Any]:
    server = start_server(name, temporary.mktemp(name))
    yield server
    servers.stop(server)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """nats://host:port with JetStream, its streams on disk."""
    yield from _session("nats", tmp_path_factory)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """redis://host:port; every write is on disk before it is answered."""
    yield from _session("redis", tmp_path_factory)


@pytest.fixture(scope="session")
def mosquitto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """mqtt://host:port; sessions and queued messages are on disk a tenth of a second after each change."""
    yield from _session("mosquitto", tmp_path_factory)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """S3, SQS and SNS at one http://host:port, in memory. Takes any keys; access_key and secret_key are some."""
    yield from _session("moto", tmp_path_factory)


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """amqp://host:port; `url` has its account guest. Takes about ten seconds to start."""
    yield from _session("rabbitmq", tmp_path_factory)


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One node; clients take `host`. Takes about ten seconds to start."""
    yield from _session("kafka", tmp_path_factory)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """postgresql://host:port; `url` has its superuser. A test takes a database of its own: `postgres_url`."""
    yield from _session("postgres", tmp_path_factory)


@pytest.fixture
def postgres_url(postgres_server: Any) -> str:
    """postgresql://user:password@host:port/name of a fresh, empty database."""
    return create_database(postgres_server)


def create_database(server: Any, encoding: str = "") -> str:
    """A fresh database on a PostgreSQL server, as the URL to reach it with. It goes when the server's folder goes."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"{server.url}/postgres", autocommit=True, connect_timeout=30) as connection:
        spelled = f" ENCODING '{encoding}' LOCALE 'C'" if encoding else ""
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0{spelled}".encode())
    return f"{server.url}/{name}"


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """S3 at http://host:port with access_key and secret_key."""
    yield from _session("seaweedfs", tmp_path_factory)


@pytest.fixture(scope="session")
def versitygw_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """S3 at http://host:port with access_key and secret_key; it tells nobody of its events."""
    yield from _session("versitygw", tmp_path_factory)


@pytest.fixture
def start_versitygw(own_server: Callable[..., Any]) -> Callable[..., Any]:
    """`start_versitygw("--event-webhook-url", url)`: a VersityGW for this test. Receivers of its events must be up."""

    def start(*arguments: str, **options: Any) -> Any:
        return own_server("versitygw", arguments=arguments, **options)

    return start
