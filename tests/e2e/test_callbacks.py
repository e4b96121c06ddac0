"""A user's system is told of a run's end, truly, until it has heard, and only where it may be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from listener.run_request import run_id_of
from listener.stores.folder import FolderStore
from support.installation import SAMPLES, FolderDrops, Installation
from support.receiver import FINISHED, PAGE, RUNNING, Answer, Receiver

SECRET = "between you and me"
LOCAL = {"private_hosts": ["127.0.0.1"]}
AWAY = Answer(503, b"later")


def drop(install: Installation, url: str, key: str = "a.job.json", **fields: object) -> None:
    for name in ("clip.mp4", "chord.ogg"):
        install.drops.put(name, (SAMPLES / "media" / name).read_bytes())
    manifest = {"video": "clip.mp4", "audio": "chord.ogg", "output_filename": key.partition(".")[0] + ".mp4"}
    body = {**manifest, "callback_url": url, "metadata": {"video_id": 42}, **fields}
    install.drops.put(key, json.dumps(body).encode())


def told(install: Installation, state: str, kind: str = "done", key: str = "a.job.json") -> dict[str, Any]:
    """What the final sidecar tells of the callback, once it has this state."""

    def look() -> dict[str, Any] | None:
        document = install.document(key, kind)
        return document if document and document.get("callback", {}).get("state") == state else None

    return install.until(look)


def without_callback(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("callback", "warnings")}


def test_the_done_sidecar_is_posted_and_signed(install: Installation, receiver: Receiver) -> None:
    install.environ["GPUDROP_CALLBACK_SECRET"] = SECRET
    receiver.answers += [AWAY, RUNNING]
    install.start(triggers=[], callbacks=LOCAL)
    drop(install, receiver.url)
    document = told(install, "delivered")
    headers, body = receiver.heard[-1].headers, receiver.heard[-1].body
    assert headers["X-Gpudrop-Signature"] == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert json.loads(body) == without_callback(document)
    assert document["callback"] == {"state": "delivered", "attempts": 3, "last_error": "", "hint": ""}
    assert headers["X-Gpudrop-Run"] == document["run_id"]
    assert [each.headers["X-Gpudrop-Attempt"] for each in receiver.heard] == ["1", "2", "3"]
    assert len({each.headers["X-Gpudrop-Callback-Id"] for each in receiver.heard}) == 1
    for each in receiver.heard:
        identity, moment = each.headers["webhook-id"], each.headers["webhook-timestamp"]
        assert identity == f"callback-{document['run_id']}"
        assert abs(time.time() - int(moment)) < 600
        text = f"{identity}.{moment}.".encode() + each.body
        signature = base64.b64encode(hmac.digest(SECRET.encode(), text, "sha256")).decode()
        assert each.headers["webhook-signature"] == f"v1,{signature}"
        text = f"POST\n{receiver.url}\n{identity}\n{moment}\n".encode() + each.body
        signature = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
        assert each.headers["X-Gpudrop-Signature-V2"] == f"sha256={signature}"
    assert len(set(receiver.bodies())) == 1


def test_a_failure_is_told_too(folder_install: Installation, receiver: Receiver) -> None:
    receiver.answers += [FINISHED]
    folder_install.start(triggers=[], callbacks=LOCAL, manifests={"wait_for_inputs": "1s"})
    drop(folder_install, receiver.url, audio="missing.ogg")
    assert told(folder_install, "delivered", "error")["callback"]["attempts"] == 1
    assert receiver.heard[0].document["code"] == "input_missing"


def test_a_receiver_that_was_away_hears_after_kill_and_restart(install: Installation, receiver: Receiver) -> None:
    receiver.otherwise = AWAY
    install.start(triggers=[], callbacks=LOCAL)
    drop(install, receiver.url)
    waiting = told(install, "waiting")
    assert waiting["callback"]["last_error"] == "It answered 503."
    assert "not heard yet" in install.command("status", "a.job.json").stdout
    install.until(lambda: len(receiver.heard) >= 3)
    install.kill()
    before = len(receiver.heard)
    receiver.otherwise = Answer()
    install.start()
    document = told(install, "delivered")
    assert len(receiver.heard) == before + 1
    assert document["callback"]["attempts"] > 3
    assert len(set(receiver.bodies())) == 1
    assert "delivered" in install.command("status", "a.job.json").stdout


def test_a_receiver_hears_though_the_state_was_lost(folder_install: Installation, receiver: Receiver) -> None:
    receiver.otherwise = AWAY
    folder_install.environ["GPUDROP_CALLBACK_SECRET"] = SECRET
    folder_install.start(triggers=[], callbacks=LOCAL, state=str(folder_install.folder / "state"))
    drop(folder_install, receiver.url)
    told(folder_install, "waiting")
    folder_install.stop()
    receiver.otherwise = Answer()
    folder_install.start(state=str(folder_install.folder / "another"))
    told(folder_install, "delivered")
    assert len(folder_install.logged("run_done")) == 1
    assert len(set(receiver.bodies())) == 1


async def test_a_sidecar_that_somebody_planted_is_not_signed(folder_install: Installation, receiver: Receiver) -> None:
    """Whoever drops a manifest can tell its run's id, and write an end of his own before the run begins."""
    assert isinstance(folder_install.drops, FolderDrops)
    folder_install.environ["GPUDROP_CALLBACK_SECRET"] = SECRET
    drop(folder_install, receiver.url, audio="missing.ogg")
    meta = await FolderStore(folder_install.drops.root).head("drop", "a.job.json")
    assert meta is not None
    run_id = run_id_of("drop", "a.job.json", meta.version)
    forged = {"code": 200, "run_id": run_id, "key": "a.job.json", "version": meta.version, "message": "forged"}
    planted = {**forged, "outputs": [], "callback": {"state": "waiting"}}
    folder_install.drops.put("a.done.json", json.dumps(planted).encode())
    folder_install.start(triggers=[], callbacks=LOCAL)
    folder_install.until(lambda: folder_install.logged("run_found_ended"))
    drop(folder_install, receiver.url, "b.job.json")
    told(folder_install, "delivered", key="b.job.json")
    assert [each.document["key"] for each in receiver.heard] == ["b.job.json"]
    assert folder_install.logged("sidecar_not_sealed")[0]["run_id"] == run_id


def test_a_page_for_people_is_no_receiver(folder_install: Installation, receiver: Receiver) -> None:
    receiver.answers += [PAGE]
    folder_install.start(triggers=[], callbacks=LOCAL)
    drop(folder_install, receiver.url)
    document = told(folder_install, "delivered")
    assert len(receiver.heard) == 2
    assert document["callback"]["attempts"] == 2
    failed = folder_install.logged("callback_failed")[0]
    assert "HTML" in failed["error"]
    assert "webhook" in failed["hint"]


def test_it_is_given_up_and_sent_again_on_request(folder_install: Installation, receiver: Receiver) -> None:
    receiver.otherwise = AWAY
    folder_install.start(triggers=[], callbacks={**LOCAL, "max_attempts": 2})
    drop(folder_install, receiver.url)
    document = told(folder_install, "given_up")
    assert document["callback"]["attempts"] == 2
    assert document["warnings"] == ["callback_url: It answered 503. It is tried again."]
    answered = folder_install.command("callback", "a.job.json")
    assert answered.returncode == 1
    assert "It answered 503." in answered.stdout
    receiver.otherwise = Answer()
    answered = folder_install.command("callback", "a.job.json")
    assert (answered.returncode, "delivered after 4 attempts" in answered.stdout) == (0, True), answered.stdout
    document = told(folder_install, "delivered")
    assert "warnings" not in document
    assert len(set(receiver.bodies())) == 1
    assert len(folder_install.logged("run_done")) == 1
    assert folder_install.command("callback", "nobody.job.json").returncode == 1
    folder_install.stop()
    answered = folder_install.command("callback", document["run_id"])
    assert answered.returncode == 1
    assert "No listener" in answered.stdout


def test_private_addresses_are_not_called(folder_install: Installation, receiver: Receiver) -> None:
    folder_install.start(triggers=[])
    drop(folder_install, receiver.url)
    document = told(folder_install, "refused")
    remedy = f'callbacks.private_hosts: ["{receiver.host}"]'
    assert remedy in document["callback"]["hint"]
    assert remedy in document["warnings"][0]
    assert remedy in folder_install.command("status", "a.job.json").stdout.replace("\n", "")
    assert not receiver.heard
    folder_install.stop()
    folder_install.start(callbacks={"private_hosts": [receiver.host]})
    assert folder_install.command("callback", "a.job.json").returncode == 0
    assert receiver.heard[0].document == without_callback(told(folder_install, "delivered"))


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "transcribe", "audio": "a.mp3", "beam_size": -1, "callback_url": "URL"},
        {"input": {"audio_base64": "x", "temperature": "warm"}, "webhook": "URL"},
        {"url_video": "a", "video": "b", "callback_url": "URL"},
    ],
    ids=["a field", "RunPod's body", "an old body"],
)
def test_who_waits_hears_that_a_manifest_was_refused(
    folder_install: Installation, receiver: Receiver, body: dict[str, Any]
) -> None:
    folder_install.start(triggers=[], callbacks=LOCAL)
    folder_install.drops.put("b.job.json", json.dumps(body).replace("URL", receiver.url).encode())
    document = told(folder_install, "delivered", "error", "b.job.json")
    assert receiver.heard[0].document == without_callback(document)
    assert document["code"].startswith("manifest") or document["code"] == "unknown_field"


def test_a_folders_default_hears_of_a_manifest_that_cannot_be_read(
    folder_install: Installation, receiver: Receiver
) -> None:
    folder_install.drops.put("in/_gpudrop.yaml", f"callback_url: {receiver.url}\n".encode())
    folder_install.start(triggers=[], callbacks=LOCAL, defaults_from=[{"folder": "in/", "addresses": True}])
    folder_install.drops.put("in/b.job.json", b"{")
    folder_install.until(lambda: receiver.heard)
    assert receiver.heard[0].document["code"] == "manifest_syntax"


def test_an_address_that_cannot_be_used_is_the_manifests_error(folder_install: Installation) -> None:
    folder_install.start(triggers=[])
    drop(folder_install, "http://h:99999/")
    document = folder_install.failed("a.job.json")
    assert (document["code"], document["where"]) == ("manifest_invalid", "callback_url")


def test_a_replaced_run_does_not_call_back(folder_install: Installation, receiver: Receiver) -> None:
    folder_install.start(triggers=[], callbacks=LOCAL)
    drop(folder_install, f"{receiver.url}?first", audio="missing.ogg")
    folder_install.until(lambda: (folder_install.document("a.job.json", "status") or {}).get("state") == "waiting")
    drop(folder_install, f"{receiver.url}?second", metadata={"video_id": 43})
    told(folder_install, "delivered")
    assert [each.document["metadata"] for each in receiver.heard] == [{"video_id": 43}]


def test_a_cancelled_run_calls_back(folder_install: Installation, receiver: Receiver) -> None:
    folder_install.start(triggers=[], callbacks=LOCAL)
    drop(folder_install, receiver.url, audio="missing.ogg")
    folder_install.until(lambda: (folder_install.document("a.job.json", "status") or {}).get("state") == "waiting")
    assert folder_install.command("cancel", "a.job.json").returncode == 0
    told(folder_install, "delivered", "error")
    assert receiver.heard[0].document["code"] == "cancelled"
