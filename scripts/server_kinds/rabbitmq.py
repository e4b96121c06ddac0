"""RabbitMQ with an epmd of its own, so that neither it nor Erlang's name service listens beyond 127.0.0.1."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from server_processes import Program

from server_kinds.recipe import Kind, Launcher, Recipe, Spot, says

READY_S = 90.0
_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
# A method frame on channel 0; then its size, then Connection.Start is class 10, method 10.
_METHOD_FRAME = b"\x01\x00\x00"
_CONNECTION_START = b"\x00\x0a\x00\x0a"

_CONFIG = """\
listeners.tcp.default = {address}
disk_free_limit.absolute = 50MB
log.console = true
log.file = false
"""


def _recipe(launcher: Launcher, spot: Spot) -> Recipe:
    epmd = shutil.which("epmd")
    if not epmd:
        raise RuntimeError("No epmd on PATH: it belongs to Erlang (Debian: apt-get install erlang-base).")
    home, node_port, epmd_port = spot.folder("rabbitmq"), str(spot.ports[1]), str(spot.ports[2])
    config = home / "rabbitmq.conf"
    config.write_text(_CONFIG.format(address=spot.address), encoding="utf-8")
    names = {"ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": epmd_port, "HOME": str(home)}
    server = Program(
        (launcher.program, "-noinput", *spot.arguments), _environment(spot, home, config, node_port, names)
    )
    return Recipe(
        scheme="amqp",
        beside=(Program((epmd, "-address", "127.0.0.1", "-port", epmd_port)),),
        server=server,
        answers=partial(says, spot.ports[0], _AMQP_HEADER, _is_start, at_most=11),
        # The account that every new RabbitMQ has, for clients on the same machine only.
        access_key="guest",
        secret_key="guest",
        ready_s=READY_S,
    )


def _environment(spot: Spot, home: Path, config: Path, node_port: str, names: dict[str, str]) -> dict[str, str]:
    nobody = home / "nothing"
    nobody.touch()
    return {
        **names,
        "RABBITMQ_NODENAME": f"gpudrop-{spot.ports[0]}@localhost",
        "RABBITMQ_DIST_PORT": node_port,
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_CONF_ENV_FILE": str(nobody),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        # The script becomes the server instead of watching over it: its pid is the server's.
        "RABBITMQ_ALLOW_INPUT": "1",
        **spot.environment,
    }


def _is_start(answer: bytes) -> bool:
    return answer.startswith(_METHOD_FRAME) and answer[7:11] == _CONNECTION_START


KIND = Kind(ports=3, recipe=_recipe)
