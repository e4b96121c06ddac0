"""Network access shared by all clients: sessions, guards, bodies, TLS, proxies and retries; and the HTTP server."""
