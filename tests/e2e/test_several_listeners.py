"""Several listeners on one PostgreSQL: each drop is handled once, whoever is killed, whatever is away for a while."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import psycopg
import pytest
from minio import Minio
from minio.notificationconfig import NotificationConfig, QueueConfig

from support.installation import MinioDrops
from support.processes import name_of
from support.several import MUX, SLOW, Several, member_of, mux
from support.stores import admin_client, servers, start_minio

LONG = json.dumps({"images": [{"image": "dawn.jpg", "duration": 60}], "path": "clips/"}).encode()


def busy(name: str) -> bytes:
    """A manifest whose run keeps its listener busy as long as a test may take."""
    return json.dumps({"images": [{"image": "dawn.jpg", "duration": 60}] * 10, "path": f"busy/{name}/"}).encode()


def settled() -> None:
    """Long enough for somebody to do it again, if anybody did."""
    time.sleep(4.0)


def frames(data: bytes) -> int:
    """How many pictures of a video can be decoded."""
    with av.open(io.BytesIO(data), "r") as video:
        return sum(1 for _ in video.decode(video=0))


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in taken]


@pytest.fixture
def several(
    tmp_path: Path, minio_server: Any, minio_client: Minio, minio_bucket: str, postgres_url: str
) -> Iterator[Several]:
    """An empty bucket, an empty database, no listener yet."""
    several = Several(tmp_path, minio_server, MinioDrops(minio_client, minio_bucket), postgres_url)
    yield several
    several.close()


def test_two_that_begin_together_on_an_empty_database(several: Several) -> None:
    one, two = several.add(), several.add()
    several.start(one, two)
    assert {member_of(one), member_of(two)} == {"m1", "m2"}
    leader = several.until(several.leader)
    several.put_media()
    several.drops.put("a.job.json", MUX)
    one.done("a.job.json")
    assert [entry["member"] for entry in several.logged("leads")] == [member_of(leader)]
    assert several.runs_by_key() == {"a.job.json": 1}
    assert not [line for each in (one, two) for line in each.log_text().splitlines() if '"level": "error"' in line]
    for each in (one, two):
        shown = each.command("status").stdout
        assert "done" in shown
        assert "a.job.json" in shown
    place = member_of(leader)
    leader.kill()
    leader.start()
    several.until(lambda: len(leader.logged("ready")) == 2)
    assert member_of(leader) == place
    assert several.until(several.leader) in (one, two)


def test_a_burst_while_the_leader_is_killed(several: Several) -> None:
    """What has to be done is among the first: every slot of those who stay is soon taken by a run that waits."""
    keys = [f"burst/{i % 13:02}/{i:04}.job.yaml" for i in range(600)]
    work = [f"work/{i}.job.json" for i in range(6)]
    several.start(*(several.add(concurrent_runs=100) for _ in range(3)))
    several.put_media("work/")
    leader = several.until(several.leader)

    def dropped(n: int) -> None:
        if n % 10 == 0 and n <= 60:
            several.drops.put(work[n // 10 - 1], mux(f"muxed-{n}.mp4"))
        if n == 300:
            leader.kill()

    several.drop(keys, dropped)
    every = {*keys, *work}
    several.until(lambda: several.runs_by_key().keys() >= every)
    outputs = [leader.done(key)["outputs"][0]["key"] for key in work]
    assert outputs == [f"work/muxed-{n}.mp4" for n in (10, 20, 30, 40, 50, 60)]
    several.until(lambda: several.leader() not in (None, leader) and not several.left_by(member_of(leader)))
    assert several.runs_by_key() == dict.fromkeys(every, 1)

    def told_done() -> set[str]:
        """One that was killed between its last word and the log is found done by whoever takes over."""
        return {entry["key"] for event in ("run_done", "run_found_done") for entry in several.logged(event)}

    several.until(lambda: told_done() == set(work))
    assert max(Counter(entry["key"] for entry in several.logged("run_done")).values()) == 1
    # Asked of the ledger: one that was killed between recording runs and the log says nothing of them.
    assert several.told() <= {row[0] for row in several.ask("SELECT run_id FROM gpudrop_runs")}


def test_a_long_job_of_one_that_is_killed(several: Several) -> None:
    one, two = several.add(), several.add()
    several.start(one, two)
    several.put_media()
    several.drops.put("slow.job.json", SLOW)
    status = one.running("slow.job.json", percent=12)
    killed = several.who_works(status["run_id"])
    heir = two if killed is one else one
    killed.kill()
    done = heir.done("slow.job.json")
    assert done["run_id"] == status["run_id"]
    assert [file["key"] for file in done["outputs"]] == ["clips/video_1.mp4"]
    assert frames(several.drops.get("clips/video_1.mp4") or b"") == 6 * 24
    settled()
    assert several.runs_by_key() == {"slow.job.json": 1}
    assert [entry["key"] for entry in several.logged("run_done")] == ["slow.job.json"]
    assert heir.document("slow.job.json", "done") == done
    assert heir.document("slow.job.json", "status") is None


def test_one_that_comes_back_in_the_middle_of_it(several: Several) -> None:
    keys = [f"burst/{i:03}.job.yaml" for i in range(300)]
    one, two = several.add(concurrent_runs=300), several.add(concurrent_runs=300)
    one.start()
    two.start()
    starting = threading.Thread()

    def dropped(n: int) -> None:
        nonlocal starting
        if n in (60, 260):
            one.kill()
            starting = threading.Thread(target=one.start)
            starting.start()
        if n in (200, 300):
            starting.join()
            several.until(lambda: len(one.logged("ready")) == n // 100)

    several.drop(keys, dropped)
    several.until(lambda: several.runs_by_key().keys() >= set(keys) and len(several.told()) == len(keys))
    assert several.runs_by_key() == dict.fromkeys(keys, 1)
    # While its work is being taken over, its place is nobody's: then it takes the next one.
    assert {entry["member"] for entry in one.logged("ready")} <= {"m1", "m3"}
    assert not several.logged("place_lost")


def test_runs_that_a_killed_one_had_claimed_are_begun_by_another(several: Several) -> None:
    """Killed between its claim and its engine: no crash hits that moment surely, so its claim is written here."""
    one, two = several.add(concurrent_runs=1), several.add(concurrent_runs=1)
    one.start()
    two.start()
    several.put_media()
    for key in ("first.job.json", "second.job.json"):
        several.drops.put(key, busy(key))
    several.until(lambda: several.told_by() == {"m1": 1, "m2": 1})
    several.drops.put("claimed.job.json", MUX)
    several.until(lambda: "claimed.job.json" in several.runs_by_key())
    several.ask("UPDATE gpudrop_runs SET member = 'm1' WHERE key = 'claimed.job.json' RETURNING key")
    one.kill()
    for key in ("first", "second"):
        assert two.command("cancel", f"{key}.job.json").returncode == 0
        assert two.failed(f"{key}.job.json")["code"] == "cancelled"
    two.done("claimed.job.json")
    assert several.runs_by_key() == {"first.job.json": 1, "second.job.json": 1, "claimed.job.json": 1}


def test_a_run_that_is_taken_over_waits_in_the_ledger_as_well(several: Several) -> None:
    one, two = several.add(), several.add()
    several.start(one, two)
    several.drops.put("w/a.job.json", MUX)
    (teller,) = several.until(several.told_by)
    killed = several.named(teller)
    killed.kill()
    heir = two if killed is one else one
    several.until(lambda: several.logged("taken_over"))
    several.until(lambda: several.ask("SELECT 1 FROM gpudrop_runs WHERE state = 'waiting' AND member = ''"))
    several.put_media("w/")
    heir.done("w/a.job.json")
    # Nobody had lost it meanwhile.
    assert not several.logged("run_told_again")


def test_a_cancel_reaches_whoever_works(several: Several) -> None:
    """The first run keeps the leader busy, so that the others are told by the other one."""
    one, two = several.add(concurrent_runs=1), several.add(concurrent_runs=1)
    several.start(one, two)
    leader = several.until(several.leader)
    other = two if leader is one else one
    several.put_media()
    several.drops.put("busy.job.json", busy("busy"))
    several.until(lambda: several.told_by() == {member_of(leader): 1})
    several.drops.put("a.job.json", LONG)
    assert several.who_works(other.running("a.job.json", percent=11)["run_id"]) is other
    several.drops.put("a.cancel", b"please")
    assert leader.failed("a.job.json")["code"] == "cancelled"
    several.drops.put("b.job.json", LONG)
    run_id = other.running("b.job.json", percent=11)["run_id"]
    assert several.who_works(run_id) is other
    assert leader.command("cancel", run_id).returncode == 0
    assert leader.failed("b.job.json")["code"] == "cancelled"
    several.until(lambda: not [each for each in other.children() if "ffmpeg" in name_of(each)])
    assert not [key for key in several.drops.listing() if key.startswith("clips/")]
    several.drops.put("c.job.json", MUX)
    first = other.done("c.job.json")
    assert leader.command("redrive", "c.job.json").returncode == 0
    leader.until(lambda: (d := other.document("c.job.json", "done")) and d != first)
    settled()
    assert several.runs_by_key()["c.job.json"] == 2


def test_two_receivers_that_are_told_of_every_drop(tmp_path: Path, postgres_url: str) -> None:
    ports = free_ports(2)
    environment: dict[str, str] = {}
    for name, port in zip("AB", ports, strict=True):
        target = {"ENABLE": "on", "ENDPOINT": f"http://127.0.0.1:{port}/minio", "AUTH_TOKEN": "two"}
        queue = tmp_path / f"queue-{name}"
        queue.mkdir()
        environment |= {f"MINIO_NOTIFY_WEBHOOK_{key}_{name}": value for key, value in target.items()}
        environment[f"MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_{name}"] = str(queue)
    minio = start_minio("minio", tmp_path / "minio", environment=environment)
    client = admin_client(minio)
    client.make_bucket("drops")
    several = Several(tmp_path, minio, MinioDrops(client, "drops"), postgres_url)
    try:
        for port in ports:
            source = {"kind": "webhook", "listen": f"127.0.0.1:{port}", "path": "/minio"}
            several.add({"GPUDROP_WEBHOOK_TOKEN": "two"}, sources=[source], concurrent_runs=200)
        several.start(*several.listeners)
        events = ["s3:ObjectCreated:Put"]
        told = [QueueConfig(queue=f"arn:minio:sqs::{name}:webhook", events=events) for name in "AB"]
        client.set_bucket_notification("drops", NotificationConfig(queue_config_list=told))
        keys = [f"burst/{i:03}.job.yaml" for i in range(200)]
        several.drop(keys)
        several.until(lambda: several.runs_by_key().keys() >= set(keys))
        several.until(lambda: not several.ask("SELECT key FROM gpudrop_inbox") and several.receivers() == {"m1", "m2"})
        assert several.runs_by_key() == dict.fromkeys(keys, 1)
        several.until(lambda: len(several.told()) == len(keys))
    finally:
        several.close()
        servers.stop(minio)


def test_the_engines_records_are_lost_and_one_listener_stays_away(several: Several) -> None:
    first, second = several.add(concurrent_runs=2), several.add(concurrent_runs=2)
    several.start(first, second)
    several.put_media()
    keys = [f"{n}.job.json" for n in range(4)]
    for n, key in enumerate(keys):
        body = {"images": [{"image": "dawn.jpg", "duration": 20}], "path": f"{n}/"}
        several.drops.put(key, json.dumps(body).encode())
    several.until(lambda: sum(several.told_by().values()) == len(keys) and len(several.told_by()) == 2)
    several.until(lambda: not several.ask("SELECT 1 FROM gpudrop_runs WHERE state = 'accepted'"))
    first.kill()
    second.kill()
    for n, key in enumerate(keys):
        assert first.document(key, "done") is None
        if n % 2:
            several.drops.put(f"{n}.cancel", b"")
    with psycopg.connect(several.url, autocommit=True, connect_timeout=30) as connection:
        connection.execute("DROP SCHEMA dbos CASCADE")
    first.start()
    for n, key in enumerate(keys):
        assert (first.ended(key)["code"] == "cancelled") == bool(n % 2)
    told_again = {entry["key"] for entry in first.logged("run_told_again")}
    assert told_again == set(keys)
    assert several.runs_by_key() == Counter(keys)
