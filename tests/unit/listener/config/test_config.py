"""config.yaml: what it means, and how its mistakes are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from gpu_dispatch.task import MAX_INPUT_BYTES
from gpu_dispatch.transfer.limits import TransferBudget
from listener.app.base import defaults_folders
from listener.config.config import Config
from listener.config.environment import read_environment
from listener.config.loader import load_config, parse_config
from listener.config.triggers import triggers_of
from listener.run_request import RunRequest
from listener.runs.manifests import ResolvedManifest
from listener.triggers.triggers import MANIFESTS
from manifests.defaults import EVERY_FOLDER, DefaultsFolder, DefaultsFolders
from manifests.errors import ConfigError, InputTooLarge
from manifests.references import Reach
from support.scripts import ROOT


def test_the_projects_own_configuration() -> None:
    config = load_config(ROOT / "config.yaml")
    assert [t.name for t in triggers_of(config)] == ["manifests", "audio", "audios-folder"]
    assert config.store.kind == "folder"


def test_an_empty_configuration_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# nothing yet\n")
    assert load_config(path) == Config().read_from(path)
    assert load_config(path).file == path


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10.0), (1.5, 1.5), ("250ms", 0.25), ("2m", 120.0), ("1.5h", 5400.0), ("1d", 86400.0)]
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_config({"reconcile": {"interval": text}}, origin="c").reconcile.interval == seconds


@pytest.mark.parametrize(
    ("text", "size"), [(10, 10), ("10", 10), ("1.5KiB", 1536), ("500MB", 500_000_000), ("20GiB", MAX_INPUT_BYTES)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_config({"task_max_input": text}, origin="c").task_max_input == size


def test_hints_name_settings_that_exist() -> None:
    """Those that a worker's errors name as code."""
    with pytest.raises(InputTooLarge) as caught:
        TransferBudget(1).check(2, "audio")
    assert "`task_max_input` in config.yaml" in caught.value.info.hint
    named = {
        name.replace("{capability}", "whisper")
        for file in (ROOT / "gpu_dispatch").rglob("*.py")
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_{}]+)*)` (?:at least 1 )?in config\.yaml", file.read_text("utf-8"))
    }
    assert {"task_max_input", "task_timeout", "local.whisper_slots"} <= named
    of_endpoints = {"id", "capabilities", "deploy"}
    for name in named - of_endpoints:
        section: Any = Config()
        for part in name.split("."):
            section = getattr(section, part)


S3 = {"kind": "s3", "endpoint": "http://127.0.0.1:9000", "buckets": ["drop"]}
AMQP = {"kind": "amqp", "url": "amqp://rabbit"}
KAFKA = {"kind": "kafka", "servers": "kafka:9092", "topic": "drops"}
TRIGGER = {"name": "t", "manifest": {"operation": "transcribe"}}


@pytest.mark.parametrize(
    ("data", "where", "words"),
    [
        ({"stor": {}}, "stor", "did you mean 'store'"),
        ({"store": {**S3, "bucket": ["a"]}}, "store.bucket", "did you mean 'buckets'"),
        ({"store": {**S3, "endpoint": "minio:9000"}}, "store.endpoint", ""),
        ({"store": {"kind": "ftp"}}, "store", "ftp"),
        ({"store": {"kind": "s3", "endpoint": "http://a"}}, "store.buckets", "required"),
        ({"triggers": [{**TRIGGER, "patern": "*"}]}, "triggers[0].patern", "did you mean 'pattern'"),
        ({"triggers": [TRIGGER, TRIGGER]}, "", "two triggers are named 't'"),
        ({"local": {"whisper_slots": -1}}, "local.whisper_slots", ""),
        ({"reconcile": {"interval": "soon"}}, "reconcile.interval", ""),
        ({"sources": [{**AMQP, "tls": {"ca_file": "ca.pem"}}]}, "sources[0]", "begin it with amqps://"),
        ({"sources": [{**KAFKA, "tls": {"ca_file": "ca.pem"}}]}, "sources[0]", "make it ssl or sasl_ssl"),
        ({"sources": [{**AMQP, "tls": {"key_file": "k.pem"}}]}, "sources[0].tls", "set both"),
        ({"manifests": {"also": ["shared/"]}}, "manifests", "scope: folder"),
        ({"manifests": {"scope": "folder", "folders": ["a/../b"]}}, "manifests.folders[0]", "'..' segment"),
        ({"manifests": {"scope": "folder", "also": ["s3://a_/x"]}}, "manifests.also[0]", "no bucket"),
        ({"defaults_from": [{"folder": "a//b"}]}, "defaults_from[0].folder", "empty segment"),
        ({"defaults_from": ["a/"]}, "defaults_from[0]", ""),
        ([], "c.yaml", "named sections"),
    ],
)
def test_mistakes_are_named(data: Any, where: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(data, origin="c.yaml")
    assert raised.value.info.where == where
    assert words in str(raised.value)


@pytest.mark.parametrize("text", ["a: [", "\t- x", "{", "a: " + "[" * 900 + "]" * 900, "a: " + "[" * 50_000])
def test_what_is_no_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_config(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration"):
        load_config(tmp_path / "none.yaml")


def test_secrets_come_from_the_environment_and_are_not_shown() -> None:
    found = read_environment({"AWS_ACCESS_KEY_ID": "id", "GPUDROP_S3_SECRET_KEY": "hush", "AWS_SECRET_ACCESS_KEY": "x"})
    keys = found.keys.current()
    assert (keys.access_key, keys.secret_key) == ("id", "hush")
    assert "hush" not in repr((found, keys))


def test_folders_however_they_are_written() -> None:
    manifests = {"scope": "folder", "folders": ["*/", "/a/b", "/"], "also": ["c", "s3://music/free", "s3://music"]}
    config = parse_config({"manifests": manifests, "defaults_from": [{"folder": "/"}]}, origin="c")
    reach = Reach("folder", ("*/", "a/b/", ""), ("c/", "s3://music/free/", "s3://music/"))
    assert {trigger.reach for trigger in triggers_of(config)} == {reach}
    assert defaults_folders(config) == DefaultsFolders((DefaultsFolder(""),))
    assert defaults_folders(Config()) == EVERY_FOLDER
    assert defaults_folders(parse_config({"defaults_from": []}, origin="c")) == DefaultsFolders(())


def test_a_run_recorded_before_drops_had_a_reach() -> None:
    request = RunRequest("r", "b", "a.job.json", "v", MANIFESTS, 1.0, 1.0, "test")
    kind: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)
    recorded = kind.dump_python(request, mode="json")
    assert kind.validate_python(recorded) == request
    del recorded["trigger"]["reach"]
    assert kind.validate_python(recorded) == request
    asked = {"operation": "transcribe", "fields": {}, "text": None}
    assert TypeAdapter(ResolvedManifest).validate_python(asked).operators == ()
