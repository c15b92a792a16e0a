"""The method that an agent calls, and gRPC's options of the channel to it."""

from __future__ import annotations

METHOD = "/deltaplane.v1.DeltaService/Watch"
RECEIVE_BYTES = 4 * 1024 * 1024  # replicas send 1 MiB at most; the rest is margin
SEND_BYTES = 1024 * 1024
Options = tuple[tuple[str, int], ...]
OPTIONS: Options = (
    ("grpc.http2.bdp_probe", 0),  # otherwise megabytes of unread deltas hide in the receive window
    ("grpc.http2.lookahead_bytes", 65536),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),  # becomes TCP_USER_TIMEOUT: until the peer's kernel confirms bytes
    ("grpc.http2.ping_timeout_ms", 10_000),  # until the peer itself answers; gRPC's default is a minute
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),  # http_proxy is for the way out of the cluster; replicas are inside
    ("grpc.max_receive_message_length", RECEIVE_BYTES),
    ("grpc.max_send_message_length", SEND_BYTES),
)
