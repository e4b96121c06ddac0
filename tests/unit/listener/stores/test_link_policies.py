"""What the temporary keys of a job are allowed: its objects, by name, in policies that a store takes."""

from __future__ import annotations

import json

import pytest

from listener.stores.base import JobObjects
from listener.stores.s3.link_probe import ProbeAnswers, probe_verdict
from listener.stores.s3.policies import (
    MAX_POLICY_BYTES,
    PolicyKind,
    deny_copies,
    groups_of,
    rights_of,
    session_policy_of,
)

PLAIN = PolicyKind()


def statements(objects: JobObjects, kind: PolicyKind = PLAIN) -> list[dict[str, object]]:
    return json.loads(session_policy_of(rights_of(objects), kind))["Statement"]


def test_a_policy_names_the_objects_of_the_job_and_forbids_copies() -> None:
    objects = JobObjects(reads=(("other", "in.mp3"), ("media", "c")), writes=(("media", "c"),))
    read, write = statements(objects)
    assert read == {
        "Effect": "Allow", "Action": "s3:GetObject",
        "Resource": ["arn:aws:s3:::other/in.mp3", "arn:aws:s3:::media/c"],
    }  # fmt: skip
    assert (write["Action"], write["Resource"]) == ("s3:PutObject", ["arn:aws:s3:::media/c"])
    assert write["Condition"] == {"Null": {"s3:x-amz-copy-source": "true"}}


@pytest.mark.parametrize("key", ["*", "a/**/b", "x?", "${aws:username}", "\x1f*", 'a"b\\c'])
def test_no_key_means_more_than_one_character_for_each_of_its_own(key: str) -> None:
    (write,) = statements(JobObjects(writes=(("media", key),)))
    (resource,) = write["Resource"]  # type: ignore[misc]
    name = str(resource).removeprefix("arn:aws:s3:::media/")
    assert len(name) == len(key) and not set(name) & set('*$"\\')
    assert all(mine in (theirs, "?") for mine, theirs in zip(name, key, strict=True))


def test_a_role_of_aws_also_needs_what_aws_asks_for() -> None:
    kind = PolicyKind("aws-cn", tells_missing=True, decrypts=True)
    told = statements(JobObjects(reads=(("media", "a"),), writes=(("media", "b"),)), kind)
    assert [each["Action"] for each in told] == [
        "s3:GetObject", "s3:ListBucket", "s3:PutObject", ["kms:Decrypt", "kms:GenerateDataKey"]
    ]  # fmt: skip
    assert told[1]["Resource"] == ["arn:aws-cn:s3:::media"]


def test_many_objects_take_several_policies_and_none_is_left_out() -> None:
    names = tuple(("media", f"canal/ação/{'x' * 100}-{n}.png") for n in range(100))
    rights = rights_of(JobObjects(reads=names, writes=names))
    groups = groups_of(rights, PLAIN)
    assert tuple(right for group in groups for right in group) == rights
    sizes = [len(session_policy_of(group, PLAIN).encode()) for group in groups]
    assert max(sizes) <= MAX_POLICY_BYTES and len(groups) < 25


AMAZON = PolicyKind("aws-us-gov", tells_missing=True, decrypts=True, ascii_only=True)


@pytest.mark.parametrize("letter", ["k", '"', "\\", "é", "日", "😀"])
@pytest.mark.parametrize("kind", [PLAIN, AMAZON])
def test_the_longest_key_there_is_fits(kind: PolicyKind, letter: str) -> None:
    """Whoever names a drop does not choose whether the store takes the policy."""
    longest = (("b" * 63, letter * (1024 // len(letter.encode()))),)
    groups = groups_of(rights_of(JobObjects(reads=longest, writes=longest)), kind)
    assert all(len(session_policy_of(group, kind).encode()) <= MAX_POLICY_BYTES for group in groups)


def test_amazon_is_told_in_ascii_alone() -> None:
    """Of other characters it takes those up to U+00FF, and refuses the whole policy for one beyond."""
    key = "ação/日本語/😀.mp3"
    assert session_policy_of(rights_of(JobObjects(reads=(("media", key),))), AMAZON).isascii()
    assert statements(JobObjects(reads=(("media", key),)), AMAZON)[0]["Resource"] == [
        f"arn:aws-us-gov:s3:::media/{key}"
    ]


@pytest.mark.parametrize(
    ("seen", "safe"),
    [
        (ProbeAnswers(200, 403, 403, 403, copied=False, part_copied=False), True),
        (ProbeAnswers(200, 200, 200, 403, copied=False, part_copied=False), True),
        (ProbeAnswers(200, 200, 403, 403, copied=True, part_copied=False), False),
        (ProbeAnswers(200, 403, 200, 403, copied=False, part_copied=True), False),
        (ProbeAnswers(200, 403, 403, 200, copied=False, part_copied=False), False),
        (ProbeAnswers(403, 403, 403, 403, copied=False, part_copied=False), None),
        (ProbeAnswers(200, 503, 403, 403, copied=False, part_copied=False), None),
        (ProbeAnswers(200, 403, 0, 403, copied=False, part_copied=False), None),
    ],
)
def test_what_was_seen_is_judged(seen: ProbeAnswers, safe: bool | None) -> None:
    report = probe_verdict(seen, "media", narrowed=True, absence="")
    assert report.safe is safe
    assert ("s3:x-amz-copy-source" in report.remedy) == (safe is False)


def test_the_policy_to_set_names_the_bucket() -> None:
    (statement,) = json.loads(deny_copies(["media"]))["Statement"]
    assert statement["Resource"] == ["arn:aws:s3:::media/*"]
    assert statement["Condition"] == {"Null": {"s3:x-amz-copy-source": "false"}}
