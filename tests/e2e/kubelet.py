"""`python -m tests.e2e.kubelet ADDRESS CERTIFICATE KEY`: as much of a kubelet as a port-forward needs.

It listens on port 10250 of the address, and every pod is this machine: a port of a pod is that port of the address.
"""

from __future__ import annotations

import ssl
import sys

from aiohttp import web

from tests.operatorcli.fake_cluster import forwarded

PORT = 10250


def main(address: str, certificate: str, key: str) -> None:
    """Serves until it is ended."""

    async def forward(request: web.Request) -> web.WebSocketResponse:
        port = int(request.query["port"])
        return await forwarded(request, port, address, port)

    def serves(_: object) -> None:
        sys.stdout.write("kubelet serves\n")
        sys.stdout.flush()

    made = web.Application()
    made.add_routes([web.get("/portForward/{namespace}/{pod}", forward)])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    web.run_app(made, host=address, port=PORT, ssl_context=context, print=serves)


if __name__ == "__main__":
    main(*sys.argv[1:4])
