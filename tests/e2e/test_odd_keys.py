"""Keys as people and scripts make them: every drop comes back beside itself."""

from __future__ import annotations

import json
from pathlib import Path

from support.installation import SAMPLES, Installation

ODD_FOLDERS = (
    "a folder with spaces",
    "SEE GOD'S PLAN",
    "this | that",
    "one+one",
    "half%20done",
    "100%",
    "🎬 takes",
    "ação – naïve 日本",
    "a&b=c?d#e*f[g]h",
)
CHANNEL = "GOD IS GREATER/SEE GOD'S PLAN UNFOLDING FOR YOU RIGHT NOW | Inspiration | Motivational"


def test_odd_names_come_back(install: Installation) -> None:
    install.start()
    clip, chord = (SAMPLES / "media" / name for name in ("clip.mp4", "chord.ogg"))
    for folder in ODD_FOLDERS:
        install.drops.put(f"{folder}/the clip.mp4", clip.read_bytes())
        install.drops.put(f"{folder}/the sound.ogg", chord.read_bytes())
        manifest = {"video": "the clip.mp4", "audio": "the sound.ogg", "output_filename": f"{folder}.mp4"}
        install.drops.put(f"{folder}/{folder}.job.json", json.dumps(manifest).encode())
    for folder in ODD_FOLDERS:
        done = install.done(f"{folder}/{folder}.job.json")
        assert [o["key"] for o in done["outputs"]] == [f"{folder}/{folder}.mp4"]
        assert install.drops.get(f"{folder}/{folder}.mp4")


def test_recordings_and_old_bodies(install: Installation, model_dir: Path) -> None:
    """Bare audio under audios/ leaves its transcription beside that folder; an old body counts from the root."""
    install.environ["GPUDROP_MODEL_DIR"] = str(model_dir)
    install.start(defaults={"transcribe": {"model": "tiny.en"}})
    speech = (SAMPLES / "speech.ogg").read_bytes()
    install.drops.put(f"{CHANNEL}/audios/audio_final.ogg", speech)
    body = {"audio_url": f"{CHANNEL}/audios/audio_final.ogg", "path": f"{CHANNEL}/again/", "model": "tiny.en"}
    install.drops.put("transcribe.job.json", json.dumps({**body, "audio_url": "/" + body["audio_url"]}).encode())
    install.done(f"{CHANNEL}/audios/audio_final.ogg")
    install.done("transcribe.job.json")
    wanted = {
        f"{CHANNEL}/{f}/{n}" for f in ("transcriptions/audio_final", "again") for n in ("segments.srt", "words.json")
    }
    assert wanted <= install.drops.listing()
