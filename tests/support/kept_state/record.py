"""Records the state of one version: `PYTHONPATH=tests python -m support.kept_state.record VERSION --code CHECKOUT`.

Its listener is run on a folder with workers of this machine, and on S3 with the provider's, until there is a run at
every stage, and is killed then. What it leaves becomes VERSION/folder.json.gz and VERSION/s3.json.gz.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from listener.stores.base import ObjectMeta, Store
from listener.stores.folder import FolderStore
from listener.stores.s3.store import S3Store
from support.installation import SAMPLES, FolderDrops, Installation
from support.kept_state.documents import KEPT, KeptObject, KeptState, dump, kept_object, unnamed
from support.kept_state.holds import Held, Hold
from support.receiver import Answer, Receiver, listening
from support.runpod.cloud import cloud, installed, runpod
from support.runpod.jobs import Job
from support.scripts import ROOT
from support.stores import admin_client, servers, settings_for

BUCKET = "kept-state"
ENDPOINT = "gpu"
MEDIA = ("clip.mp4", "chord.ogg", "dawn.jpg", "clip.srt")
SLIDES = [{"image": "dawn.jpg", "duration": 1}] * 4
"""With two images a job, two jobs."""

Manifest = dict[str, Any]
CAPTIONS: Manifest = {"video": "clip.mp4", "srt": "clip.srt", "burn": False}
BROKEN: Manifest = {"images": [{"image": "dawn.jpg", "duraton": 5}]}


def film(seconds: int) -> Manifest:
    return {"images": [{"image": "dawn.jpg", "duration": seconds}]}


def speech(model: str) -> Manifest:
    return {"audio": "chord.ogg", "model": model}


class Recording:
    """One listener, from its start to its kill. Every drop writes into a folder of its name."""

    def __init__(self, install: Installation, held: Held, names: dict[str, str]) -> None:
        self.install = install
        self.names = names
        self._held = held
        self._keys = dict(install.environ)

    def start(self, *holds: Hold) -> None:
        self.install.environ = self._keys | self._held.environ(*holds)
        self.install.start()

    def drop(self, name: str, manifest: Manifest) -> str:
        key = f"{name}.job.json"
        self.install.drops.put(key, json.dumps({**manifest, "path": f"{name}/"}).encode())
        return key

    def at(self, key: str, *states: str) -> None:
        """Waits until its status tells one of `states`."""
        self.install.until(lambda: (s := self.install.document(key, "status")) and s["state"] in states)

    def reached(self, key: str) -> None:
        self.install.until(lambda: self._held.reached(key))

    def ended(self, key: str, *states: str) -> None:
        """Waits until the ledger calls the drop's newest run so."""
        self.install.until(lambda: self.runs().get(key, [""])[0] in states)

    def runs(self) -> dict[str, list[str]]:
        """States of each drop's runs, newest first."""
        found: dict[str, list[str]] = {}
        ledger = next(self.install.folder.rglob("ledger.sqlite"))
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
            for key, state in db.execute('SELECT "key", state FROM gpudrop_runs ORDER BY accepted DESC'):
                found.setdefault(key, []).append(state)
        return found

    def jobs_done(self) -> int:
        """How many jobs of runs with several have ended well, as the engine has recorded it."""
        engine = next(self.install.folder.rglob("engine.sqlite"))
        with closing(sqlite3.connect(f"file:{engine}?mode=ro", uri=True)) as db:
            (found,) = db.execute("SELECT count(*) FROM workflow_status WHERE name = 'job' AND status = 'SUCCESS'")
        return found[0]

    def state(self, store: Store, jobs: list[Job]) -> KeptState:
        """What is left after a kill."""
        killed = time.time()
        databases = sorted(self.install.folder.rglob("*.sqlite"))
        return KeptState(
            killed=killed,
            config=json.loads(unnamed(json.dumps(self.install.config), self.names)),
            runs=self.runs(),
            databases={str(path.relative_to(self.install.folder)): dump(path, self.names) for path in databases},
            objects=tuple(asyncio.run(self._objects(store))),
            jobs=tuple(
                {"id": job.id, "input": job.input, "policy": job.policy, "status": job.status, "output": job.output}
                for job in jobs
            ),
        )

    async def _objects(self, store: Store) -> list[KeptObject]:
        bucket = store.buckets[0]
        keys = [each.key async for each in store.list(bucket) if isinstance(each, ObjectMeta)]
        found: list[KeptObject] = []
        for key in sorted(set(keys)):
            meta = await store.head(bucket, key)
            data = await store.read(bucket, key, max_bytes=2**30)
            assert meta is not None and data is not None
            found.append(kept_object(meta, data, self.names))
        await store.close()
        return found


def record_folder(folder: Path, code: Path, receiver: Receiver) -> KeptState:
    root = folder / "drop"
    root.mkdir()
    config: dict[str, Any] = {
        "store": {"kind": "folder", "root": str(root)},
        "img2vid": {"images_per_job": 2, "max_jobs": 2},
        "callbacks": {"private_hosts": [receiver.host]},
        "concurrent_runs": 7,
        "triggers": [],
    }
    names = {"@RECEIVER@": receiver.host, "@DROP@": str(root), "@HOME@": str(folder)}
    recording = Recording(Installation(folder, FolderDrops(root), config, {}), Held(folder, code), names)
    install = recording.install
    for name in MEDIA:
        install.drops.put(name, (SAMPLES / "media" / name).read_bytes())
    recording.start()
    _end_some(recording, CAPTIONS, film(30))
    install.stop()
    recording.start(*holds())
    _stop_some(recording, CAPTIONS, {**CAPTIONS, "video": "late.mp4"}, receiver)
    between = recording.drop("between", film(5))
    recording.at(between, "running")
    for child in install.children():
        if "gpu_dispatch" in " ".join(child.cmdline()):
            child.kill()
    recording.reached(between)
    running = recording.drop("running", film(5))
    install.running(running, percent=5)
    recording.drop("accepted", CAPTIONS)
    install.until(lambda: recording.runs().get("accepted.job.json") == ["accepted"])
    install.kill()
    return recording.state(FolderStore(root), [])


def record_s3(folder: Path, code: Path, receiver: Receiver) -> KeptState:
    server = servers.start("minio", folder / "minio", environment={"MINIO_DOMAIN": "localhost"})
    try:
        client = admin_client(server)
        client.make_bucket(BUCKET)
        with cloud() as there:
            endpoint = there.endpoint(ENDPOINT)
            config: dict[str, Any] = {
                "img2vid": {"images_per_job": 2, "max_jobs": 2},
                "callbacks": {"private_hosts": [receiver.host]},
                "concurrent_runs": 8,
            }
            install = installed(folder, there, server, client, BUCKET, runpod(ENDPOINT), **config)
            names = {
                "@RECEIVER@": receiver.host,
                "@STORE@": server.endpoint,
                "@BUCKET@": BUCKET,
                "@PROVIDER@": there.provider.url.removesuffix("/v2"),
                "@HOME@": str(folder),
            }
            recording = Recording(install, Held(folder, code), names)
            for name in MEDIA:
                install.drops.put(name, (SAMPLES / "media" / name).read_bytes())
            there.work(endpoint, "odd", count=1)
            recording.start()
            _end_some(recording, speech("quick"), speech("wait-30"))
            spent = recording.drop("spent", speech("says-worker_crashed"))
            recording.ended(spent, "failed")
            install.stop()
            recording.start(*holds())
            _stop_some(recording, speech("quick"), {**speech("quick"), "audio": "late.ogg"}, receiver)
            recording.reached(recording.drop("between", speech("says-worker_crashed")))
            running = recording.drop("running", speech("wait-600"))
            install.running(running)
            before = len(there.jobs(ENDPOINT))
            queued = recording.drop("queued", speech("quick"))
            install.until(lambda: len(there.jobs(ENDPOINT)) > before)
            recording.at(queued, "queued")
            recording.drop("accepted", speech("quick"))
            install.until(lambda: recording.runs().get("accepted.job.json") == ["accepted"])
            install.kill()
            return recording.state(S3Store(settings_for(server, BUCKET)), there.jobs(ENDPOINT))
    finally:
        servers.stop(server)


def holds() -> tuple[Hold, ...]:
    attempts = "listener.dispatch.attempts:Attempts:execute"
    return (
        Hold("preparing.job.json", "before", "listener.runs.manifests:ManifestReader:read"),
        Hold("several.job.json", "before", attempts, index=1),
        Hold("between.job.json", "before", attempts, attempt=2),
        Hold("finishing.job.json", "after", "listener.runs.finalizer:RunFinalizer:write"),
    )


def _end_some(recording: Recording, quick: Manifest, long: Manifest) -> None:
    """Runs that ended in every way."""
    recording.ended(recording.drop("done", quick), "done")
    recording.ended(recording.drop("failed", BROKEN), "failed")
    cancelled = recording.drop("cancelled", long)
    recording.at(cancelled, "running")
    assert recording.install.command("cancel", cancelled).returncode == 0
    recording.ended(cancelled, "cancelled")
    replaced = recording.drop("replaced", long)
    recording.at(replaced, "running")
    recording.ended(recording.drop("replaced", quick), "done")


def _stop_some(recording: Recording, quick: Manifest, late: Manifest, receiver: Receiver) -> None:
    """Runs that stand still: one that waits for its input, those that are held, one whose callback is not taken."""
    recording.at(recording.drop("waiting", late), "waiting")
    recording.reached(recording.drop("preparing", quick))
    recording.reached(recording.drop("several", {"images": SLIDES}))
    recording.install.until(lambda: recording.jobs_done() == 1)
    recording.reached(recording.drop("finishing", quick))
    recording.drop("told", {**quick, "callback_url": receiver.url})
    recording.install.until(lambda: receiver.heard)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="the name of the folder below tests/data/kept_state")
    parser.add_argument("--code", type=Path, default=ROOT, help="a checkout of that version")
    parser.add_argument("--kind", choices=("folder", "s3"), action="append")
    asked = parser.parse_args()
    records = {"folder": record_folder, "s3": record_s3}
    for kind in asked.kind or records:
        with tempfile.TemporaryDirectory() as folder, listening() as receiver:
            receiver.otherwise = Answer(503)
            state = records[kind](Path(folder).resolve(), asked.code.resolve(), receiver)
        state.write(KEPT / asked.version / f"{kind}.json.gz")


if __name__ == "__main__":
    main()
