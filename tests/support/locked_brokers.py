"""Brokers that ask who is there: over TLS, by a certificate and by user and password."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from listener.config.environment import SourceSecrets
from support.brokers import AmqpBench, Bench, KafkaBench, MqttBench, NatsBench
from support.certificates import Certificate, certificate
from support.servers import servers

LOGIN = SourceSecrets(user="listener", password="a-word-nobody-else-says")


@dataclass(frozen=True)
class Pki:
    """An authority, and what it signed for a server and for a client of it; `stranger` signed nothing."""

    authority: Certificate
    server: Certificate
    client: Certificate
    stranger: Certificate

    @classmethod
    def at(cls, folder: Path) -> Pki:
        authority = certificate(folder, "authority")
        server, client = (certificate(folder, name, authority=authority) for name in ("server", "client"))
        return cls(authority, server, client, certificate(folder, "stranger"))

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.cert_file))
        context.load_cert_chain(self.client.cert_file, self.client.key_file)
        return context


@dataclass(frozen=True)
class LockedPlace:
    """`section` is what config.yaml says of it, without `tls`; `bench`, the same place, for publishing there."""

    section: dict[str, str]
    bench: Bench
    login: SourceSecrets = LOGIN


Locked = Callable[[], LockedPlace]
"""A broker that runs: a fresh place on it."""


def locked_nats(start: Callable[..., Any], pki: Pki) -> Locked:
    shown = ("--tlsverify", "--tlscert", str(pki.server.cert_file), "--tlskey", str(pki.server.key_file))
    asked = ("--tlscacert", str(pki.authority.cert_file), "--user", LOGIN.user, "--pass", LOGIN.password)
    server = start("nats", arguments=(*shown, *asked))

    def place() -> LockedPlace:
        bench = NatsBench(server.host, secrets=LOGIN, tls=pki.context())
        return LockedPlace({"kind": "nats", "servers": f"tls://{server.host}", "stream": bench.name}, bench)

    return place


def locked_amqp(start: Callable[..., Any], pki: Pki) -> Locked:
    port = servers.free_ports(1)[0]
    files = f'{{cacertfile,"{pki.authority.cert_file}"}},{{certfile,"{pki.server.cert_file}"}}'
    options = f'[{files},{{keyfile,"{pki.server.key_file}"}},{{verify,verify_peer}},{{fail_if_no_peer_cert,true}}]'
    config = pki.server.cert_file.with_name("advanced.config")
    config.write_text(f'[{{rabbit,[{{ssl_listeners,[{{"127.0.0.1",{port}}}]}},{{ssl_options,{options}}}]}}].')
    server = start("rabbitmq", environment={"RABBITMQ_ADVANCED_CONFIG_FILE": str(config)})

    def place() -> LockedPlace:
        bench = AmqpBench(server.host)
        named = {"exchange": bench.name, "queue": bench.name}
        account = SourceSecrets(user="guest", password="guest")
        return LockedPlace({"kind": "amqp", "url": f"amqps://127.0.0.1:{port}", **named}, bench, account)

    return place


def locked_mqtt(start: Callable[..., Any], pki: Pki) -> Locked:
    port = servers.free_ports(1)[0]
    folder = pki.server.cert_file.parent
    passwords, config = folder / "passwords", folder / "locked.conf"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, LOGIN.user, LOGIN.password], check=True)
    files = f"cafile {pki.authority.cert_file}\ncertfile {pki.server.cert_file}\nkeyfile {pki.server.key_file}"
    login = f"allow_anonymous false\npassword_file {passwords}"
    config.write_text(f"{login}\nlistener {port} 127.0.0.1\n{files}\nrequire_certificate true\n")
    # Read after its usual settings.
    server = start("mosquitto", arguments=("-c", str(config)))

    def place() -> LockedPlace:
        bench = MqttBench(server.host, secrets=LOGIN)
        named = {"topic": bench.name, "client_id": bench.name}
        return LockedPlace({"kind": "mqtt", "url": f"mqtts://127.0.0.1:{port}", **named}, bench)

    return place


def locked_kafka(start: Callable[..., Any], pki: Pki) -> Locked:
    """Started twice: its address is among its settings."""
    server = start("kafka")
    locked = f"127.0.0.1:{servers.free_ports(1)[0]}"
    changes = _kafka_settings(server, locked, pki)
    arguments = tuple(part for each in changes.items() for part in ("--override", "=".join(each)))
    server.spot = replace(server.spot, arguments=arguments)
    servers.restart(server)
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    account = UserScramCredentialUpsertion(LOGIN.user, scram, LOGIN.password.encode())
    admin = AdminClient({"bootstrap.servers": server.host})
    admin.alter_user_scram_credentials([account])[LOGIN.user].result(30)

    def place() -> LockedPlace:
        bench = KafkaBench(server.host)
        named = {"topic": bench.name, "group": bench.name}
        security = {"security": "sasl_ssl", "sasl": "scram-sha-512"}
        return LockedPlace({"kind": "kafka", "servers": locked, **named, **security}, bench)

    return place


def _kafka_settings(server: Any, locked: str, pki: Pki) -> dict[str, str]:
    store = pki.server.cert_file.with_name("store.pem")
    store.write_bytes(pki.server.key_file.read_bytes() + pki.server.cert_file.read_bytes())
    places, modules = f"PLAINTEXT://{server.host},LOCKED://{locked}", "org.apache.kafka.common.security"
    plain = f'{modules}.plain.PlainLoginModule required user_{LOGIN.user}="{LOGIN.password}";'
    ours = {
        "plain.sasl.jaas.config": plain,
        "scram-sha-512.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(pki.authority.cert_file),
        "ssl.client.auth": "required",
    }
    return {
        "listeners": f"{places},CONTROLLER://127.0.0.1:{server.spot.ports[1]}",
        "advertised.listeners": places,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOCKED:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        **{f"listener.name.locked.{name}": value for name, value in ours.items()},
    }


LOCKS: dict[str, Callable[[Callable[..., Any], Pki], Locked]] = {
    "nats": locked_nats,
    "amqp": locked_amqp,
    "kafka": locked_kafka,
    "mqtt": locked_mqtt,
}
