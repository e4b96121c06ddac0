"""Kinds of sources by their entry points: found by name, loaded when the configuration names one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import yaml

from listener.config.environment import SourceSecrets
from listener.config.loader import parse_config
from listener.config.source_kinds import SourceKind, SourceSettings, source_kinds, source_registry
from listener.config.sources import CORE
from listener.events.event import ObjectCreated
from listener.sources.base import EventSource, Inbox
from manifests.errors import ConfigError
from support.entry_points import Point
from support.sources import Recorder, running

BROKERS = ("amqp", "kafka", "mqtt", "nats", "redis")
STORE = {"kind": "s3", "endpoint": "http://127.0.0.1:9000", "buckets": ["drop"]}
REDIS = {"kind": "redis", "url": "redis://h:6379", "key": "events"}


class PigeonSettings(SourceSettings, frozen=True):
    kind: Literal["pigeon"]
    loft: str


class Pigeons:
    exclusive = True

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, inbox: Inbox) -> None:
        await inbox.accept([ObjectCreated("drop", "letter.mp3", self.name)])
        await asyncio.Event().wait()


def build(settings: PigeonSettings, _: SourceSecrets) -> EventSource:
    return Pigeons(settings.loft)


async def check(settings: PigeonSettings, _: SourceSecrets) -> str:
    return f"{settings.loft} is open"


PIGEON = SourceKind("pigeon", PigeonSettings, build, check)


def test_every_broker_is_one() -> None:
    assert source_kinds().names == BROKERS
    assert [source_kinds().get(name).name for name in BROKERS] == list(BROKERS)


def test_none_has_the_name_of_one_of_the_core() -> None:
    assert CORE.keys().isdisjoint(source_kinds().names)


async def test_a_package_adds_one() -> None:
    kind = source_registry(lambda: [Point("pigeon", PIGEON)]).get("pigeon")
    settings = kind.settings.model_validate({"kind": "pigeon", "loft": "roof"})
    source, inbox = kind.build(settings, SourceSecrets()), Recorder()
    assert (settings.named, source.name) == ("pigeon", "roof")
    assert await kind.check(settings, SourceSecrets()) == "roof is open"
    async with running(inbox, source):
        await inbox.until(lambda: inbox.created["letter.mp3"])


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([Point("pigeon", ImportError("no such module"))], "no such module"),
        ([Point("pigeon", object)], "it is no SourceKind"),
        ([Point("dove", PIGEON)], "it calls itself 'pigeon'"),
        ([Point("pigeon", PIGEON), Point("pigeon", replace(PIGEON), "second:thing")], "second:thing"),
        ([], "There is no source"),
    ],
)
def test_one_that_cannot_be_used_says_why(points: list[Point], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        source_registry(lambda: points).get(points[0].name if points else "pigeon")


def test_names_are_known_without_loading() -> None:
    kinds = source_registry(lambda: [Point("pigeon", ImportError("loaded"))])
    assert kinds.names == ("pigeon",) and kinds.find("dove") is None


def test_an_unknown_kind_is_told_with_all_there_are() -> None:
    known = "there is no such source; there are folder, reconcile, minio, webhook, sqs, amqp, kafka, mqtt, nats, redis"
    for wrong in ("klingon", {"kind": 3}, {}, 7):
        with pytest.raises(ConfigError) as refused:
            parse_config({"store": STORE, "sources": [wrong]}, origin="c")
        assert str(refused.value) == f"c: sources[0]: {known}"


def test_a_wrong_name_is_told_with_the_nearest_of_its_kind() -> None:
    with pytest.raises(ConfigError, match=r"sources\[0\]\.keey: unknown name, did you mean 'key'"):
        parse_config({"store": STORE, "sources": [{**REDIS, "keey": "x"}]}, origin="c")


def test_only_what_is_configured_is_loaded(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nimport listener.app.sources, listener.cli.check_sources\n"
        "from listener.config.loader import load_config\n"
        "print(load_config(Path(sys.argv[1])).sources[0].kind)\n"
        "print([name for name in sorted(sys.modules) if 'brokers' in name or name in ('nats', 'redis', 'aiormq')])"
    )
    loaded: list[str] = []
    for source in ({"kind": "webhook"}, REDIS):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"store": STORE, "sources": [source]}))
        run = [sys.executable, "-c", script, str(tmp_path / "config.yaml")]
        loaded += subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    room = "listener.sources.brokers"
    assert loaded == ["webhook", "[]", "redis", str([room, f"{room}.kinds", f"{room}.settings"])]
