"""Where temporary keys for links come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

WEEK_S = 7 * 86400


@dataclass(frozen=True, slots=True)
class StsSettings:
    """Where temporary keys come from.

    `mode`: "auto" uses them where the store gives any, "required" makes no link without, "off" asks for none.
    `endpoint` "": the store's own. `role_arn`: the role to take (AWS, Ceph); MinIO needs none. `longest_s`: how long
    keys may live.
    """

    mode: Literal["auto", "required", "off"] = "auto"
    endpoint: str = ""
    role_arn: str = ""
    longest_s: float = WEEK_S

    @property
    def partition(self) -> str:
        """The ARNs' second part: "aws", "aws-cn" or "aws-us-gov"."""
        named = self.role_arn.split(":")[1:2]
        return named[0] if named and named[0] else "aws"

    @property
    def of_amazon(self) -> bool:
        host = urlsplit(self.endpoint).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


NO_ROLE = StsSettings()
"""MinIO's way, where the store knows it."""
