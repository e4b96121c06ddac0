"""A flood in one folder, and a drop in another: the drop is accepted and begun as if it were alone."""

from __future__ import annotations

import json

from support.installation import SAMPLES, Installation

WAITING = b"audio: not-there.mp3\n"
BAD = b"operation: nonsense\n"
BIG = json.dumps({"images": [*["picture.jpg"] * 9000, "not-there.jpg"]}).encode()
FLOOD = 600
DROP = "other/a.job.json"


def put_flood(install: Installation) -> None:
    """In some folders below one, and of names that come before the drop's."""
    for i in range(FLOOD):
        body = BIG if i < 4 else BAD if i % 5 == 0 else WAITING
        install.drops.put(f"flood/{i % 7}/{i:04}.job.yaml", body)
    for i in range(7):
        install.drops.put(f"flood/{i}/picture.jpg", (SAMPLES / "media" / "dawn.jpg").read_bytes())


def test_a_drop_beside_a_flood_is_among_the_first(folder_install: Installation) -> None:
    install = folder_install
    put_flood(install)
    for name in ("clip.mp4", "chord.ogg"):
        install.drops.put(f"other/{name}", (SAMPLES / "media" / name).read_bytes())
    install.drops.put(DROP, b'{"video": "clip.mp4", "audio": "chord.ogg"}')
    install.start(triggers=[], concurrent_runs=8)
    install.done(DROP)
    accepted = [entry["key"] for entry in install.logged("run_accepted")]
    begun = [key for entry in install.logged("runs_begun") for key in entry["keys"]]
    # The first keys that were listed are looked at together, and so many runs may be told at once.
    assert accepted.index(DROP) < 400
    assert begun.index(DROP) < 200
    status = install.until(lambda: install.document("flood/0/0007.job.yaml", "status"))
    assert status["waiting_for"] == ["flood/0/not-there.mp3"]
