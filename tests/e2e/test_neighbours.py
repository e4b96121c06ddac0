"""A bucket that several share: what whoever may write below one folder can do to the others."""

from __future__ import annotations

import json
from typing import Any

import yaml

from support.installation import SAMPLES, FolderDrops, Installation
from support.receiver import Receiver

MEDIA = SAMPLES / "media"
BOUNDED = {"scope": "folder", "folders": ["*/"], "also": ["shared"], "wait_for_inputs": "1s"}
CAPTIONS = {
    "name": "captions",
    "pattern": "*/clips/*.mp4",
    "manifest": {"operation": "caption", "burn": False, "srt": "/common/clip.srt", "path": "/results/{stem}/"},
}


def put_media(install: Installation, *folders: str) -> None:
    for folder in folders:
        for name in ("clip.mp4", "chord.ogg", "clip.srt"):
            install.drops.put(folder + name, (MEDIA / name).read_bytes())


def drop(install: Installation, key: str, **fields: object) -> str:
    install.drops.put(key, json.dumps({"video": "clip.mp4", "audio": "chord.ogg", **fields}).encode())
    return key


def code_and_place(document: dict[str, Any]) -> tuple[str, str]:
    return document["code"], document["where"]


def test_manifests_stay_in_the_folders_that_are_theirs(install: Installation) -> None:
    put_media(install, "a/in/", "b/", "shared/", "common/")
    install.drops.put("_gpudrop.yaml", b"path: /a/taken/\n")
    install.start(triggers=[CAPTIONS], manifests=BOUNDED)
    refused = {
        drop(install, "a/in/read.job.json", video="/b/clip.mp4", output_filename="1"): "video",
        drop(install, "a/in/absent.job.json", audio="../../b/no.ogg", output_filename="2"): "audio",
        drop(install, "a/in/written.job.json", path="/b/", output_filename="3"): "path",
    }
    install.drops.put("a/in/list.job.csv", b"image;duration\n/b/clip.jpg;1\n")
    refused["a/in/list.job.csv"] = "images[0].image"
    for key, field in refused.items():
        assert code_and_place(install.failed(key)) == ("out_of_reach", field), key
    for key, more in {"a/in/own": {}, "a/out/wide": {"video": "../in/clip.mp4", "audio": "/shared/chord.ogg"}}.items():
        document = install.done(drop(install, f"{key}.job.json", output_filename="own", **more))
        assert [each["key"] for each in document["outputs"]] == [key.rpartition("/")[0] + "/own.mp4"]
    # A template is the operator's, and leads wherever it says.
    install.drops.put("b/clips/y.mp4", (MEDIA / "clip.mp4").read_bytes())
    document = install.done("b/clips/y.mp4")
    assert [each["key"].rpartition("/")[0] for each in document["outputs"]] == ["results/y"]


def test_links_lead_no_further_than_names(folder_install: Installation) -> None:
    assert isinstance(folder_install.drops, FolderDrops)
    root = folder_install.drops.root
    put_media(folder_install, "a/", "b/")
    (root / "a" / "near.mp4").symlink_to("clip.mp4")
    (root / "a" / "far.mp4").symlink_to("../b/clip.mp4")
    (root / "a" / "out").symlink_to("../b", target_is_directory=True)
    template = {"operation": "caption", "burn": False, "srt": "/b/clip.srt", "path": "{stem}/"}
    trigger = {"name": "here", "pattern": "a/*.mov", "manifest": template, "wait_for_inputs": "1s"}
    folder_install.start(triggers=[trigger], manifests=BOUNDED)
    assert folder_install.done(drop(folder_install, "a/x.job.json", video="near.mp4", output_filename="x"))
    far = folder_install.failed(drop(folder_install, "a/y.job.json", video="far.mp4", output_filename="y"))
    assert code_and_place(far) == ("out_of_reach", "video")
    through = folder_install.failed(drop(folder_install, "a/z.job.json", path="out/", output_filename="z"))
    assert code_and_place(through) == ("out_of_reach", "path")
    # The folder's name is the operator's, what lies there is not.
    folder_install.drops.put("a/out.mov", (MEDIA / "clip.mp4").read_bytes())
    assert code_and_place(folder_install.failed("a/out.mov")) == ("out_of_reach", "path")
    assert {file.name for file in (root / "b").iterdir()} == {"clip.mp4", "chord.ogg", "clip.srt"}


def test_defaults_name_no_address_for_others(folder_install: Installation, receiver: Receiver) -> None:
    install, callbacks = folder_install, {"private_hosts": [receiver.host]}
    put_media(install, "a/", "b/")
    install.drops.put("_gpudrop.yaml", yaml.safe_dump({"callback_url": receiver.url}).encode())
    install.start(triggers=[], callbacks=callbacks)
    document = install.failed(drop(install, "a/x.job.json", output_filename="x"))
    assert code_and_place(document) == ("address_not_allowed", "_gpudrop.yaml: callback_url")
    assert "defaults_from" in document["hint"]
    assert "callback" not in document
    shown = install.command("check").stdout
    assert "_gpudrop.yaml" in shown
    assert 'defaults_from: [{folder: "/", addresses: true}]' in shown.replace("\n", "")
    install.stop()
    allowed = [{"folder": "/", "addresses": True}, {"folder": "b"}]
    install.start(defaults_from=allowed)
    install.drops.put("b/_gpudrop.yaml", b"metadata: {by: default}\n")
    assert install.done(drop(install, "b/y.job.json", output_filename="y"))["metadata"] == {"by": "default"}
    install.until(lambda: receiver.heard)
    assert receiver.heard[0].document["key"] == "b/y.job.json"


def test_a_cancel_ends_what_lies_beside_it_and_nothing_else(folder_install: Installation) -> None:
    folder_install.start(triggers=[], manifests={"wait_for_inputs": "1h"})
    drop(folder_install, "a/in/x.job.json")
    folder_install.until(lambda: (folder_install.document("a/in/x.job.json", "status") or {}).get("state") == "waiting")
    cancels = [f"{place}x.cancel" for place in ("b/", "", "a/", "a/in/deeper/", "A/in/", "a/in/a/in/")]
    for cancel in cancels:
        folder_install.drops.put(cancel, b"")
    folder_install.until(lambda: folder_install.drops.listing().isdisjoint(cancels))
    assert folder_install.document("a/in/x.job.json", "error") is None
    folder_install.drops.put("a/in/x.cancel", b"")
    assert folder_install.failed("a/in/x.job.json")["code"] == "cancelled"
    assert not folder_install.logged("run_defect")
