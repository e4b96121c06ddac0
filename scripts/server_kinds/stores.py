"""Object stores beside MinIO: VersityGW, SeaweedFS, and moto for S3 with SQS and SNS."""

from __future__ import annotations

import atexit
import json
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from server_processes import Program

from server_kinds.recipe import Kind, Launcher, Recipe, Spot, http_ok

_SEAWEED_READY_S = 60.0


def _moto(launcher: Launcher, spot: Spot) -> Recipe:
    """Everything in memory: a restart begins empty. It takes any keys, so these are no secret."""
    argv = (launcher.program, "-H", "127.0.0.1", "-p", str(spot.ports[0]), *spot.arguments)
    return Recipe(
        scheme="http",
        server=Program(argv, spot.environment),
        answers=partial(http_ok, f"http://{spot.address}/moto-api/data.json"),
        access_key=spot.access_key,
        secret_key=spot.secret_key,
    )


def _versitygw(launcher: Launcher, spot: Spot) -> Recipe:
    """Keeps objects as files. `arguments` are its global ones, such as --event-webhook-url."""
    place = ("--port", spot.address, "--health", "/health", "--quiet")
    # Metadata in files: not every file system of a temporary folder has extended attributes.
    backend = ("posix", "--sidecar", str(spot.folder("metadata")), str(spot.folder("objects")))
    keys = {"ROOT_ACCESS_KEY": spot.access_key, "ROOT_SECRET_KEY": spot.secret_key}
    return Recipe(
        scheme="http",
        server=Program((launcher.program, *place, *spot.arguments, *backend), {**spot.environment, **keys}),
        answers=partial(http_ok, f"http://{spot.address}/health"),
        access_key=spot.access_key,
        secret_key=spot.secret_key,
    )


def _seaweedfs(launcher: Launcher, spot: Spot) -> Recipe:
    """Master, volume, filer and S3 gateway in one process."""
    s3, master, *others = spot.ports
    identity = {"accessKey": spot.access_key, "secretKey": spot.secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    keys = {"identities": [{"name": "tests", "credentials": [identity], "actions": actions}]}
    config = spot.data_dir / "s3.json"
    config.write_text(json.dumps(keys), encoding="utf-8")
    names = ("volume.port", "filer.port", "s3.port.grpc", "master.port.grpc", "volume.port.grpc", "filer.port.grpc")
    ports = dict(zip(("s3.port", "master.port", *names), (s3, master, *others), strict=True))
    places = (f"-dir={spot.folder('seaweedfs')}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={config}")
    plain = ("-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0")
    # Alone it has nobody to wait for, neither as a new leader nor when it goes.
    small = ("-master.volumeSizeLimitMB=64", "-volume.max=50", "-master.electionTimeout=1s", "-volume.preStopSeconds=0")
    given = (f"-{name}={port}" for name, port in ports.items())
    argv = (launcher.program, "-logtostderr=true", "server", "-s3", *places, *plain, *small, *given)

    atexit.register(_remove_sockets, ports)

    def answers() -> bool:
        # The master assigns a place only once the volumes are known to it.
        healthy = http_ok(f"http://{spot.address}/healthz")
        return healthy and http_ok(f"http://127.0.0.1:{master}/dir/assign", lambda body: b'"fid"' in body)

    return Recipe(
        scheme="http",
        # Asked to end it waits 15 s for its own parts. What it has acknowledged is on disk.
        server=Program((*argv, *spot.arguments), spot.environment, end_signal=signal.SIGKILL),
        answers=answers,
        access_key=spot.access_key,
        secret_key=spot.secret_key,
        ready_s=_SEAWEED_READY_S,
    )


def _remove_sockets(ports: Mapping[str, int]) -> None:
    """It puts them into /tmp whatever it is told, and leaves them there."""
    for name, port in ports.items():
        role, _, grpc = name.partition(".port")
        Path(f"/tmp/seaweedfs-{role}{grpc.replace('.', '-')}-{port}.sock").unlink(missing_ok=True)


MOTO = Kind(ports=1, recipe=_moto)
VERSITYGW = Kind(ports=1, recipe=_versitygw)
SEAWEEDFS = Kind(ports=8, recipe=_seaweedfs)
