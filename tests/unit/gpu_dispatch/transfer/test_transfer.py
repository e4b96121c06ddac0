"""The way of files in and out, against a real server on this machine."""

import asyncio
import base64
import contextlib
import random
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from gpu_dispatch.net.resolver import is_trusted
from gpu_dispatch.net.retries import RetryPolicy
from gpu_dispatch.task import TaskInput, TaskOutput
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.transfer import Transfer
from manifests.errors import (
    AddressNotAllowed,
    GpuDropError,
    InputDenied,
    InputEmpty,
    InputMissing,
    InputTooLarge,
    InvalidPath,
    StoreDenied,
    TransferFailed,
)
from manifests.text import without_secrets_in

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

THREE = RetryPolicy(0.02, 0.02, attempts=3)
QUICK = TransferLimits(connect_s=5, idle_s=1, total_s=30, retries=THREE, trusted_retries=THREE)
MEDIA = bytes(random.Random(1).randbytes(3 * 2**20 + 17))
SIGNED = "?X-Amz-Signature=topsecret"


@dataclass
class Server:
    """Answers with what the test put into `answers`, one per request; the last one again and again."""

    port: int = 0
    answers: list[Answer] = field(default_factory=list)
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/a.mp4") -> str:
        return f"http://{self.host}{path}{SIGNED}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


def gives(body: bytes = MEDIA, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


def coded(coding: str, body: bytes) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"Content-Encoding": coding})

    return answer


def leads_to(location: str, status: int = 302) -> Answer:
    return gives(b"", status, Location=location)


async def breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(MEDIA))})
    await response.prepare(request)
    await response.write(MEDIA[: 2**20])
    request.transport.close()
    return response


async def stalls(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(MEDIA))})
    await response.prepare(request)
    await response.write(MEDIA[:1000])
    with contextlib.suppress(ConnectionError):
        await asyncio.sleep(20)
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(2**16))


def transfer(*trusted: str, root: Path | None = None, most: int = 2**30, limits: TransferLimits = QUICK) -> Transfer:
    return Transfer(file_root=root, trusted_hosts=trusted, max_input_bytes=most, limits=limits, rng=random.Random(0))


async def download(way: Transfer, url: str, to: Path) -> list[float]:
    moved: list[float] = []
    async with way:
        await way.download(TaskInput(to.name, url), to, moved.append)
    return moved


async def upload(way: Transfer, path: Path, url: str) -> None:
    async with way:
        await way.upload(path, TaskOutput(path.name, url, "video/mp4"), lambda _: None)


async def test_fetches_a_file_whole_and_tells_how_far_it_is(server: Server, tmp_path: Path) -> None:
    server.answers = [gives()]
    moved = await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == MEDIA
    assert moved == sorted(moved)
    assert moved[-1] == 1.0 and any(0 < part < 1 for part in moved)
    assert server.seen[0].raw_path == "/a.mp4" + SIGNED


async def test_a_signed_address_reaches_the_server_unchanged(server: Server, tmp_path: Path) -> None:
    server.answers = [gives()]
    path = "/b/a%2Bb%20c%C3%A9%7E.mp4?X-Amz-Credential=k%2F2026%2Fs3&sig=a%2Bb%3D"
    await download(transfer(server.host), f"http://{server.host}{path}", tmp_path / "a")
    assert server.seen[0].raw_path == path


async def test_an_address_as_people_write_it_is_quoted(server: Server, tmp_path: Path) -> None:
    server.answers = [leads_to("/wo anders/ü.mp4"), gives()]
    await download(transfer(server.host), f"http://{server.host}/mein Lied/ä|b.mp4?x=1", tmp_path / "a")
    assert [r.raw_path for r in server.seen] == ["/mein%20Lied/%C3%A4%7Cb.mp4?x=1", "/wo%20anders/%C3%BC.mp4"]


@pytest.mark.parametrize("problem", [gives(b"", 500), gives(b"", 503), gives(b"", 429), breaks_off, stalls])
async def test_trouble_that_passes_is_tried_again(server: Server, tmp_path: Path, problem: Answer) -> None:
    server.answers = [problem, gives()]
    await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == MEDIA
    assert len(server.seen) == 2


@pytest.mark.parametrize("problem", [gives(b"", 500), breaks_off, stalls])
async def test_trouble_that_stays_ends_in_a_retryable_error(server: Server, tmp_path: Path, problem: Answer) -> None:
    server.answers = [problem]
    with pytest.raises(TransferFailed) as caught:
        await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert caught.value.retryable
    assert len(server.seen) == THREE.attempts
    assert "topsecret" not in str(caught.value.info)


@pytest.mark.parametrize(
    ("answer", "kind", "retryable"),
    [
        (gives(b"", 404), InputMissing, False),
        (gives(b"", 410), InputMissing, False),
        (gives(b"<Error><Message>Request has expired</Message></Error>", 403), InputDenied, True),
        (gives(b"", 200), InputEmpty, False),
        (gives(b"", 400), TransferFailed, False),
        (endless, InputTooLarge, False),
        (gives(bytes(2**22)), InputTooLarge, False),
    ],
)
async def test_what_an_answer_means_is_said_at_once(
    server: Server, tmp_path: Path, answer: Answer, kind: type[GpuDropError], retryable: bool
) -> None:
    server.answers = [answer]
    with pytest.raises(GpuDropError) as caught:
        await download(transfer(server.host, most=2**21), server.url(), tmp_path / "a.mp4")
    assert (type(caught.value), caught.value.retryable) == (kind, retryable)
    assert caught.value.info.where == "a.mp4" and caught.value.info.hint
    assert len(server.seen) == 1
    assert "topsecret" not in str(caught.value.info)


@pytest.mark.parametrize(
    "refusal",
    [
        gives(b"<Error><Code>InvalidAccessKeyId</Code></Error>", 403),
        gives(b"<Error><Code>NoSuchBucket</Code></Error>", 404),
        gives(b"<Error><Code>RequestTimeout</Code></Error>", 400),
        gives(b"<Error><Code>OperationAborted</Code></Error>", 409),
        gives(b"<Error><Code>ClientDisconnected</Code></Error>", 499),
    ],
    ids=["403", "404", "400", "409", "499"],
)
async def test_a_refusal_of_the_store_may_be_taken_back(server: Server, tmp_path: Path, refusal: Answer) -> None:
    server.answers = [refusal, gives()]
    await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == MEDIA
    server.answers, server.seen[:] = [refusal, refusal, gives(b"")], []
    await upload(transfer(server.host), tmp_path / "a.mp4", server.url("/out.mp4"))
    assert len(server.seen) == 3


async def test_a_refusal_that_stays_is_told_as_one(server: Server, tmp_path: Path) -> None:
    server.answers = [gives(b"no", 403)]
    with pytest.raises(InputDenied) as caught:
        await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert not caught.value.retryable and caught.value.info.hint
    assert len(server.seen) == THREE.attempts


async def test_an_empty_body_without_a_length_is_an_empty_input(server: Server, tmp_path: Path) -> None:
    async def nothing(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        return response

    server.answers = [nothing]
    with pytest.raises(InputEmpty):
        await download(transfer(server.host), server.url(), tmp_path / "a.mp4")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "aws-chunked, GZIP"])
async def test_what_comes_compressed_though_it_was_asked_for_as_it_is_is_refused(
    server: Server, tmp_path: Path, coding: str
) -> None:
    """A few bytes would inflate to as much as all inputs may have together."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    server.answers = [coded(coding, bomb.compress(bytes(2**24)) + bomb.flush())]
    with pytest.raises(TransferFailed, match="compressed") as caught:
        await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert not caught.value.retryable and len(server.seen) == 1 and SIGNED not in str(caught.value)
    assert server.seen[0].headers["Accept-Encoding"] == "identity"
    assert not (tmp_path / "a.mp4").exists()


async def test_a_coding_that_is_only_a_stores_note_changes_nothing(server: Server, tmp_path: Path) -> None:
    server.answers = [coded("aws-chunked", MEDIA)]
    await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == MEDIA


async def test_the_limit_counts_all_inputs_and_failed_attempts_give_theirs_back(server: Server, tmp_path: Path) -> None:
    server.answers = [breaks_off, gives()]
    async with transfer(server.host, most=len(MEDIA) + 10) as way:
        await way.download(TaskInput("a", server.url()), tmp_path / "a", lambda _: None)
        with pytest.raises(InputTooLarge):
            await way.download(TaskInput("b", server.url()), tmp_path / "b", lambda _: None)


async def test_a_file_that_takes_too_long_is_given_up(server: Server, tmp_path: Path) -> None:
    server.answers = [endless]
    limits = TransferLimits(total_s=0.3, retries=THREE)
    with pytest.raises(TransferFailed, match="longer than"):
        await download(transfer(server.host, most=2**50, limits=limits), server.url(), tmp_path / "a")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:{port}",
        "localhost:{port}",
        "2130706433:{port}",
        "127.1:{port}",
        "0x7f.1:{port}",
        "[::ffff:127.0.0.1]:{port}",
    ],
)
async def test_private_addresses_are_never_contacted(server: Server, tmp_path: Path, host: str) -> None:
    server.answers = [gives()]
    with pytest.raises(AddressNotAllowed):
        await download(transfer("elsewhere"), f"http://{host.format(port=server.port)}/a.mp4", tmp_path / "a")
    assert server.seen == []


async def test_a_name_that_leads_to_a_private_address_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the name's owner answers cannot matter: the check looks at the address the connection would go to."""
    ask = socket.getaddrinfo

    def rebound(host: str, *args: Any, **options: Any) -> Any:
        return ask("127.0.0.1" if host == "media.example.com" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    server.answers = [gives()]
    url = f"http://media.example.com:{server.port}/a.mp4"
    with pytest.raises(AddressNotAllowed):
        await download(transfer(server.host), url, tmp_path / "a")
    assert server.seen == []
    await download(transfer("media.example.com"), url, tmp_path / "a")


async def test_a_trusted_port_is_no_trusted_host(server: Server, tmp_path: Path) -> None:
    with pytest.raises(AddressNotAllowed):
        await download(transfer(f"127.0.0.1:{server.port + 1}"), server.url(), tmp_path / "a")


async def test_redirects_are_followed_and_each_hop_is_checked(server: Server, tmp_path: Path) -> None:
    server.answers = [leads_to("/b.mp4", 307), leads_to(f"http://{server.host}/c.mp4"), gives()]
    await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert [r.path for r in server.seen] == ["/a.mp4", "/b.mp4", "/c.mp4"]

    server.answers = [leads_to(f"http://localhost:{server.port}/internal")]
    with pytest.raises(AddressNotAllowed):
        await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert server.seen[-1].path == "/a.mp4"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.com/a"])
async def test_redirects_lead_to_http_only(server: Server, tmp_path: Path, location: str) -> None:
    server.answers = [leads_to(location)]
    with pytest.raises(InvalidPath):
        await download(transfer(server.host), server.url(), tmp_path / "a.mp4")


async def test_redirects_that_never_end_are_given_up(server: Server, tmp_path: Path) -> None:
    server.answers = [leads_to("/again")]
    with pytest.raises(TransferFailed, match="5 redirects"):
        await download(transfer(server.host), server.url(), tmp_path / "a.mp4")
    assert len(server.seen) == 6


async def test_no_server_is_a_retryable_error_without_the_signature(tmp_path: Path) -> None:
    with pytest.raises(TransferFailed) as caught:
        await download(transfer("127.0.0.1"), f"http://127.0.0.1:9/a.mp4{SIGNED}", tmp_path / "a")
    assert caught.value.retryable
    assert "topsecret" not in str(caught.value.info)


async def test_puts_a_file_with_its_length_and_type_and_again_after_trouble(server: Server, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(MEDIA)
    server.answers = [gives(b"", 503), gives(b"")]
    await upload(transfer(server.host), tmp_path / "v.mp4", server.url("/out/v.mp4"))
    assert server.bodies == [MEDIA, MEDIA]
    last = server.seen[-1]
    assert last.method == "PUT"
    assert last.headers["Content-Length"] == str(len(MEDIA)) and last.headers["Content-Type"] == "video/mp4"
    assert "Transfer-Encoding" not in last.headers


@pytest.mark.parametrize(("body", "retryable"), [(b"AccessDenied", False), (b"Request has expired", True)])
async def test_a_refused_put_says_so(server: Server, tmp_path: Path, body: bytes, retryable: bool) -> None:
    (tmp_path / "v.mp4").write_bytes(b"video")
    server.answers = [gives(body, 403)]
    with pytest.raises(StoreDenied) as caught:
        await upload(transfer(server.host), tmp_path / "v.mp4", server.url())
    assert caught.value.retryable is retryable
    assert "topsecret" not in str(caught.value.info)


async def test_a_file_below_the_root_is_read_where_it_lies(tmp_path: Path) -> None:
    root, job = tmp_path / "root", tmp_path / "job"
    (root / "a b").mkdir(parents=True)
    job.mkdir()
    (root / "a b" / "ç#1.mp4").write_bytes(b"video")
    async with transfer(root=root) as way:
        await way.download(TaskInput("a", (root / "a b" / "ç#1.mp4").as_uri()), job / "in.mp4", lambda _: None)
        assert (job / "in.mp4").read_bytes() == b"video"
    assert (job / "in.mp4").is_symlink()


async def test_nothing_outside_the_root_is_read_or_written(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (tmp_path / "out").write_bytes(b"video")
    for path in (outside / "secret", root / "link", root / "folder" / "secret", root / ".." / "outside" / "secret"):
        with pytest.raises(AddressNotAllowed):
            await download(transfer(root=root), f"file://{path}", tmp_path / "in")
    for path in (outside / "new", root / "folder" / "new", root / "folder" / "deep" / "new", root / ".." / "new"):
        with pytest.raises(AddressNotAllowed):
            await upload(transfer(root=root), tmp_path / "out", f"file://{path}")
    with pytest.raises(AddressNotAllowed):
        await download(transfer(root=None), f"file://{outside / 'secret'}", tmp_path / "in")
    assert sorted(p.name for p in outside.iterdir()) == ["secret"]


async def test_inputs_that_are_no_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, kind in (("empty", InputEmpty), ("missing", InputMissing), ("", InputMissing)):
        with pytest.raises(kind):
            await download(transfer(root=tmp_path), (tmp_path / name).as_uri(), tmp_path / "job" / "in")


async def test_an_output_replaces_the_old_file_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "x").mkdir(parents=True)
    (root / "x" / "v.mp4").write_bytes(b"old")
    for n, target in enumerate((root / "x" / "v.mp4", root / "deep" / "new folder" / "v.mp4")):
        made = tmp_path / f"made{n}"
        made.write_bytes(MEDIA)
        await upload(transfer(root=root), made, target.as_uri())
        assert target.read_bytes() == MEDIA
    assert list((root / ".gpudrop" / "tmp").iterdir()) == []


async def test_data_addresses(tmp_path: Path) -> None:
    text = base64.b64encode(MEDIA).decode()
    await download(transfer(), f"data:audio/mpeg;base64,{text}", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == MEDIA
    for url, kind in (("data:;base64,@@", InvalidPath), ("data:;base64,", InputEmpty), ("data:none", InvalidPath)):
        with pytest.raises(kind):
            await download(transfer(), url, tmp_path / "b")
    with pytest.raises(InputTooLarge):
        await download(transfer(most=1000), f"data:;base64,{text}", tmp_path / "c")


def test_trust_is_by_host_and_port() -> None:
    assert is_trusted(URL("http://MinIO:9000/a"), ["minio:9000"])
    assert is_trusted(URL("https://minio/a"), ["minio:443"])
    assert is_trusted(URL("http://[::1]:9000/a"), ["[::1]:9000"])
    assert not is_trusted(URL("http://minio:9001/a"), ["minio:9000"])
    assert not is_trusted(URL("http://minio.evil.example/a"), ["minio"])


@given(st.text(), st.text(alphabet="abc?&=#@/"))
def test_messages_never_show_a_query(secret: str, rest: str) -> None:
    marker = "S3CR3T" + secret.replace("?", "").replace("#", "")
    assert "S3CR3T" not in without_secrets_in(f"https://user:pw@host.example/path?{marker}{rest}")
