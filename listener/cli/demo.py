"""`gpudrop demo`: drops the samples as a user would, and shows them until each has its final sidecar."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from listener.app.app import App, running
from listener.cli.output import Terminal
from listener.config.config import Config, FolderStoreConfig
from listener.config.environment import Environment
from manifests.errors import ConfigError
from manifests.names import sidecar_key

SAMPLES = Path(__file__).parents[2] / "examples" / "samples"
DEADLINE_S = 600.0
_POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class Sample:
    """One drop of the demo."""

    key: str
    about: str
    expects: str = "done"
    """The kind of its final sidecar."""


DROPS = (
    Sample("speech.ogg", "bare audio: subtitles, karaoke, words"),
    Sample("slides.job.yaml", "two pictures: two clips with a slow zoom"),
    Sample("captions.job.json", "video and SRT: captions burnt in"),
    Sample("mux.job.json", "video and audio, in the old API's words"),
    Sample("broken.job.json", "a manifest with a mistake: a clear error", expects="error"),
)


@dataclass(frozen=True, slots=True)
class SampleStatus:
    """The present status of a drop."""

    state: str
    detail: str = ""
    """Percentage and stage while it runs."""
    final: str = ""
    """The kind of its final sidecar; "": it has none yet."""
    document: dict[str, Any] | None = None
    """The final sidecar."""


async def demonstrate(config: Config, environment: Environment, model: str) -> int:
    """Runs the demo; returns 0 when every sample ended as expected."""
    if not isinstance(config.store, FolderStoreConfig):
        raise ConfigError(
            "The demo drops its samples into a folder; this configuration names another kind of store.",
            hint="Use the config.yaml of the project.",
            where="store.kind",
        )
    if not SAMPLES.is_dir():
        raise ConfigError("The samples are not installed here.", hint="Run the demo in a checkout of the project.")
    console = Terminal()
    root = config.store.root
    defaults = {**config.defaults, "transcribe": {**config.defaults.get("transcribe", {}), "model": model}}
    began = time.monotonic()
    async with running(config.model_copy(update={"defaults": defaults}), environment) as app:
        console.print(f"The listener watches {root}/. Dropping {len(DROPS)} samples …", style="bold")
        await asyncio.to_thread(_drop, root)
        statuses = await _watch(root, app, console)
    _report(console, root, statuses, time.monotonic() - began)
    return 0 if all(statuses[s.key].final == s.expects for s in DROPS) else 1


def _drop(root: Path) -> None:
    """Removes an earlier demo's sidecars, which would end the wait at once; copies media, then what starts runs."""
    for sample in DROPS:
        for kind in ("status", "done", "error"):
            (root / sidecar_key(sample.key, kind)).unlink(missing_ok=True)
    shutil.copytree(SAMPLES / "media", root / "media", dirs_exist_ok=True, copy_function=shutil.copyfile)
    for sample in DROPS:
        shutil.copyfile(SAMPLES / sample.key, root / sample.key)


async def _watch(root: Path, app: App, console: Console) -> dict[str, SampleStatus]:
    """Returns the samples' status once each has its final sidecar and all runs have ended, or after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    told: dict[str, str] = {}
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            statuses = await asyncio.to_thread(lambda: {s.key: _sample_status(root, s.key) for s in DROPS})
            live.update(_table(statuses))
            if not console.is_terminal:
                _print_changes(console, statuses, told)
            ended = all(s.final for s in statuses.values()) and not await app.runs.unfinished()
            if ended or time.monotonic() > deadline:
                return statuses
            await asyncio.sleep(_POLL_S)


def _sample_status(root: Path, key: str) -> SampleStatus:
    for kind in ("done", "error"):
        document = _read(root / sidecar_key(key, kind))
        if document:
            return SampleStatus(kind, final=kind, document=document)
    status = _read(root / sidecar_key(key, "status"))
    if not status:
        return SampleStatus("dropped")
    percent = f"{status['percent']:.0f} %" if status["percent"] else ""
    return SampleStatus(status["state"], f"{percent} {status['stage']}".strip())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None


def _table(statuses: dict[str, SampleStatus]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for sample in DROPS:
        sample_status = statuses[sample.key]
        colour = {"": "cyan", sample.expects: "green"}.get(sample_status.final, "red")
        table.add_row(sample.key, Text(sample_status.state, colour), sample_status.detail, Text(sample.about, "dim"))
    return table


def _print_changes(console: Console, statuses: dict[str, SampleStatus], told: dict[str, str]) -> None:
    """Prints a line for each change of state, where nothing can be redrawn (a pipe, a log)."""
    for key, sample_status in statuses.items():
        if told.get(key) != sample_status.state:
            told[key] = sample_status.state
            console.print(f"  {key}: {sample_status.state}")


def _report(console: Console, root: Path, statuses: dict[str, SampleStatus], seconds: float) -> None:
    table = Table(title=f"What appeared in {root}/ within {seconds:.0f} s", title_justify="left")
    for title in ("dropped", "sidecar", "what is there now"):
        table.add_column(title, overflow="fold")
    for sample in DROPS:
        sample_status = statuses[sample.key]
        sidecar = sidecar_key(sample.key, "done" if sample_status.final == "done" else "error")
        table.add_row(sample.key, sidecar if sample_status.final else "none yet", _found(sample_status))
    console.print(table)


def _found(sample_status: SampleStatus) -> str:
    document = sample_status.document
    if not document:
        return f"still {sample_status.state}"
    if sample_status.final == "done":
        return "\n".join(f"{o['key']} ({o['size']:,} bytes)" for o in document["outputs"])
    return f"{document['code']}: {document['message']}\n{document['hint']}"
