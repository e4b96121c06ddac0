"""What a hostile worker gets from its job's links: on MinIO, both builds, and on stores without temporary keys."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import urllib3

from listener.config.credentials import AccessKeys
from listener.dispatch.link_guard import LinkGuard
from listener.stores.base import JobLinks, JobObjects
from listener.stores.folder import FolderStore
from listener.stores.s3.clients import StsSettings
from listener.stores.s3.link_probe import FOLDER
from listener.stores.s3.policies import deny_copies
from listener.stores.s3.store import S3Store
from manifests.errors import StoreDenied
from support.keys import ODD_KEYS
from support.minio_users import Users, listener_policy
from support.stores import new_bucket, settings_for, start_minio

pytestmark = pytest.mark.minio

_HTTP = urllib3.PoolManager(retries=False)


def ask(method: str, url: str, body: bytes | None = None, **headers: str) -> urllib3.BaseHTTPResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return _HTTP.request(method, url, body=body, headers=named)


@asynccontextmanager
async def store_of(server: Any, bucket: str, **changes: Any) -> AsyncIterator[S3Store]:
    store = S3Store(settings_for(server, bucket, **changes))
    yield store
    await store.close()


@pytest.fixture(scope="module")
def head_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from support.stores import servers

    server = start_minio("minio-head", tmp_path_factory.mktemp("head"))
    yield server
    servers.stop(server)


async def job_links(store: S3Store, lifetime_s: int = 900) -> JobLinks:
    bucket = store.buckets[0]
    return await store.links(JobObjects(reads=((bucket, "in"),), writes=((bucket, "out"),)), lifetime_s=lifetime_s)


async def test_a_link_opens_nothing_but_its_object(s3_store: S3Store) -> None:
    """The whole attack: a copy of another object onto the job's own output, whole and as a part."""
    bucket = s3_store.buckets[0]
    for key in ("in", "secret"):
        await s3_store.put(bucket, key, key.encode(), content_type="text/plain")
    links = await job_links(s3_store)
    put = await links.sign("PUT", bucket, "out")
    secret = f"/{bucket}/secret"
    assert ask("PUT", put, b"mine", x_amz_copy_source=secret).status == 403
    assert await s3_store.read(bucket, "out", max_bytes=99) is None
    assert ask("PUT", put, b"mine", x_amz_copy_source=f"/{bucket}/in").status == 403
    assert ask("PUT", put, b"mine").status == 200
    upload = await links.sign_parts(bucket, "out", size_hint=1, part_bytes=1)
    assert upload and ask("PUT", upload.urls.parts[0], b"", x_amz_copy_source=secret).status == 403
    assert ask("PUT", upload.urls.parts[0], b"part").status == 200
    get = await links.sign("GET", bucket, "in")
    assert ask("GET", get).data == b"in" and ask("GET", get.replace("/in?", "/secret?")).status == 403
    await s3_store.abort_parts(bucket, "out", upload.id)
    with pytest.raises(StoreDenied):
        await links.sign("GET", bucket, "secret")


async def test_what_a_job_reads_before_anybody_wrote_it_is_not_found(s3_store: S3Store) -> None:
    """A claim that is not there yet: 403 would look like a store that refuses."""
    links = await job_links(s3_store)
    assert ask("GET", await links.sign("GET", s3_store.buckets[0], "in")).status == 404


async def test_what_is_written_has_the_type_it_was_asked_for_with(s3_store: S3Store) -> None:
    bucket = s3_store.buckets[0]
    links = await job_links(s3_store)
    put = await links.sign("PUT", bucket, "out", content_type="video/mp4")
    assert ask("PUT", put, b"<script>", content_type="text/html").status == 403
    assert ask("PUT", put, b"film", content_type="video/mp4").status == 200


async def test_links_reach_every_key(s3_store: S3Store) -> None:
    bucket = s3_store.buckets[0]
    names = tuple((bucket, f"odd/{key}") for key in ODD_KEYS)
    links = await s3_store.links(JobObjects(names, names), lifetime_s=900)
    for number, (_, key) in enumerate(names):
        body = str(number).encode()
        assert ask("PUT", await links.sign("PUT", bucket, key), body).status == 200, key
        assert ask("GET", await links.sign("GET", bucket, key)).data == body, key
        assert await s3_store.read(bucket, key, max_bytes=9) == body


@pytest.mark.parametrize("letter", ['"', "\\", "é", "日"])
async def test_links_reach_the_longest_keys(s3_store: S3Store, letter: str) -> None:
    """A policy holds such a key, too: one that it did not hold would keep its run, and a place, waiting for a week."""
    bucket = s3_store.buckets[0]
    key = "/".join([letter * (250 // len(letter.encode()))] * 4)
    links = await s3_store.links(JobObjects(((bucket, key),), ((bucket, key),)), lifetime_s=900)
    assert ask("PUT", await links.sign("PUT", bucket, key), b"long").status == 200
    assert ask("GET", await links.sign("GET", bucket, key)).data == b"long"


async def test_jobs_of_many_objects_hold_up_nobody(s3_store: S3Store) -> None:
    """Neither the threads that everything needs, nor a job that has a few objects, nor the event loop."""
    bucket = s3_store.buckets[0]
    large = [
        JobObjects(reads=tuple((bucket, f"{job}/{'x' * 100}-{n}.png") for n in range(1000)))
        for job in range(2 * (os.cpu_count() or 1) + 8)
    ]
    waiting = {asyncio.create_task(s3_store.links(objects, lifetime_s=900)) for objects in large}
    done, _ = await asyncio.wait(waiting, timeout=0.3)
    free = asyncio.create_task(asyncio.to_thread(len, ""))
    small = asyncio.create_task(job_links(s3_store))
    await asyncio.wait({free, small})
    assert free.done() and small.done() and len([task for task in waiting - done if not task.done()]) > len(large) // 2
    for task in waiting:
        task.cancel()
    other = asyncio.create_task(asyncio.sleep(0))
    links = await small
    for _ in range(10):
        await links.sign("GET", bucket, "in")
    assert other.done()


async def test_keys_are_asked_for_once_an_attempt_and_never_outlived(minio_server: Any, minio_bucket: str) -> None:
    sts = StsSettings(longest_s=1800.0)
    async with store_of(minio_server, minio_bucket, sts=sts) as store:
        first, again = await job_links(store), await job_links(store)
        one, two = await first.sign("PUT", minio_bucket, "out"), await again.sign("PUT", minio_bucket, "out")
        assert credential(one) == credential(two)
        other = await store.links(JobObjects(writes=((minio_bucket, "other"),)), lifetime_s=900)
        assert credential(await other.sign("PUT", minio_bucket, "other")) != credential(one)
        long = await job_links(store, lifetime_s=10**6)
        expires = await long.sign("GET", minio_bucket, "in")
        assert 900 < int(parameter(expires, "X-Amz-Expires")) <= store.longest_link_s <= 1800


def parameter(url: str, name: str) -> str:
    return url.partition(f"{name}=")[2].partition("&")[0]


def credential(url: str) -> str:
    return parameter(url, "X-Amz-Credential")


@pytest.mark.parametrize("server", ["minio_server", "head_server"])
async def test_minio_is_safe_with_temporary_keys_and_not_without(server: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(server)
    new_bucket(found, bucket := f"probe-{server[:4]}")
    async with store_of(found, bucket) as store:
        report = await store.probe_links(bucket)
        assert (report.safe, report.narrowed) == (True, True) and "temporary keys" in report.detail
        assert [item async for item in store.list(bucket)] == []
    async with store_of(found, bucket, sts=StsSettings(mode="off")) as store:
        report = await store.probe_links(bucket)
        assert (report.safe, report.narrowed) == (False, False)
        assert deny_copies([bucket]) in report.remedy


@pytest.mark.parametrize("server", ["versitygw_server", "seaweedfs_server"])
async def test_stores_that_refuse_copies_are_safe_as_they_are(server: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(server)
    new_bucket(found, bucket := f"probe-{server[:4]}")
    async with store_of(found, bucket) as store:
        report = await store.probe_links(bucket)
        assert (report.safe, report.narrowed) == (True, False), report
        links = await job_links(store)
        put = await links.sign("PUT", bucket, "out", content_type="video/mp4")
        assert ask("PUT", put, b"film", content_type="video/mp4").status == 200
        assert ask("PUT", put, b"film", content_type="text/html").status == 403


async def test_a_folder_is_safe(folder_store: FolderStore) -> None:
    assert (await folder_store.probe_links("drop")).safe


async def test_a_user_with_the_least_rights_gets_temporary_keys(minio_server: Any, minio_bucket: str) -> None:
    keys = await asyncio.to_thread(Users(minio_server).user, listener_policy(minio_bucket))
    async with store_of(minio_server, minio_bucket, keys=lambda: keys) as store:
        report = await store.probe_links(minio_bucket)
        assert (report.safe, report.narrowed) == (True, True)
        links = await job_links(store)
        assert ask("PUT", await links.sign("PUT", minio_bucket, "out"), b"x").status == 200
        assert not await store.check()


async def test_a_service_account_gets_none_and_is_told_why(minio_server: Any, minio_bucket: str) -> None:
    keys = await asyncio.to_thread(Users(minio_server).service_account)
    async with store_of(minio_server, minio_bucket, keys=lambda: keys) as store:
        report = await store.probe_links(minio_bucket)
        assert (report.safe, report.narrowed) == (False, False) and "service account" in report.detail
    required = StsSettings(mode="required")
    async with store_of(minio_server, minio_bucket, keys=lambda: keys, sts=required) as store:
        with pytest.raises(StoreDenied, match="service account"):
            await job_links(store)


async def test_the_policy_that_is_told_helps(minio_server: Any, minio_bucket: str) -> None:
    """For a user whose store gives no temporary keys: written into its policy, copies are refused."""
    policy = listener_policy(minio_bucket)
    policy["Statement"] += json.loads(deny_copies([minio_bucket]))["Statement"]
    keys = await asyncio.to_thread(Users(minio_server).user, policy)
    async with store_of(minio_server, minio_bucket, keys=lambda: keys, sts=StsSettings(mode="off")) as store:
        report = await store.probe_links(minio_bucket)
        assert (report.safe, report.narrowed) == (True, False)


async def test_nobody_goes_back_to_the_listeners_own_keys(minio_server: Any, minio_bucket: str) -> None:
    """Links that were found safe were signed with temporary keys: when there are none any more, there are no links."""
    given = [AccessKeys(minio_server.access_key, minio_server.secret_key)]
    async with store_of(minio_server, minio_bucket, keys=lambda: given[0]) as store:
        await job_links(store)
        given[0] = await asyncio.to_thread(Users(minio_server).service_account)
        with pytest.raises(StoreDenied, match="temporary keys"):
            await job_links(store)


async def test_a_store_that_was_away_is_tried_again_at_once(minio_server: Any, minio_bucket: str) -> None:
    moments = [0.0]
    store = S3Store(settings_for(minio_server, "there-is-none-yet"))
    guard = LinkGuard(store, frozenset({"far"}), trusted=False, now=lambda: moments[0])
    held = await guard.blocked("there-is-none-yet")
    assert held.names and "does not exist" in held.why
    await asyncio.to_thread(new_bucket, minio_server, "there-is-none-yet")
    moments[0] = 6.0
    assert not (await guard.blocked("there-is-none-yet")).names


class Reconfigured:
    """A store whose settings somebody changes: `now` is the one that is asked."""

    def __init__(self, store: S3Store) -> None:
        self.now = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


async def test_workers_elsewhere_get_nothing_until_links_are_safe(minio_server: Any, minio_bucket: str) -> None:
    moments = [0.0]
    remote = frozenset({"far"})
    settings = settings_for(minio_server, minio_bucket, sts=StsSettings(mode="off"))
    store = Reconfigured(S3Store(settings))
    guard = LinkGuard(store, remote, trusted=False, now=lambda: moments[0])
    held = await guard.blocked(minio_bucket)
    assert held.names == remote and "read every object" in held.why and "trust_workers" in held.hint
    assert (await LinkGuard(store, remote, trusted=True, now=lambda: 0.0).blocked(minio_bucket)).names == frozenset()
    # Somebody has acted: found out by itself, a while later.
    store.now = S3Store(replace(settings, sts=StsSettings()))
    assert (await guard.blocked(minio_bucket)).names == remote
    moments[0] = 61.0
    assert (await guard.blocked(minio_bucket)).names == frozenset()


async def test_other_keys_of_the_listener_are_tried_anew(minio_server: Any, minio_bucket: str) -> None:
    """Where links are signed with the listener's own keys: those in force later may not have the policy that helps."""
    policy = listener_policy(minio_bucket)
    policy["Statement"] += json.loads(deny_copies([minio_bucket]))["Statement"]
    users, moments = Users(minio_server), [0.0]
    given = [await asyncio.to_thread(users.user, policy)]
    async with store_of(minio_server, minio_bucket, keys=lambda: given[0], sts=StsSettings(mode="off")) as store:
        guard = LinkGuard(store, frozenset({"far"}), trusted=False, now=lambda: moments[0])
        assert not (await guard.blocked(minio_bucket)).names
        given[0] = await asyncio.to_thread(users.user, listener_policy(minio_bucket))
        moments[0] = 3601.0
        assert (await guard.blocked(minio_bucket)).names == {"far"}
        given[0] = AccessKeys("nobody", "knows")
        moments[0] = 3700.0
        assert (await guard.blocked(minio_bucket)).names == {"far"}


async def test_what_a_probe_that_was_cut_off_left_is_removed_by_the_next(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, left = s3_store.buckets[0], f"{FOLDER}cut-off/canary"
    await s3_store.put(bucket, left, b"left", content_type="text/plain")
    assert (await s3_store.probe_links(bucket)).safe
    assert await s3_store.head(bucket, left), "another listener may be at work there"
    monkeypatch.setattr("listener.stores.s3.link_probe.STALE_S", -60.0)
    assert (await s3_store.probe_links(bucket)).safe
    assert [item async for item in s3_store.list(bucket, FOLDER)] == []
