"""Kafka as one node that is broker and controller at once (KRaft, no ZooKeeper)."""

from __future__ import annotations

import shutil
import struct
from functools import partial
from pathlib import Path

from server_processes import Program, run_once

from server_kinds.recipe import Kind, Launcher, Recipe, Spot, says

READY_S = 90.0
_FORMAT_S = 60.0
_CLUSTER = "Z3B1ZHJvcC10ZXN0cy0xMQ"

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
"""


def _recipe(launcher: Launcher, spot: Spot) -> Recipe:
    java = shutil.which("java")
    if not java:
        raise RuntimeError("No java on PATH (Debian: apt-get install default-jre-headless).")
    folder, properties = spot.data_dir / "kafka", spot.data_dir / "server.properties"
    broker, controller = spot.ports
    text = _PROPERTIES.format(broker=broker, controller=controller, folder=folder)
    properties.write_text(text, encoding="utf-8")
    quick = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")
    jvm = (java, *quick, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{launcher.binary}/*")
    if not (folder / "meta.properties").exists():
        _format(jvm, properties)
    return Recipe(
        scheme="kafka",
        server=Program((*jvm, "kafka.Kafka", str(properties), *spot.arguments), spot.environment),
        answers=partial(says, broker, _metadata_request(), _has_broker),
        ready_s=READY_S,
    )


def _format(jvm: tuple[str, ...], properties: Path) -> None:
    tool = (*jvm, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(properties))
    run_once(tool, timeout_s=_FORMAT_S, what="Formatting Kafka's folder")


def _metadata_request() -> bytes:
    """Metadata, version 1, about no topic: the size, then what is asked."""
    client = b"ready"
    body = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    return struct.pack(">i", len(body)) + body


def _has_broker(answer: bytes) -> bool:
    """Whether the reply (size, correlation, brokers …) counts one: it does once the node takes part."""
    return len(answer) >= 12 and struct.unpack(">i", answer[8:12])[0] >= 1


KIND = Kind(ports=2, recipe=_recipe)
