"""A way to the API server of its own, for who asks it now and then beside the source."""

from __future__ import annotations

import asyncio
from collections import Counter

from controlplane.source.api import Api, connect


class Connection:
    """Connects when it is first used, with the control plane's own credentials.

    `requests`: the source's counter, in which those over this connection count too.
    """

    def __init__(self, kubeconfig: str | None, requests: Counter[tuple[str, str, str]]) -> None:
        self._kubeconfig, self._requests = kubeconfig, requests
        self._api: Api | None = None
        self._connecting = asyncio.Lock()

    async def api(self) -> Api:
        """Raises `errors.SourceError` where the way cannot be used."""
        async with self._connecting:
            if self._api is None:
                self._api = await connect(self._kubeconfig)
                self._api.requests = self._requests
        return self._api

    async def close(self) -> None:
        """Ends the connections."""
        if self._api is not None:
            await self._api.close()
