"""What users get wrong: each mistake has a code of its own, words that help, and never a traceback."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.installation import AUDIO_TRIGGERS, SAMPLES, FolderDrops, Installation, folder_installation

MEDIA = SAMPLES / "media"
CLIP = (MEDIA / "clip.mp4").read_bytes()
DAWN = (MEDIA / "dawn.jpg").read_bytes()
LATIN_1 = "1\n00:00:00,500 --> 00:00:02,000\nCoração é emoção\n".encode("latin-1")


def huge_png() -> bytes:
    """30000 x 30000 pixels in a few kilobytes: what a decompression bomb looks like."""
    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 10_000)), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def manifest(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def images(**image: object) -> bytes:
    return manifest(images=[{"image": "/media/dawn.jpg", "duration": 1, **image}])


ALIASES = b"a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nimages: [*c,*c,*c]\n"

MANIFESTS = {
    "not-json.job.json": (b"{ this is not json", "manifest_syntax"),
    "not-yaml.job.yaml": (b"images: [unclosed\n  - x: {", "manifest_syntax"),
    "binary.job.json": (random.Random(1).randbytes(4000), "manifest_syntax"),
    "empty.job.json": (b"", "manifest_syntax"),
    "large.job.json": (b'{"metadata": {"x": "' + b"x" * 2 * 2**20 + b'"}}', "manifest_too_large"),
    "aliases.job.yaml": (ALIASES, "manifest_aliases"),
    "deep.job.json": (b'{"metadata": ' + b'{"a":' * 50 + b"1" + b"}" * 51, "manifest_too_deep"),
    "unknown.job.json": (manifest(audio="/speech.ogg", langauge="pt"), "unknown_field"),
    "operation.job.json": (manifest(operation="transcibe", audio="/speech.ogg"), "unknown_operation"),
    "later.job.json": (manifest(images=[{"image": "a.jpg", "duration": 1}], audio="b.mp3"), "unknown_operation"),
    "nothing.job.json": (manifest(metadata={"a": 1}), "missing_field"),
    "missing.job.json": (manifest(video="/no.mp4", audio="/media/chord.ogg"), "input_missing"),
    "zero-byte.job.json": (manifest(video="/media/zero.mp4", audio="/media/chord.ogg"), "input_empty"),
    "text-as-mp3.job.json": (manifest(audio="/media/text.mp3"), "media_unreadable"),
    "text-as-mp4.job.json": (manifest(video="/media/text.mp4", audio="/media/chord.ogg"), "media_unreadable"),
    "truncated-jpg.job.json": (images(image="/media/truncated.jpg"), "image_unreadable"),
    "huge-png.job.json": (
        manifest(images=[{"image": "/media/huge.png", "duration": 1}], path="huge/"),
        "image_too_large",
    ),
    "srt-garbage.job.json": (manifest(video="/media/clip.mp4", srt="/media/garbage.srt"), "subtitles_unreadable"),
    "script-twice.job.json": (manifest(audio="/media/chord.ogg", script="a.txt", script_text="b"), "manifest_invalid"),
    "script-picture.job.json": (manifest(audio="/media/chord.ogg", script="/media/dawn.jpg"), "script_unreadable"),
    "script-blank.job.json": (manifest(audio="/media/chord.ogg", script="/media/blank.txt"), "script_unreadable"),
    "script-large.job.json": (manifest(audio="/media/chord.ogg", script="/media/large.txt"), "input_too_large"),
    "script-silent.job.json": (
        manifest(audio="/media/chord.ogg", script_text="Nobody says this.", path="script-silent/"),
        "script_mismatch",
    ),
    "retime-garbage.job.json": (
        manifest(audio="/media/chord.ogg", retime="/media/garbage.srt"),
        "subtitles_unreadable",
    ),
    "duration-zero.job.json": (images(duration=0), "invalid_duration"),
    "duration-negative.job.json": (images(duration=-5), "invalid_duration"),
    "no-images.job.json": (manifest(images=[]), "no_images"),
    "path-up.job.json": (manifest(audio="/speech.ogg", path="../../elsewhere/"), "invalid_path"),
    "other-bucket.job.json": (manifest(audio="s3://secrets/a.mp3"), "bucket_not_allowed"),
    "private-address.job.json": (manifest(audio="https://127.0.0.1/a.mp3"), "address_not_allowed"),
    "metadata-service.job.json": (manifest(audio="http://169.254.169.254/latest/a.mp3"), "address_not_allowed"),
    "empty-segment.job.json": (manifest(audio="a//b.mp3"), "unusable_key"),
    "overwrites.job.json": (
        manifest(video="/media/clip.mp4", audio="/media/chord.ogg", path="/media/", output_filename="clip.mp4"),
        "output_overwrites_input",
    ),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Installation]:
    """One listener that gets every mistake at once, and must live on."""
    install = folder_installation(tmp_path_factory.mktemp("broken"), {"GPUDROP_MODEL_DIR": str(model_dir)})
    media = {
        "media/clip.mp4": CLIP,
        "media/chord.ogg": (MEDIA / "chord.ogg").read_bytes(),
        "media/dawn.jpg": DAWN,
        "media/zero.mp4": b"",
        "media/text.mp3": b"this is no audio\n" * 200,
        "media/text.mp4": b"this is no video\n" * 200,
        "media/truncated.jpg": DAWN[: len(DAWN) // 2],
        "media/huge.png": huge_png(),
        "media/garbage.srt": b"no cue in here\nat all\n",
        "media/latin.srt": LATIN_1,
        "media/blank.txt": b"\n * * *\n",
        "media/large.txt": b"word and " * 230_000,
    }
    for key, data in media.items():
        install.drops.put(key, data)
    install.start(
        manifests={"wait_for_inputs": "4s"}, triggers=AUDIO_TRIGGERS, defaults={"transcribe": {"model": "tiny.en"}}
    )
    for key, (data, _) in MANIFESTS.items():
        install.drops.put(key, data)
    yield install
    install.close()


@pytest.mark.parametrize("key", MANIFESTS)
def test_each_mistake_is_told(broken: Installation, key: str) -> None:
    error = broken.failed(key)
    assert error["code"] == MANIFESTS[key][1], error
    assert error["message"]
    assert error["hint"]
    assert "Traceback" not in json.dumps(error)
    assert error["retryable"] is False
    assert broken.drops.get(error["dead_letter"])
    assert broken.document(key, "status") is None


def test_the_nearest_name_is_offered(broken: Installation) -> None:
    assert "language" in broken.failed("unknown.job.json")["message"]
    assert "transcribe" in broken.failed("operation.job.json")["message"]
    assert broken.failed("unknown.job.json")["where"] == "langauge"


def test_subtitles_in_latin_1_work(broken: Installation) -> None:
    broken.drops.put("latin.job.json", manifest(video="/media/clip.mp4", srt="/media/latin.srt"))
    broken.done("latin.job.json")


@pytest.mark.parametrize(("name", "data"), [("text.mp3", b"no audio at all " * 99), ("zero.mp3", b"")])
def test_bad_bare_media(broken: Installation, name: str, data: bytes) -> None:
    broken.drops.put(name, data)
    error = broken.failed(name)
    assert error["code"] in ("media_unreadable", "input_empty"), error
    assert error["key"] == name


def test_the_listener_lives_on(broken: Installation) -> None:
    assert isinstance(broken.drops, FolderDrops)
    broken.drops.put("fine.job.json", manifest(video="/media/clip.mp4", audio="/media/chord.ogg"))
    broken.done("fine.job.json")
    assert broken.process
    assert broken.process.poll() is None
    assert not broken.logged("run_defect")
    assert "Traceback" not in broken.log_text()
