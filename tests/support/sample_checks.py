"""The demo's five drops: every output is opened and looked into."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import srt

from support.installation import Installation
from support.media import ffmpeg

SPOKEN = "The river runs down from the mountain to the sea. Every morning the birds sing before the sun comes up."


def check_samples(dropped: Installation, folder: Path) -> dict[str, dict[str, Any]]:
    """Waits for all five, looks at what came of each, and gives the done sidecars of the four that succeed."""
    speech = dropped.done("speech.ogg")
    slides = dropped.done("slides.job.yaml")
    captions = dropped.done("captions.job.json")
    mux = dropped.done("mux.job.json")
    broken = dropped.failed("broken.job.json")
    check_speech(dropped, speech)
    check_slides(dropped, slides, folder)
    check_captions(dropped, captions, folder)
    check_mux(dropped, mux, folder)
    check_broken(dropped, broken)
    left = {k for k in dropped.drops.listing() if k.endswith(".status.json")}
    assert not left
    return {"speech.ogg": speech, "slides.job.yaml": slides, "captions.job.json": captions, "mux.job.json": mux}


def check_broken(dropped: Installation, broken: dict[str, Any]) -> None:
    assert (broken["code"], broken["where"]) == ("unknown_field", "images[0].duraton")
    assert "duration" in broken["message"]
    assert broken["hint"]
    letter = dropped.drops.get(broken["dead_letter"])
    assert letter
    assert json.loads(letter)["error"]["code"] == "unknown_field"


def check_speech(dropped: Installation, done: dict[str, Any]) -> None:
    assert done["language"] == "en"
    assert word_errors(SPOKEN, done["transcription"]) <= 0.2
    words = json.loads(dropped.drops.get("speech/words.json") or b"")["words"]
    assert word_errors(SPOKEN, " ".join(w["word"].strip() for w in words)) <= 0.2
    cues = list(srt.parse((dropped.drops.get("speech/segments.srt") or b"").decode()))
    assert [c.index for c in cues] == list(range(1, len(cues) + 1))
    assert word_errors(SPOKEN, " ".join(c.content for c in cues)) <= 0.2
    karaoke = (dropped.drops.get("speech/karaoke.ass") or b"").decode()
    assert karaoke.count("\\kf") >= len(words)
    assert done["files"]["words"]["ass_karaoke"].endswith("speech/karaoke.ass")
    assert done["stats"]["words"] == len(words)


def check_slides(dropped: Installation, done: dict[str, Any], folder: Path) -> None:
    names = [v["filename"] for v in done["videos"]]
    assert names == ["video_1.mp4", "video_2.mp4"]
    frames = [0, 0]
    for i, name in enumerate(names):
        path = saved(dropped, f"slides/{name}", folder)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames[i] = sum(1 for _ in container.decode(stream))
            assert (stream.width, stream.height, stream.pix_fmt) == (1920, 1080, "yuv420p")
            assert stream.sample_aspect_ratio == 1
    assert frames == [156, 120]


def check_captions(dropped: Installation, done: dict[str, Any], folder: Path) -> None:
    assert done["video_url"].endswith("/captions.captioned.mp4")
    before = luma(saved(dropped, "media/clip.mp4", folder))
    after = luma(saved(dropped, "captions.captioned.mp4", folder))
    assert before.shape == after.shape
    changed = np.abs(after.astype(int) - before) > 60
    lower, upper = changed[:, 240:, :], changed[:, :200, :]
    on = [i for i in range(len(changed)) if lower[i].sum() > 200]
    times = [i / 24 for i in on]
    assert times, "no caption is seen"
    inside = [t for t in times if 0.75 <= t <= 2.25 or 2.75 <= t <= 4.35]
    assert times == inside, "a caption shows while no cue is on"
    assert len(times) > 0.9 * 24 * (1.4 + 1.5)
    assert upper.sum() == 0, "the picture changed outside the caption area"


def check_mux(dropped: Installation, done: dict[str, Any], folder: Path) -> None:
    assert done["video_url"].endswith("muxed/video_com_audio.mp4")
    result = saved(dropped, "muxed/video_com_audio.mp4", folder)
    assert packets(result) == packets(saved(dropped, "media/clip.mp4", folder))
    with av.open(str(result)) as container:
        assert len(container.streams.audio) == 1


def saved(dropped: Installation, key: str, folder: Path) -> Path:
    data = dropped.drops.get(key)
    assert data, key
    path = folder / hashlib.sha256(key.encode()).hexdigest()[:8]
    path.write_bytes(data)
    return path


def luma(path: Path) -> np.ndarray[Any, Any]:
    raw = subprocess.run(
        [ffmpeg(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "gray", "-"],
        capture_output=True,
        check=True,
    ).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, 360, 640)


def packets(path: Path) -> str:
    return run(ffmpeg(), "-v", "error", "-i", str(path), "-map", "0:v", "-c", "copy", "-f", "streamhash", "-")


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def word_errors(expected: str, heard: str) -> float:
    """Word error rate: edits between the two, over the length of `expected`."""
    a, b = (re.findall(r"[a-z']+", text.lower()) for text in (expected, heard))
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1] / len(a)
