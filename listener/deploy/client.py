"""Makes and changes templates and endpoints on RunPod."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from gpu_dispatch.runpod import account
from gpu_dispatch.runpod.account import Account, Endpoint, EndpointSettings, Template
from gpu_dispatch.runpod.management import ManagementClient
from listener.deploy import wire
from listener.deploy.secrets import without_secrets
from listener.deploy.wire import EndpointField


class DeployClient:
    """A client for changes, which raises what ManagementClient raises and sends no change twice."""

    def __init__(self, api: ManagementClient) -> None:
        self._api = api

    async def account(self) -> Account:
        return await self._api.account()

    async def make_template(self, settings: EndpointSettings) -> Template:
        body = wire.new_template(settings.name, settings.container)
        return account.template(await self._write("POST", account.TEMPLATES, body, settings))

    async def change_template(self, id: str, settings: EndpointSettings, fields: Set[EndpointField]) -> Template:
        body = wire.container_body(settings.container, fields)
        return account.template(await self._write("PATCH", f"{account.TEMPLATES}/{id}", body, settings))

    async def make_endpoint(self, settings: EndpointSettings, template_id: str) -> Endpoint:
        body = wire.new_endpoint(settings, template_id)
        return account.endpoint(await self._write("POST", account.ENDPOINTS, body, settings))

    async def change_endpoint(self, id: str, settings: EndpointSettings, fields: Set[EndpointField]) -> Endpoint:
        body = wire.endpoint_body(settings, fields)
        return account.endpoint(await self._write("PATCH", f"{account.ENDPOINTS}/{id}", body, settings))

    async def _write(self, method: str, path: str, body: Mapping[str, Any], about: EndpointSettings) -> Any:
        return await self._api.ask(method, path, body, lambda text: without_secrets(text, about.container.env))
