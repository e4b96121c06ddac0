"""What receivers answer, and what follows: pure decisions."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from gpu_dispatch.net.failures import retry_after
from listener.ledger.callbacks import CallbackRow
from listener.runs.callbacks import (
    DELIVERED,
    RETRY_AFTER_MAX_S,
    CallbackOutcome,
    callback_outcome,
    callback_state_after,
)
from manifests.callback_urls import callback_url_of, caller_fields
from manifests.documents import document_bytes
from manifests.sidecars import CallbackNote, awaits_callback, with_callback, without_callback

NOW = 1_700_000_000.0
ROW = CallbackRow("run", "http://a/b", "a:80", "waiting", NOW, NOW, NOW, NOW + 86400.0, attempts=1)
HTML = "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("status", "content_type", "text", "kind"),
    [
        (200, "application/json", '{"ok": true}', "delivered"), (204, "", "", "delivered"),
        (202, "text/plain", "ok", "delivered"),
        (200, HTML, "", "delivered"), (200, HTML, "ok", "delivered"), (200, HTML, "<!DOCTYPE html><html>", "failed"),
        (200, HTML, "\ufeff\n<!-- n8n --><html>", "failed"),
        (200, "application/xhtml+xml", "<?xml ?><html/>", "failed"),
        (200, "", "<!doctype HTML>", "failed"), (200, "text/plain", "<!-- a --> <!-- b --><HTML lang=en>", "failed"),
        (200, "text/xml", "<Response/>", "delivered"), (200, "text/plain", "<htmlish>", "delivered"),
        (409, "", "The execution is running already.", "failed"), (409, "", "… has finished already", "delivered"),
        (301, "", "", "refused"), (302, HTML, "<html>", "refused"), (404, "", "", "failed"), (405, "", "", "refused"),
        (410, "", "", "refused"), (413, "", "", "refused"), (401, "", "", "failed"), (429, "", "", "failed"),
        (500, "", "", "failed"), (503, "", "", "failed"),
    ],
)  # fmt: skip
def test_answers(status: int, content_type: str, text: str, kind: str) -> None:
    outcome = callback_outcome(status, {"Content-Type": content_type}, text, NOW)
    assert outcome.kind == kind
    assert (kind == "delivered") == (outcome.error == outcome.hint == "")


def test_no_page_takes_long_to_be_recognised() -> None:
    assert callback_outcome(200, {}, "<!---->" * 600 + "x", NOW) == DELIVERED
    assert callback_outcome(200, {}, "<!--" * 1000, NOW) == DELIVERED


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", 0.0), ("7", 7.0), (" 120 ", 120.0), ("-5", 0.0), ("soon", 0.0), ("1.5", 0.0), ("9" * 30, 0.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0), ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        (f"Tue, 14 Nov 2023 22:14:20 +{'9' * 30}", 0.0), (f"Tue, 14 Nov {'9' * 30} 22:14:20 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after(value: str, seconds: float) -> None:
    assert retry_after(value, NOW) == seconds
    assert callback_outcome(503, {"Retry-After": value}, "", NOW).retry_after_s == seconds


def test_what_follows() -> None:
    rng = random.Random(1)
    failed = CallbackOutcome("failed", "No.", "Wait.", retry_after_s=90.0)
    assert callback_state_after(ROW, DELIVERED, NOW, None, rng).state == "delivered"
    assert callback_state_after(ROW, CallbackOutcome("refused", "Never."), NOW, None, rng).state == "refused"
    waiting = callback_state_after(ROW, failed, NOW, None, rng)
    assert (waiting.state, waiting.last_error, waiting.hint, waiting.due) == ("waiting", "No.", "Wait.", NOW + 90.0)
    endless = callback_state_after(ROW, replace(failed, retry_after_s=1e9), NOW, None, rng)
    assert endless.due == NOW + RETRY_AFTER_MAX_S
    assert callback_state_after(replace(ROW, attempts=6), failed, NOW, 6, rng).state == "given_up"
    assert callback_state_after(replace(ROW, attempts=5), failed, NOW, 6, rng).state == "waiting"
    assert callback_state_after(ROW, failed, ROW.until, None, rng).state == "given_up"
    # The last attempt is made when the time is up, not before it.
    assert callback_state_after(ROW, failed, ROW.until - 10.0, None, rng).due == ROW.until
    assert callback_state_after(replace(waiting, attempts=2), DELIVERED, NOW, None, rng).last_error == ""


def test_waits_grow_and_are_spread() -> None:
    rng = random.Random(1)
    waits = [
        callback_state_after(replace(ROW, attempts=20), CallbackOutcome("failed"), NOW, None, rng).due - NOW
        for _ in range(200)
    ]
    assert max(waits) <= 600.0
    assert min(waits) < 100.0 < 500.0 < max(waits)


def test_a_sidecar_tells_of_its_callback_and_keeps_the_rest() -> None:
    body = b'{"code": 200, "run_id": "run", "warnings": ["other"], "metadata": {"a": "\\ud800"}}\n'
    refused = with_callback(body, "run", CallbackNote("refused", 1, "Private.", "Write this."))
    assert refused is not None
    assert b'"warnings": [\n    "other",\n    "callback_url: Private. Write this."\n  ]' in refused
    assert without_callback(refused) == document_bytes(json.loads(body))
    assert without_callback(body) == body
    assert not awaits_callback(refused)
    assert awaits_callback(with_callback(body, "run", CallbackNote("waiting", 1, "No.")) or b"")
    delivered = with_callback(refused, "run", CallbackNote("delivered", 2))
    assert delivered is not None
    assert b"Private" not in delivered
    assert b'"warnings": [\n    "other"\n  ]' in delivered
    assert b"\\ud800" in delivered
    for other in (b"", b"{", b"[]", b'"run"', b'{"run_id": "another"}', b"[" * 100_000):
        assert with_callback(other, "run", CallbackNote("delivered", 1)) is None
        assert without_callback(other) == other
        assert not awaits_callback(other)


URL = "https://n8n.example/webhook/1"
OTHER = {"callback_url": "https://other.example/"}


@pytest.mark.parametrize(
    ("manifest", "defaults", "url"),
    [
        ({"callback_url": URL, "nonsense": 1}, [OTHER], URL),
        ({"input": {"callback_url": URL, "audio": 7}}, [], URL),
        ({"input": {"audio": 7}, "webhook": URL}, [OTHER], URL),
        ({"input": {"callback_url": URL}, "webhook": "https://outer.example"}, [], URL),
        ({"input": {"audio": 7}, "stranger": 1}, [OTHER], OTHER["callback_url"]),
        ({"operation": "caption"}, [OTHER, {"caption": {"callback_url": URL}, **OTHER}], URL),
        ({"video": "v.mp4", "srt": "s.srt"}, [OTHER, {"caption": {"callback_url": URL}, **OTHER}], URL),
        ({"url_video": 7, "url_srt": 7}, [OTHER, {"caption": {"callback_url": URL}}], URL),
        ({"input": {"audio": 7}}, [OTHER, {"transcribe": {"callback_url": URL}}], URL),
        ({"url_audio": 7, "audio": 8}, [OTHER, {"transcribe": {"callback_url": URL}}], OTHER["callback_url"]),
        ({"operation": 7, "audio": "a"}, [OTHER, {"transcribe": {"callback_url": URL}}], OTHER["callback_url"]),
        ({}, [OTHER, {"callback_url": URL}], URL), ({}, [{"callback_url": URL}, {"language": "pt"}], URL),
        ({"callback_url": None}, [OTHER], None), ({"callback_url": "ftp://x"}, [OTHER], None),
        ({"callback_url": "http://h:99999/"}, [OTHER], None), ({"callback_url": [URL]}, [OTHER], None),
        ({"callback_url": "see http://a.example"}, [], None), ({"metadata": {"callback_url": URL}}, [], None),
        ({}, [{"callback_url": 7}], None), ({}, [], None),
    ],
)  # fmt: skip
def test_who_hears_of_a_refused_manifest(manifest: dict[str, object], defaults: list[object], url: str | None) -> None:
    assert callback_url_of(manifest, defaults) == url  # pyright: ignore[reportArgumentType]


def test_a_document_that_cannot_be_read_names_nobody() -> None:
    assert caller_fields(b'{"callback_url": "https://a.example"', "a.job.json") == {}
    assert caller_fields(b"callback_url: https://a.example", "a.job.yaml") == {"callback_url": "https://a.example"}


@pytest.mark.parametrize(
    ("manifest", "operation"),
    [
        (b"audio: 7", "transcribe"), (b"{input: {url_video: v, url_srt: s}, webhook: null}", "caption"),
        (b"{operation: no, audio: a}", "no"), (b"video: v", None),
    ],
)  # fmt: skip
def test_what_its_media_imply_determines_which_defaults_name_one(manifest: bytes, operation: str | None) -> None:
    assert caller_fields(manifest, "a.job.yaml").get("operation") == operation
