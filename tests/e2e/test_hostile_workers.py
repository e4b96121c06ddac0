"""Workers that lie: real processes on the real SDK, whose words are bad for nobody but their own job."""

from __future__ import annotations

import json

from support.runpod.installation import RunPodInstallation

CODES = {
    "queued_too_long": "worker_error",
    "submit_unknown": "worker_error",
    "superseded": "worker_error",
    "event_too_old": "worker_error",
    "endpoint_unavailable": "worker_error",
    "store_unavailable": "worker_error",
    "budget_exceeded": "worker_error",
    "too_many_starts": "worker_error",
    "made_up": "worker_error",
    # Nothing in the store bears it out: then the job has done nothing, and that counts.
    "duplicate_job": "job_lost",
    "cancelled": "job_lost",
    "font_missing": "font_missing",
}
"""What a worker says, and what is believed of it."""


def test_whatever_a_worker_says_its_run_ends_with_a_word_and_few_jobs(rp: RunPodInstallation) -> None:
    """All at once. A code of the listener's own made it send the task on and on, or end without a sidecar."""
    rp.work(count=3)
    rp.install.start(manifests={"max_attempts": 2})
    keys = {code: rp.drop(f"says-{code}", f"says-{code}") for code in CODES}
    ended = {code: rp.install.failed(key) for code, key in keys.items()}
    assert {code: document["code"] for code, document in ended.items()} == CODES
    runs = {code: rp.runs(key) for code, key in keys.items()}
    assert runs == {code: 2 if believed == "job_lost" else 1 for code, believed in CODES.items()}
    for document in ended.values():
        letter = rp.install.drops.get(document["dead_letter"])
        assert letter and json.loads(letter)["error"]["code"] == document["code"]
        for text in (json.dumps(document, ensure_ascii=False), letter.decode()):
            assert len(text) < 30_000 and not any(each in text for each in ("\\u001b", "\\u0000", "\u202e"))
    log = rp.install.log_text()
    assert "so it is said" in log and "\x1b[2J" not in log and "x" * 5000 not in log


def test_an_output_ten_times_too_large_is_removed_and_ends_its_run_alone(rp: RunPodInstallation) -> None:
    """A presigned PUT takes any size: the worker left what it liked, and the run was done."""
    liar = rp.work(ODD_SWELL=str(10 * 2**20))
    rp.install.start(task_max_output="1MiB")
    drops = rp.install.drops
    drops.put("i.jpg", b"picture")
    asked = {"images": [{"image": "i.jpg", "duration": 1.0}], "path": "film/"}
    drops.put("film.job.json", json.dumps(asked).encode())
    ended = rp.install.failed("film.job.json")
    assert ended["code"] == "resource_exhausted" and "film/video_1.mp4" in json.dumps(ended)
    assert not [key for key in drops.listing() if key.startswith("film/")]
    assert len(rp.there.jobs(rp.endpoint.id)) == 1
    rp.of(lambda _: liar.kill())
    rp.work()
    drops.put("honest.job.json", json.dumps({**asked, "path": "honest/"}).encode())
    assert rp.install.done("honest.job.json")["videos"]
    assert drops.get("honest/video_1.mp4")
