"""A way to PostgreSQL on which an answer gets lost: what was asked was done, and whoever asked never hears of it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Forgetful:
    """TCP to the server of `url`. After `forget`, one transaction that says `statement` is committed and cut off."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = str(parts.hostname), int(parts.port or 5432)
        self._statement = b""
        self.forgotten = threading.Event()
        self._door = socket.create_server(("127.0.0.1", 0))
        host = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self._door.getsockname()[1]}"
        self.url = parts._replace(netloc=host).geturl()
        threading.Thread(target=self._let_in, daemon=True).start()

    def forget(self, statement: str) -> None:
        self.forgotten.clear()
        self._statement = statement.encode()

    def close(self) -> None:
        self._door.close()

    def _let_in(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(self._target)
                deaf = threading.Event()
                threading.Thread(target=self._ask, args=(client, server, deaf), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server, deaf), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        said = False
        with suppress(OSError):
            while data := client.recv(65536):
                said = said or bool(self._statement and self._statement in data)
                if said and b"COMMIT" in data:
                    self._statement = b""
                    deaf.set()
                server.sendall(data)
        _cut(client, server)

    def _answer(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if deaf.is_set():
                    # The answer to the COMMIT: it is done.
                    self.forgotten.set()
                    break
                client.sendall(data)
        _cut(client, server)


def _cut(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
