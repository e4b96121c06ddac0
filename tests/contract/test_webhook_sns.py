"""Amazon SNS at the webhook receiver: its signature as proof, and subscriptions confirmed at its own address."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from structlog.testing import capture_logs

from listener.sources.webhook.settings import PostSecrets
from listener.sources.webhook.sns import confirms, may_call
from support.deadlines import HANG_S
from support.webhook import BEARER, TOKENS, Receiving, message, receiving

TOPIC = "arn:aws:sns:eu-west-1:123456789012:drops"
OTHER = "arn:aws:sns:eu-west-1:123456789012:other"


@dataclass
class Service:
    """A service that signs as Amazon SNS does, and answers what its messages refer to with `status`."""

    certificate: bytes
    key: rsa.RSAPrivateKey
    host: str = ""
    status: int = 200
    asked: list[str] = field(default_factory=list)
    stuck: bool = False

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(request.path_qs)
        if self.stuck:
            await asyncio.Event().wait()
        body = self.certificate if request.path.endswith(".pem") else b"<ConfirmSubscriptionResponse/>"
        return web.Response(status=self.status, body=body, headers={"Location": f"http://{self.host}/elsewhere"})

    def confirmation(self, topic: str = TOPIC, **changes: str) -> dict[str, str]:
        query = {"Action": "ConfirmSubscription", "TopicArn": topic, "Token": "2336412f37"}
        url = f"http://{self.host}/?{urlencode(query)}"
        return self.sign("SubscriptionConfirmation", topic, {"SubscribeURL": url, "Token": "2336412f37", **changes})

    def notification(self, key: str = "a.mp3", topic: str = TOPIC, **changes: str) -> dict[str, str]:
        return self.sign("Notification", topic, {"Message": message(key).decode(), **changes})

    def sign(self, kind: str, topic: str, changes: dict[str, str]) -> dict[str, str]:
        told = {
            "Type": kind,
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": topic,
            "Message": "You have chosen to subscribe to the topic",
            "Timestamp": "2026-11-21T12:00:00.000Z",
            "SignatureVersion": "2",
            "SigningCertURL": f"http://{self.host}/SimpleNotificationService-1.pem",
            **changes,
        }
        covered = [
            name
            for name in ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
            if name in told
        ]
        text = "".join(f"{name}\n{told[name]}\n" for name in covered)
        digest = hashes.SHA256() if told["SignatureVersion"] == "2" else hashes.SHA1()
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), digest)
        return {**told, "Signature": base64.b64encode(signature).decode()}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[bytes, rsa.RSAPrivateKey]]:
    issued = trustme.CA().issue_cert("sns.amazonaws.com", key_type=trustme.KeyType.RSA)
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    yield issued.cert_chain_pems[0].bytes(), key


@pytest.fixture
async def service(pair: tuple[bytes, rsa.RSAPrivateKey]) -> AsyncIterator[Service]:
    service = Service(*pair)
    runner = web.ServerRunner(web.Server(service.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.host = f"127.0.0.1:{site.port}"
    yield service
    await runner.cleanup()


@asynccontextmanager
async def subscribed(service: Service, secrets: PostSecrets = TOKENS, **settings: Any) -> AsyncIterator[Receiving]:
    topics, hosts = frozenset({TOPIC}), frozenset({service.host})
    async with receiving(secrets=secrets, sns_topics=topics, sns_hosts=hosts, **settings) as receiver:
        yield receiver


async def post(receiver: Receiving, told: dict[str, Any], **options: Any) -> int:
    headers = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-topic-arn": told["TopicArn"]}
    return await receiver.post(json.dumps(told).encode(), headers=headers, **options)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_signed_message_of_a_listed_topic_needs_no_other_proof(service: Service, version: str) -> None:
    async with subscribed(service, PostSecrets()) as receiver:
        for key in ("a.mp3", "b.mp3"):
            assert await post(receiver, service.notification(key, SignatureVersion=version)) == 200
        told = service.notification("c.mp3", SignatureVersion=version, Subject="Amazon S3 Notification")
        assert await post(receiver, told) == 200
        assert await post(receiver, service.confirmation(SignatureVersion=version)) == 200
    assert receiver.inbox.created == {"a.mp3": 1, "b.mp3": 1, "c.mp3": 1}
    certificates = [path for path in service.asked if path.endswith(".pem")]
    assert len(certificates) == 1, "it is kept"
    assert any("ConfirmSubscription" in path for path in service.asked)


async def test_a_message_that_was_changed_is_refused(service: Service) -> None:
    async with subscribed(service) as receiver:
        for name, value in (
            ("Message", message("b.mp3").decode()),
            ("Timestamp", "2026-11-21T12:00:01.000Z"),
            ("Subject", "added"),
            ("Signature", "AAAA"),
            ("Signature", "*"),
            ("SignatureVersion", "1"),
            ("SignatureVersion", "3"),
            ("SigningCertURL", f"http://{service.host}/certificate"),
            ("SigningCertURL", "https://drops.s3.amazonaws.com/SimpleNotificationService-1.pem"),
            ("SigningCertURL", f"http://{service.host}/SimpleNotificationService-1.pem?x=1"),
            ("Type", "SubscriptionConfirmation"),
        ):
            assert await post(receiver, {**service.notification(), name: value}) == 401, name
        assert not receiver.inbox.events
        assert not [path for path in service.asked if "?" in path], "nothing is fetched for a stranger's address"
        service.certificate = b"no certificate"
        told = service.notification(SigningCertURL=f"http://{service.host}/other.pem")
        assert await post(receiver, told) == 401
        assert receiver.inbox.counts == {"wrong_signature": 12}


async def test_a_topic_that_is_not_listed_is_refused_whatever_is_shown(service: Service) -> None:
    async with subscribed(service) as receiver:
        told = json.dumps(service.notification(topic=OTHER)).encode()
        assert await receiver.post(told, headers={"x-amz-sns-topic-arn": OTHER}) == 401
        assert await receiver.post(told, headers={"x-amz-sns-topic-arn": TOPIC}) == 403
        assert await receiver.post(told) == 403
        assert await receiver.post(message("raw.mp3"), headers=BEARER | {"x-amz-sns-topic-arn": OTHER}) == 403
        assert await receiver.post(json.dumps(service.confirmation(OTHER)).encode()) == 403
        assert receiver.inbox.counts == {"wrong_token": 1, "sns_topic_not_listed": 4}
    assert not receiver.inbox.events
    assert not any("ConfirmSubscription" in path for path in service.asked)


async def test_without_topics_nothing_of_sns_is_taken(service: Service) -> None:
    async with receiving() as receiver:
        assert await receiver.post(json.dumps(service.notification()).encode()) == 403
        assert await receiver.post(json.dumps(service.confirmation()).encode()) == 403
    assert not service.asked


async def test_a_subscription_is_confirmed_once_another_proof_is_shown(service: Service) -> None:
    async with subscribed(service) as receiver:
        told = {**service.confirmation(), "Signature": "AAAA"}
        with capture_logs() as logs:
            assert await receiver.post(json.dumps(told).encode()) == 200
    assert len(service.asked) == 1
    assert [line["topic"] for line in logs if line["event"] == "sns_confirmed"] == [TOPIC]


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://evil.s3.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "file:///etc/passwd",
        "not an address",
    ],
)
async def test_no_other_address_is_ever_called(service: Service, url: str) -> None:
    async with subscribed(service) as receiver:
        told = json.dumps(service.confirmation(SubscribeURL=url)).encode()
        assert await receiver.post(told) in (202, 403)
        assert not {"sns_not_confirmed", "unknown_shape"}.isdisjoint(receiver.inbox.counts)
    assert not service.asked


async def test_nothing_but_the_confirmation_of_that_topic_is_called(service: Service) -> None:
    async with subscribed(service) as receiver:
        for query in ("", "?Action=Publish&TopicArn=" + TOPIC, "?Action=ConfirmSubscription&TopicArn=" + OTHER):
            told = json.dumps(service.confirmation(SubscribeURL=f"http://{service.host}/{query}")).encode()
            assert await receiver.post(told) == 403
    assert not service.asked


async def test_a_service_in_trouble_is_asked_again_later(service: Service) -> None:
    async with subscribed(service) as receiver:
        service.status = 503
        assert await receiver.post(json.dumps(service.confirmation()).encode()) == 503
        assert await post(receiver, service.notification()) == 503
        service.status = 302
        assert await receiver.post(json.dumps(service.confirmation()).encode()) == 403
        service.status = 200
        assert await receiver.post(json.dumps(service.confirmation()).encode()) == 200
        assert await post(receiver, service.notification()) == 200
    assert not any("elsewhere" in path for path in service.asked)


async def test_a_service_that_never_answers_is_given_up(service: Service) -> None:
    service.stuck = True
    async with subscribed(service, sns_timeout_s=0.2) as receiver:
        assert await receiver.post(json.dumps(service.confirmation()).encode()) == 503


async def test_a_stranger_who_names_a_slow_certificate_holds_nobody_up(service: Service) -> None:
    async with subscribed(service, sns_timeout_s=2 * HANG_S) as receiver:
        assert await post(receiver, service.notification()) == 200
        service.stuck = True
        slow = f"http://{service.host}/slow.pem"
        stranger = asyncio.create_task(post(receiver, service.notification(SigningCertURL=slow)))
        async with asyncio.timeout(HANG_S):
            while not any("slow" in path for path in service.asked):
                await asyncio.sleep(0.02)
            assert await post(receiver, service.notification("b.mp3")) == 200
        stranger.cancel()
        await asyncio.wait([stranger])


async def test_being_unsubscribed_is_told_and_not_undone(service: Service) -> None:
    async with subscribed(service) as receiver:
        told = {**service.confirmation(), "Type": "UnsubscribeConfirmation"}
        assert await receiver.post(json.dumps(told).encode()) == 200
        assert receiver.inbox.counts == {"sns_unsubscribed": 1}
    assert not service.asked


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://sns.eu-west-1.amazonaws.com/a.pem", True),
        ("https://sns.cn-north-1.amazonaws.com.cn/a.pem", True),
        ("https://sns.eu-west-1.amazonaws.com:443/", True),
        ("http://localhost:4566/a.pem", True),
        ("https://localhost:4566/a.pem", True),
        ("http://localhost:4567/a.pem", False),
        ("http://sns.eu-west-1.amazonaws.com/a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com:444/a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com.evil.example/a.pem", False),
        ("https://evil.example/sns.eu-west-1.amazonaws.com/a.pem", False),
        ("https://user@sns.eu-west-1.amazonaws.com/a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com@evil.example/a.pem", False),
        ("https://xsns.eu-west-1.amazonaws.com/a.pem", False),
        ("https://sns.a.s3.amazonaws.com/a.pem", False),
        ("https://SNS.eu-west-1.amazonaws.com:99999/a.pem", False),
        ("https://[sns.eu-west-1.amazonaws.com/a.pem", False),
        ("ftp://localhost:4566/a.pem", False),
        ("//localhost:4566/a.pem", False),
        ("", False),
    ],
)
def test_only_amazon_and_named_hosts_may_be_called(url: str, allowed: bool) -> None:
    assert may_call(url, frozenset({"localhost:4566"})) is allowed


def test_a_confirmation_names_its_topic_once() -> None:
    good = f"https://x/?Action=ConfirmSubscription&TopicArn={TOPIC}"
    assert confirms(good, TOPIC)
    assert confirms(f"https://x/?{urlencode({'TopicArn': TOPIC, 'Action': 'ConfirmSubscription'})}", TOPIC)
    assert not confirms(f"{good}&TopicArn={OTHER}", TOPIC)
    assert not confirms(f"{good}&Action=Unsubscribe", TOPIC)
