"""`gpudrop check`: one line for each thing a run depends on, with a remedy for each problem."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text

from gpu_dispatch.local.cgroups import find
from gpu_dispatch.local.sandbox import sandbox_problem
from handlers.registry import load_registry
from listener.app.base import build_store, callback_settings, defaults_folders, defaults_of
from listener.app.endpoints import build_local
from listener.cli.check_lines import CheckLine, endpoint_lines, limits_line, problem_line, secret_line, state_line
from listener.cli.check_models import model_lines, model_problems
from listener.cli.check_sources import listing_lines, source_lines
from listener.cli.output import Terminal
from listener.config.config import Config, FolderStoreConfig, S3StoreConfig
from listener.config.endpoints import LocalEndpointConfig, RunPodEndpointConfig
from listener.config.environment import Environment
from listener.config.loader import load_config
from listener.config.triggers import triggers_of
from listener.installation_secret import operators_secret
from listener.runs.manifests import check_templates
from listener.speech_models import speech_models
from listener.stores.base import Store
from manifests.defaults import check_folder_defaults, read_defaults
from manifests.errors import GpuDropError, LinksUnsafe
from manifests.names import DEFAULTS_NAME
from manifests.syntax import MAX_BYTES

REPORT_S = 60.0
"""Seconds that the import of every engine may take on a cold machine."""


async def check_all(config_file: Path, environment: Environment) -> int:
    """Prints every line as soon as it is known; returns 1 when one of them is bad."""
    console = Terminal()
    bad = 0
    async for line in _lines(config_file, environment):
        bad += line.ok is False
        mark, style = {True: ("ok  ", "green"), False: ("BAD ", "red"), None: ("note", "yellow")}[line.ok]
        console.print(Text(mark, style), end=" ")
        console.print(f"{line.subject}: {line.detail}", soft_wrap=True)
        if line.remedy and line.ok is not True:
            console.print(f"     -> {line.remedy}", soft_wrap=True)
    return 1 if bad else 0


async def _lines(config_file: Path, environment: Environment) -> AsyncGenerator[CheckLine]:
    try:
        config = load_config(config_file)
        _try_templates(config)
    except GpuDropError as e:
        yield problem_line("configuration", e)
        return
    yield CheckLine("configuration", True, f"{config_file}: {len(config.triggers)} triggers")
    yield await asyncio.to_thread(state_line, config)
    try:
        callback_settings(config, environment)
    except GpuDropError as e:
        yield problem_line("callbacks", e)
    try:
        operators_secret(environment)
    except GpuDropError as e:
        yield problem_line("secret", e)
    operations = load_registry().models
    for line in model_problems(config, speech_models(config, environment), operations, defaults_of(config, operations)):
        yield line
    for problem in load_registry().problems:
        yield CheckLine("handlers", False, problem.message, problem.hint)
    async for line in _store_lines(config, environment):
        yield line
    async for line in source_lines(config, environment):
        yield line
    for line in listing_lines(config):
        yield line
    async for line in endpoint_lines(config, environment):
        yield line
    async for line in _worker_lines(config, environment):
        yield line


def _try_templates(config: Config) -> None:
    models = load_registry().models
    check_templates(triggers_of(config), models, (defaults_of(config, models),))


async def _store_lines(config: Config, environment: Environment) -> AsyncGenerator[CheckLine]:
    if isinstance(config.store, FolderStoreConfig):
        await asyncio.to_thread(config.store.root.mkdir, parents=True, exist_ok=True)
    try:
        store = build_store(config, environment)
    except GpuDropError as e:
        yield problem_line("store", e)
        return
    try:
        problems = await store.check()
        for bucket in problems if "*" in problems else await store.find_buckets():
            problem = problems.get(bucket, "")
            yield CheckLine(f"store: {bucket}", not problem, problem or "can be read, listed and written")
            if not problem and (refused := await _defaults_line(store, bucket, config)):
                yield refused
            if not problem and _is_remote(config):
                yield await _claims_line(store, bucket)
                yield await _links_line(store, bucket, trusted=config.store.trust_workers)
        if not problems and _is_remote(config) and isinstance(config.store, S3StoreConfig):
            yield await secret_line(store, environment)
    finally:
        await store.close()


def _is_remote(config: Config) -> bool:
    """Whether tasks go to paid workers, which reach the store by links."""
    return any(isinstance(endpoint, RunPodEndpointConfig) for endpoint in config.endpoints)


async def _defaults_line(store: Store, bucket: str, config: Config) -> CheckLine | None:
    """Returns the error in the bucket's own `_gpudrop.yaml`; None without one."""
    folders = defaults_folders(config)
    if not folders.count(bucket, DEFAULTS_NAME):
        return None
    try:
        data = await store.read(bucket, DEFAULTS_NAME, max_bytes=MAX_BYTES)
        if data is not None:
            document = await asyncio.to_thread(read_defaults, data, DEFAULTS_NAME, models=load_registry().models)
            addresses = folders.may_address(bucket, DEFAULTS_NAME)
            check_folder_defaults(document, DEFAULTS_NAME, addresses=addresses)
    except GpuDropError as e:
        return problem_line(f"defaults: {bucket}", e)
    return None


async def _claims_line(store: Store, bucket: str) -> CheckLine:
    """Checks whether the store lets only one of two workers claim the same attempt."""
    subject = f"claims: {bucket}"
    try:
        kept = await store.creates_atomically(bucket)
    except GpuDropError as e:
        return problem_line(subject, e)
    if kept:
        return CheckLine(subject, True, "the store refuses the second of two writes, so no task is done twice")
    detail = "the store ignores If-None-Match: two workers that begin one task in the same instant may both do it"
    return CheckLine(subject, None, detail, "Use a store or a version that honours conditional writes.")


async def _links_line(store: Store, bucket: str, *, trusted: bool) -> CheckLine:
    """Checks what a worker could do with its job's links beyond its job, by trying it as a hostile worker would."""
    subject = f"links: {bucket}"
    try:
        found = await store.probe_links(bucket)
    except GpuDropError as e:
        return problem_line(subject, e)
    if found.safe:
        return CheckLine(subject, True, found.detail)
    if trusted:
        return CheckLine(subject, None, f"{found.detail} (store.trust_workers is set)", found.remedy)
    consequence = f"no task goes to RunPod ({LinksUnsafe.code})"
    return CheckLine(subject, False, f"{found.detail}; {consequence}", found.remedy)


async def _worker_lines(config: Config, environment: Environment) -> AsyncGenerator[CheckLine]:
    """Yields what this machine can do; nothing where no task runs on it."""
    here = [endpoint for endpoint in config.endpoints if isinstance(endpoint, LocalEndpointConfig)]
    if not here:
        return
    for endpoint in here:
        for health in await build_local(config, environment, os.environ, endpoint.name).health():
            yield CheckLine(f"endpoint: {health.name}", health.ok, health.detail, health.remedy)
    yield limits_line(await asyncio.to_thread(partial(find, prepare=False)))
    if config.local.sandbox == "bubblewrap":
        why = await asyncio.to_thread(sandbox_problem)
        remedy = "Install the package bubblewrap, allow user namespaces, or set local.sandbox to none."
        yield CheckLine("sandbox", not why, why or "workers run in bubblewrap", remedy)
    directory = environment.model_dir or config.local.model_dir
    options = ("--model-dir", str(directory)) if directory else ()
    speech, video = await asyncio.gather(
        _report("gpu_dispatch.worker.speech.report", *options), _report("gpu_dispatch.worker.video.report")
    )
    operations = load_registry().models
    named = model_lines(
        config,
        speech_models(config, environment),
        operations,
        defaults_of(config, operations),
        speech.get("engines", ()),
    )
    for line in (*_speech_lines(speech, directory), *named, *_video_lines(video)):
        yield line


async def _report(module: str, *options: str) -> dict[str, Any]:
    """Returns the worker's own report, the JSON of its last line; a document with "error" where there is none."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), REPORT_S)
    except TimeoutError:
        return {"error": f"no answer within {REPORT_S:.0f} s"}
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    lines = out.decode("utf-8", "replace").strip().splitlines()
    if process.returncode or not lines:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it ended without a word"]
        return {"error": last[0]}
    return json.loads(lines[-1])


def _speech_lines(found: dict[str, Any], directory: Path | None) -> list[CheckLine]:
    if "error" in found:
        return [CheckLine("speech", False, found["error"], "Reinstall gpudrop.")]
    lines = [_engine_line(engine, directory) for engine in found["engines"]]
    if not any(engine["installed"] and not engine["problem"] for engine in found["engines"]):
        lines.append(CheckLine("speech", False, "no engine works", "pip install --force-reinstall gpudrop"))
    return lines


def _engine_line(engine: dict[str, Any], directory: Path | None) -> CheckLine:
    subject = f"engine: {engine['name']}"
    if not engine["installed"]:
        return CheckLine(subject, None, "not installed", engine["remedy"])
    if engine["problem"]:
        return CheckLine(subject, False, engine["problem"], engine["remedy"])
    models = ", ".join(engine["models"]) or "no model here yet; the first use downloads one"
    place = f" in {directory}" if directory and engine["models"] else ""
    return CheckLine(subject, True, f"{engine['version']} on {', '.join(engine['devices'])}; models: {models}{place}")


def _video_lines(found: dict[str, Any]) -> list[CheckLine]:
    if "error" in found:
        return [CheckLine("video", False, found["error"], "Reinstall gpudrop.")]
    if found["problem"]:
        return [CheckLine("ffmpeg", False, found["problem"], "Install ffmpeg, or `pip install imageio-ffmpeg`.")]
    whole = found["libass"] and found["libx264"]
    lacking = [name for name in ("libass", "libx264") if not found[name]]
    detail = f"{found['version']} at {found['ffmpeg']}" + (f", without {' and '.join(lacking)}" if lacking else "")
    encoder = CheckLine("encoder", True, found["encoder"])
    if found["no_nvenc"]:
        encoder = CheckLine("encoder", None, f"{found['encoder']} on the CPU; no NVENC: {found['no_nvenc']}")
    font = CheckLine("fonts", bool(found["font"]), f"{found['font']}; {found['system_fonts']} of the system")
    return [CheckLine("ffmpeg", whole, detail, "Install a full build, or set GPUDROP_FFMPEG."), encoder, font]
