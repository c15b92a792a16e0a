"""Opens the gRPC channel that flags ask for, with what proves who asks. Closes all of it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import grpc
from msgspec import Struct

from operatorcli.connect import files
from operatorcli.connect.cluster import Cluster
from operatorcli.connect.forward import Forward
from operatorcli.connect.target import Flags, Forwarded, Plain, Secure, way
from operatorcli.exits import Failed

TRY_SECONDS = 3.0  # for an address, where there is another
Options = list[tuple[str, str | int]]
OPTIONS: Options = [
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class Opened(Struct, frozen=True):
    """`where`: for people. `failed`: why the way broke, if it did.

    `cluster`: whose API server the way leads through.
    """

    channel: grpc.Channel
    where: str
    metadata: tuple[tuple[str, str], ...] = ()
    failed: Callable[[], Failed | None] = lambda: None
    cluster: Cluster | None = None


@contextmanager
def opened(flags: Flags) -> Iterator[Opened]:
    """Nothing is dialled before the first call, unless there are several addresses. Raises `Failed`."""
    with ExitStack() as stack:
        match way(flags):
            case Plain(addresses):
                channel, address = _first(stack, addresses, lambda each: grpc.insecure_channel(each, OPTIONS))
                yield Opened(channel, flags.server if len(addresses) == 1 else address)
            case Secure(addresses, own_token):
                yield _secure(flags, stack, addresses, own_token)
            case Forwarded(secure, own_token):
                yield _forwarded(flags, stack, secure, own_token)


def _first(stack: ExitStack, addresses: Sequence[str], dial: Callable[[str], grpc.Channel]) -> tuple[grpc.Channel, str]:
    """The channel to the first address that answers; where none does, to the last."""
    for address in addresses[:-1]:
        channel = dial(address)
        try:
            grpc.channel_ready_future(channel).result(timeout=TRY_SECONDS)
        except grpc.FutureTimeoutError:
            channel.close()
        else:
            return stack.enter_context(channel), address
    return stack.enter_context(dial(addresses[-1])), addresses[-1]


def _secure(flags: Flags, stack: ExitStack, addresses: Sequence[str], own_token: bool) -> Opened:
    credentials = _credentials(flags, files.text("ca-file", flags.ca_file))
    options = named(flags.server_name)
    channel, address = _first(stack, addresses, lambda each: grpc.secure_channel(each, credentials, options))
    return Opened(channel, address, _shown(flags, _cluster(flags, stack) if own_token else None))


def _forwarded(flags: Flags, stack: ExitStack, secure: bool, own_token: bool) -> Opened:
    cluster = _cluster(flags, stack)
    replica = cluster.replica()
    forward = stack.enter_context(Forward(cluster.dialling(replica)))
    where = f"pod {flags.system_namespace}/{replica.pod}"

    def failed() -> Failed | None:
        return cluster.forwarding_failed(replica, forward.error) if forward.error else None

    if not secure:
        return Opened(stack.enter_context(grpc.insecure_channel(forward.target, OPTIONS)), where, (), failed, cluster)
    authorities = files.text("ca-file", flags.ca_file) if flags.ca_file else cluster.authorities()
    options = named(flags.server_name or replica.address)
    channel = stack.enter_context(grpc.secure_channel(forward.target, _credentials(flags, authorities), options))
    return Opened(channel, where, _shown(flags, cluster if own_token else None), failed, cluster)


def _cluster(flags: Flags, stack: ExitStack) -> Cluster:
    cluster = Cluster(flags)
    stack.callback(cluster.close)
    return cluster


def named(name: str) -> Options:
    """Options of a channel whose server has a certificate for this name or address; empty: for the one dialled."""
    return [*OPTIONS, ("grpc.ssl_target_name_override", name)] if name else OPTIONS


def _credentials(flags: Flags, authorities: str) -> grpc.ChannelCredentials:
    if not flags.tls_cert_file:
        return grpc.ssl_channel_credentials(authorities.encode())
    key = files.text("tls-private-key-file", flags.tls_private_key_file)
    certificate = files.text("tls-cert-file", flags.tls_cert_file)
    return grpc.ssl_channel_credentials(authorities.encode(), key.encode(), certificate.encode())


def _shown(flags: Flags, cluster: Cluster | None) -> tuple[tuple[str, str], ...]:
    """The call's metadata that proves who asks."""
    if flags.token_file:
        return (("authorization", f"Bearer {files.token('token-file', flags.token_file)}"),)
    return (("authorization", f"Bearer {cluster.token()}"),) if cluster else ()
