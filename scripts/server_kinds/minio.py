"""MinIO: a binary, or a container of the same release."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from server_processes import Program

from server_kinds.recipe import Kind, Launcher, Recipe, Spot, http_ok


def _recipe(launcher: Launcher, spot: Spot) -> Recipe:
    keys = {"MINIO_ROOT_USER": spot.access_key, "MINIO_ROOT_PASSWORD": spot.secret_key}
    environment = {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off", **spot.environment, **keys}
    objects = spot.folder("objects")
    argv = _in_container(launcher, spot, objects, environment) if launcher.image else _on_host(launcher, spot, objects)
    scheme = "https" if spot.certs_dir else "http"
    return Recipe(
        scheme=scheme,
        server=Program(tuple(argv), environment),
        answers=partial(http_ok, f"{scheme}://{spot.address}/minio/health/live"),
        access_key=spot.access_key,
        secret_key=spot.secret_key,
    )


def _addresses(spot: Spot) -> list[str]:
    return ["--address", spot.address, "--console-address", f"127.0.0.1:{spot.ports[1]}", *spot.arguments]


def _on_host(launcher: Launcher, spot: Spot, objects: Path) -> list[str]:
    certs = ["--certs-dir", str(spot.certs_dir)] if spot.certs_dir else []
    return [launcher.program, "server", *certs, *_addresses(spot), str(objects)]


def _in_container(launcher: Launcher, spot: Spot, objects: Path, environment: dict[str, str]) -> list[str]:
    # The container shares the host's network, so that it reaches receivers of events on 127.0.0.1.
    mounts = ["-v", f"{objects}:/data"] + (["-v", f"{spot.certs_dir}:/certs:ro"] if spot.certs_dir else [])
    names = [part for name in environment for part in ("-e", name)]
    user = ["--user", f"{os.getuid()}:{os.getgid()}"] if hasattr(os, "getuid") else []
    certs = ["--certs-dir", "/certs" if spot.certs_dir else "/tmp/certs"]
    head = ["docker", "run", "--rm", "--init", "--network", "host"]
    return [*head, *user, *names, *mounts, launcher.image, "server", *certs, *_addresses(spot), "/data"]


KIND = Kind(ports=2, recipe=_recipe)
