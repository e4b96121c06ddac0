"""The servers that can be started, by name. Part of servers.py; standard library only."""

from __future__ import annotations

from server_kinds import brokers, kafka, minio, postgres, rabbitmq, stores
from server_kinds.recipe import Kind

KINDS: dict[str, Kind] = {
    "minio": minio.KIND,
    "minio-head": minio.KIND,
    "nats": brokers.NATS,
    "redis": brokers.REDIS,
    "mosquitto": brokers.MOSQUITTO,
    "rabbitmq": rabbitmq.KIND,
    "postgres": postgres.KIND,
    "kafka": kafka.KIND,
    "versitygw": stores.VERSITYGW,
    "seaweedfs": stores.SEAWEEDFS,
    "moto": stores.MOTO,
}
