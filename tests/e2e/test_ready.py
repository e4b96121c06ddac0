"""`ready` is said once it is true: who posts is heard, and the store answers with these keys."""

from __future__ import annotations

import json
import socket
import urllib.request
from typing import Any

from support.installation import Installation, MinioDrops
from support.webhook import free_port, message

TOKEN = {"GPUDROP_WEBHOOK_TOKEN": "a-token"}


def webhook(port: int) -> dict[str, Any]:
    return {"sources": [{"kind": "webhook", "listen": f"127.0.0.1:{port}", "path": "/minio"}, "reconcile"]}


def post(port: int) -> int:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/minio", message("x.txt"), {"Authorization": "Bearer a-token"}, method="POST"
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return answer.status


def test_who_posts_once_it_is_ready_is_heard(minio_install: Installation) -> None:
    port = free_port()
    minio_install.environ |= TOKEN
    for _ in range(3):
        minio_install.start(**webhook(port))
        assert post(port) == 200
        minio_install.stop()
    order = [entry["event"] for entry in entries(minio_install) if entry["event"] in ("listening", "ready")]
    assert order == ["listening", "ready"] * 3


def test_an_address_that_is_taken_ends_the_start(minio_install: Installation) -> None:
    install = minio_install
    install.environ |= TOKEN
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        install.begin(**webhook(port))
        install.until(lambda: install.process and install.process.poll() is not None)
    assert install.process
    assert install.process.returncode == 1
    text = install.log_text()
    assert f"source_unavailable: The address 127.0.0.1:{port} is taken." in text
    assert "another port" in text
    assert "Traceback" not in text
    assert not install.logged("ready")


def test_wrong_keys_are_told_and_ready_comes_with_the_right_ones(minio_install: Installation) -> None:
    install = minio_install
    keys = install.folder / "keys.env"
    right = dict(install.environ)
    keys.write_text(lines({**right, "GPUDROP_S3_SECRET_KEY": "wrong-secret"}))
    install.environ.clear()
    install.environ["GPUDROP_ENV_FILE"] = str(keys)
    install.begin(triggers=[])
    told = install.until(lambda: install.logged("not_ready"))[0]
    assert told["code"] == "store_denied"
    assert "secret key" in told["error"]
    assert told["hint"]
    assert not install.logged("ready")
    keys.write_text(lines(right))
    install.until(lambda: install.logged("ready"))
    install.stop()


def test_a_bucket_that_is_not_there_is_waited_for(minio_install: Installation) -> None:
    install = minio_install
    assert isinstance(install.drops, MinioDrops)
    bucket = f"{install.drops.bucket}-later"
    install.config["store"]["buckets"] = [bucket]
    install.begin(triggers=[])
    told = install.until(lambda: install.logged("not_ready"))[0]
    assert bucket in told["error"]
    install.drops.client.make_bucket(bucket)
    install.until(lambda: install.logged("ready"))
    install.stop()


def lines(variables: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def entries(install: Installation) -> list[dict[str, Any]]:
    return [json.loads(line) for line in install.log_text().splitlines() if line.startswith("{")]
