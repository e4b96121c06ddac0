"""What stands in an address's query, or before its host, is told nowhere: it may let somebody in."""

from __future__ import annotations

import json

from support.installation import SAMPLES, Installation
from support.receiver import Answer, Receiver

TOKEN = "t0ken-9a7d"


def test_tokens_in_addresses_are_never_told(folder_install: Installation, receiver: Receiver) -> None:
    receiver.otherwise = Answer(302, headers={"Location": f"http://{receiver.host}/?{TOKEN}"})
    private = {"private_hosts": [receiver.host, "127.0.0.1:9"]}
    store = {**folder_install.config["store"], **private}
    folder_install.start(
        triggers=[], callbacks={**private, "max_attempts": 1}, store=store, manifests={"wait_for_inputs": "1s"}
    )
    hook = f"http://{TOKEN}:{TOKEN}@{receiver.host}/hook?token={TOKEN}#{TOKEN}"
    away = f"http://127.0.0.1:9/?{TOKEN}"
    folder_install.drops.put("media/chord.ogg", (SAMPLES / "media" / "chord.ogg").read_bytes())
    audio = "/media/chord.ogg"
    manifests: dict[str, dict[str, object]] = {
        "refused": {"audio": "missing.ogg", "callback_url": hook},
        "away": {"audio": "missing.ogg", "callback_url": away},
        "private": {"audio": f"http://u:{TOKEN}@10.0.0.1/a.mp3?{TOKEN}", "callback_url": f"http://10.0.0.1/?{TOKEN}"},
        "unusable": {"audio": audio, "callback_url": f"http://h:99999/?{TOKEN}"},
        "scheme": {"audio": f"ftp://{TOKEN}@h/?{TOKEN}"},
        "spelling": {"audio": f"http://u:{TOKEN}/@h:x/?{TOKEN}"},
        "operation": {"audio": audio, "operation": f"https://h/?{TOKEN}"},
        "path": {"audio": audio, "path": f"https://h/?{TOKEN}"},
        "captions": {"video": audio, "srt": f"http://{receiver.host}/a.srt?{TOKEN}"},
        "worker": {"video": f"http://{receiver.host}/?{TOKEN}", "audio": audio},
    }
    for name, manifest in manifests.items():
        folder_install.drops.put(f"{name}.job.json", json.dumps({**manifest, "metadata": {"name": name}}).encode())
    folder_install.drops.put("broken.job.json", b'{"audio": "https://h/?' + TOKEN.encode() + b"}")
    errors = {name: folder_install.failed(f"{name}.job.json") for name in [*manifests, "broken"]}
    for name in ("refused", "away", "private"):
        folder_install.until(
            lambda name=name: "warnings" in (folder_install.document(f"{name}.job.json", "error") or {})
        )
    told = [folder_install.command("status"), folder_install.command("callback", "refused.job.json")]
    told += [folder_install.command("status", f"{name}.job.json") for name in ("refused", "private")]
    folder_install.stop()
    assert receiver.host in errors["captions"]["message"], "the address is told without its query"
    letters = {key: folder_install.drops.get(key) or b"" for key in folder_install.drops.listing() if "_dlq/" in key}
    assert len(letters) == len(errors)
    places = {key: folder_install.drops.get(key) or b"" for key in folder_install.drops.listing() if "job" not in key}
    places |= letters | {"log": folder_install.log_text().encode()}
    places |= {f"output {n}": (done.stdout + done.stderr).encode() for n, done in enumerate(told)}
    assert [place for place, data in places.items() if TOKEN.encode() in data] == []
