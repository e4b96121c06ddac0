"""Documents made to cost much, dropped into a whole listener: each ends with a reason, and nobody waits for them."""

from __future__ import annotations

import json

from support.hostile_documents import SUBTITLES
from support.installation import SAMPLES, Installation

MEDIA = SAMPLES / "media"


def test_hostile_subtitles_defaults_and_manifests_hold_nobody_up(folder_install: Installation) -> None:
    """Eight manifests with one ASS stopped all intake for minutes; nested defaults stopped the event loop."""
    install, put = folder_install, folder_install.drops.put
    put("media/clip.mp4", (MEDIA / "clip.mp4").read_bytes())
    put("media/chord.ogg", (MEDIA / "chord.ogg").read_bytes())
    put("media/hostile.ass", SUBTITLES["ass"]["syllables and pieces"](10_000_000))
    for depth in range(1, 61):
        put("d/" * depth + "_gpudrop.yaml", b"metadata: {a: [" + b"1," * (2**19 - 20) + b"1]}")
    install.start(sources=[{"kind": "folder"}])
    hostile = [f"hostile{i}.job.json" for i in range(8)]
    for key in hostile:
        put(key, json.dumps({"video": "media/clip.mp4", "srt": "media/hostile.ass"}).encode())
    nested = "d/" * 60 + "talk.job.json"
    put(nested, json.dumps({"video": "/media/clip.mp4", "audio": "/media/chord.ogg"}).encode())
    large = "large.job.json"
    put(large, json.dumps({"audio": "no.mp3", "metadata": {"a": [1] * 300_000}, "langauge": "pt"}).encode())
    put("good.job.json", json.dumps({"video": "media/clip.mp4", "audio": "media/chord.ogg"}).encode())
    install.done("good.job.json")
    assert {install.failed(key)["code"] for key in hostile} == {"subtitles_unreadable"}
    assert install.failed(nested)["code"] == "manifest_too_large"
    assert install.failed(large)["code"] == "unknown_field"
