"""NATS with JetStream, Redis and Mosquitto. What they were told survives a kill; Mosquitto saves up to 0.1 s late.

Redis appends every write; tests wait for Mosquitto's file.
"""

from __future__ import annotations

from functools import partial

from server_processes import Program

from server_kinds.recipe import Kind, Launcher, Recipe, Spot, says

# CONNECT of MQTT 3.1.1: clean session, keep-alive 60 s, client identifier "ready".
_MQTT_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05ready"
_MQTT_CONNACK = 0x20

_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 0
log_dest stderr
{user}
"""


def _nats(launcher: Launcher, spot: Spot) -> Recipe:
    place = ("-a", "127.0.0.1", "-p", str(spot.ports[0]), "-js", "-sd", str(spot.folder("jetstream")))
    return Recipe(
        scheme="nats",
        server=Program((launcher.program, *place, *spot.arguments), spot.environment),
        answers=partial(says, spot.ports[0], b"", lambda answer: answer.startswith(b"INFO {")),
    )


def _redis(launcher: Launcher, spot: Spot) -> Recipe:
    place = ("--bind", "127.0.0.1", "--port", str(spot.ports[0]), "--dir", str(spot.folder("redis")))
    kept = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no")
    return Recipe(
        scheme="redis",
        server=Program((launcher.program, *place, *kept, *spot.arguments), spot.environment),
        # With a password asked for, the refusal is an answer as well.
        answers=partial(says, spot.ports[0], b"PING\r\n", lambda answer: answer.startswith((b"+PONG", b"-NOAUTH"))),
    )


def _mosquitto(launcher: Launcher, spot: Spot) -> Recipe:
    config = spot.data_dir / "mosquitto.conf"
    # As root it would change to an account that cannot enter the folder.
    text = _MOSQUITTO.format(port=spot.ports[0], folder=spot.folder("mosquitto"), user="user root")
    config.write_text(text, encoding="utf-8")
    return Recipe(
        scheme="mqtt",
        server=Program((launcher.program, "-c", str(config), *spot.arguments), spot.environment),
        answers=partial(says, spot.ports[0], _MQTT_CONNECT, lambda answer: answer[:1] == bytes([_MQTT_CONNACK])),
    )


NATS = Kind(ports=1, recipe=_nats)
REDIS = Kind(ports=1, recipe=_redis)
MOSQUITTO = Kind(ports=1, recipe=_mosquitto)
