"""Everything a manifest may name: relative, from the root, s3://, the store's own URLs, the web, its own bytes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.installation import SAMPLES, Installation

MEDIA = SAMPLES / "media"


@pytest.fixture
def web() -> Iterator[str]:
    """A web server on this machine that serves the samples' media."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(MEDIA)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def drop(install: Installation, key: str, **fields: object) -> None:
    install.drops.put(key, json.dumps(fields).encode())


def put_media(install: Installation) -> None:
    for name in ("clip.mp4", "chord.ogg", "clip.srt"):
        install.drops.put(f"deep/media/{name}", (MEDIA / name).read_bytes())


def test_every_way_to_name_an_object(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    bucket = install.config["store"].get("bucket", "drop")
    bucket = install.config["store"].get("buckets", [bucket])[0]
    drop(install, "deep/a.job.json", video="media/clip.mp4", audio="./media/chord.ogg")
    drop(install, "deep/other/b.job.json", video="../media/clip.mp4", audio="/deep/media/chord.ogg")
    drop(install, "c.job.json", video=f"s3://{bucket}/deep/media/clip.mp4", audio="deep/media/chord.ogg")
    for key, output in (("deep/a", "deep/a.mp4"), ("deep/other/b", "deep/other/b.mp4"), ("c", "c.mp4")):
        assert [o["key"] for o in install.done(f"{key}.job.json")["outputs"]] == [output]


def test_the_stores_own_urls_are_objects(minio_install: Installation) -> None:
    """What the old API was given: addresses on the MinIO server itself, raw or escaped."""
    install = minio_install
    install.start(triggers=[])
    put_media(install)
    install.drops.put("SEE GOD'S PLAN | x/clip.mp4", (MEDIA / "clip.mp4").read_bytes())
    root = f"{install.config['store']['endpoint']}/{install.config['store']['buckets'][0]}"
    body = {
        "url_video": f"{root}/SEE GOD'S PLAN | x/clip.mp4",
        "url_srt": f"{root}/deep/media/clip.srt",
        "path": "SEE GOD'S PLAN | x/videos/",
        "output_filename": "video_legendado.mp4",
    }
    drop(install, "old.job.json", **body)
    done = install.done("old.job.json")
    assert done["message"] == "Video caption completed and uploaded to S3 successfully"
    assert install.drops.get("SEE GOD'S PLAN | x/videos/video_legendado.mp4")
    escaped = f"{root}/SEE%20GOD%27S%20PLAN%20%7C%20x/clip.mp4"
    drop(install, "escaped.job.json", url_video=escaped, url_audio=f"{root}/deep/media/chord.ogg", path="out/")
    assert install.done("escaped.job.json")["video_url"].startswith(f"{root}/out/")


def test_the_web_where_it_is_allowed(install: Installation, web: str) -> None:
    """Media go to the worker, subtitles to the listener: both fetch them, both refuse what is private otherwise."""
    install.start(triggers=[], store={**install.config["store"], "private_hosts": ["127.0.0.1"]})
    drop(install, "a.job.json", video=f"{web}/clip.mp4", srt=f"{web}/clip.srt", path="a/")
    drop(install, "b.job.json", video=f"{web}/clip.mp4", srt=f"{web}/none.srt")
    drop(install, "c.job.json", video=f"{web}/none.mp4", audio=f"{web}/chord.ogg")
    assert install.done("a.job.json")["outputs"][0]["key"] == "a/a.captioned.mp4"
    assert install.failed("b.job.json")["code"] == "input_missing"
    assert install.failed("c.job.json")["code"] == "input_missing"


def test_media_inside_the_manifest(folder_install: Installation) -> None:
    """worker-faster_whisper's audio_base64, here with no speech in it: an answer, not an error."""
    folder_install.start(triggers=[], local={"download_models": False})
    audio = base64.b64encode((MEDIA / "chord.ogg").read_bytes()).decode()
    drop(folder_install, "a.job.json", input={"audio_base64": audio, "model": "no-such-model"})
    assert folder_install.failed("a.job.json")["code"] == "model_unavailable"
