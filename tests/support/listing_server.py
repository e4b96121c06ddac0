"""An S3 server that has nothing but a listing: as many keys as asked for, made page by page and never kept.

    python tests/support/listing_server.py --keys 1000000 [--odd 5000:20 …] [--fail-at 3000] [--broken]

Prints its port, and ends when its standard input does. Speaks ListObjectsV2 with prefix, start-after, continuation
tokens and encoding-type=url, and HEAD. GET /?seen tells as JSON how many pages were asked for, and by which client.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
ETAG = "9dd4e461268c8034f5c8564e155c67a6"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
_OBJECT = (
    "<Contents><Key>{}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;" + ETAG + "&quot;</ETag>"
    "<Size>4096</Size><Owner><ID>02d6176db174dc93cb1b899f7c6078f08654445fe8cf1b6ce98d8855f66bdbf4</ID></Owner>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)


class Keys(Sequence[str]):
    """Sorted as bytes are. Those in `odd` (first index, how many) hold a newline."""

    def __init__(self, total: int, odd: Sequence[tuple[int, int]]) -> None:
        self._total = total
        self._odd = odd

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, i: int) -> str:  # type: ignore[override]
        if i >= self._total:
            raise IndexError(i)
        ending = "\n.mp3" if any(first <= i < first + n for first, n in self._odd) else ".mp3"
        return f"canais/channel-{i // 10000:04}/video-{i // 10:07}/audios/take-{i:07}{ending}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    keys: Keys
    fail_at: int | None
    broken: bool
    seen: Counter[str]

    def do_HEAD(self) -> None:
        key = unquote(urlsplit(self.path).path.lstrip("/").partition("/")[2])
        i = bisect_left(self.keys, key)
        there = i < len(self.keys) and self.keys[i] == key
        self.send_response(200 if there else 404)
        self.send_header("ETag", f'"{ETAG}"')
        self.send_header("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT")
        self.send_header("Content-Length", "4096" if there else "0")
        self.end_headers()

    def do_GET(self) -> None:
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query, keep_blank_values=True).items()}
        if "seen" in query:
            self._answer(json.dumps(self.seen).encode(), "application/json")
            return
        encoded = query.get("encoding-type") == "url"
        self.seen["minio" if encoded else "obstore"] += 1
        first = self._first(query)
        last = min(first + min(int(query.get("max-keys", PAGE)), PAGE), self._end(query.get("prefix", "")))
        if Handler.fail_at is not None and first >= Handler.fail_at:
            Handler.fail_at = None
            self.close_connection = True
            self._answer(b"<Error><Code>AccessDenied</Code></Error>", "application/xml", status=403)
            return
        self._answer(self._page(query, first, last, encoded), "application/xml")

    def _first(self, query: dict[str, str]) -> int:
        if "continuation-token" in query:
            return int(query["continuation-token"])
        first = bisect_left(self.keys, query.get("prefix", ""))
        return max(first, bisect_right(self.keys, query["start-after"])) if "start-after" in query else first

    def _end(self, prefix: str) -> int:
        return bisect_left(self.keys, prefix + "\U0010ffff") if prefix else len(self.keys)

    def _page(self, query: dict[str, str], first: int, last: int, encoded: bool) -> bytes:
        more = last < self._end(query.get("prefix", ""))
        shown = (self.keys[i] for i in range(first, last))
        if Handler.broken:
            encoded = False
        told = (
            quote_plus(k, safe="/") if encoded else escape(k, {"\n": "\x01" if Handler.broken else "&#xA;"})
            for k in shown
        )
        parts = [
            _HEAD,
            f"<Name>bucket</Name><Prefix>{quote(query.get('prefix', ''))}</Prefix>",
            f"<KeyCount>{max(0, last - first)}</KeyCount>",
            "<EncodingType>url</EncodingType>" if encoded else "",
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>",
            f"<NextContinuationToken>{last}</NextContinuationToken>" if more else "",
            *(_OBJECT.format(key) for key in told),
            "</ListBucketResult>",
        ]
        return "".join(parts).encode()

    def _answer(self, body: bytes, kind: str, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--odd", action="append", default=[], metavar="FIRST:COUNT")
    parser.add_argument("--fail-at", type=int, help="refuses the first page that begins here or later, once")
    parser.add_argument("--broken", action="store_true", help="never encodes keys, and writes XML that is none")
    given = parser.parse_args()
    odd = [(int(first), int(n)) for first, _, n in (each.partition(":") for each in given.odd)]
    Handler.keys, Handler.fail_at, Handler.broken = Keys(given.keys, odd), given.fail_at, given.broken
    Handler.seen = Counter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
