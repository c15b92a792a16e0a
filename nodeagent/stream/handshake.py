"""The Hello: who the agent is, and which state it already has. Pure; called by the session for each stream."""

from __future__ import annotations

import secrets

from msgspec import Struct

import deltaplane
from deltaplane.digest import StateDigest
from deltaplane.snapshot import ON_REQUEST, PARTIAL
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2
from nodeagent.stream.cursor import Cursor

PROTOCOL = 1
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_REASON = 700  # characters; an Event's message may have 1024


class Mode(Struct, frozen=True):
    """The kernel backend in use, what was asked for (a mode, or auto; empty: not said), and why no better one is."""

    name: str
    asked: str = ""
    reason: str = ""


def identity(node_name: str, mode: Mode, boot_id: str = "") -> pb.Hello:
    """The part of the Hello that stays the same while this process runs."""
    hello = pb.Hello(
        node_name=node_name,
        boot_id=boot_id,
        agent_instance=secrets.token_hex(8),
        agent_version=deltaplane.__version__,
        capabilities=["endpoint-slice-patch", PARTIAL, ON_REQUEST],
        proxy_mode=mode.name,
        proxy_mode_asked=mode.asked,
        proxy_mode_reason=mode.reason[:MAX_REASON],
        max_message_bytes=MAX_MESSAGE_BYTES,
    )
    hello.families.extend((objects_pb2.ADDRESS_FAMILY_IPV4, objects_pb2.ADDRESS_FAMILY_IPV6))
    return hello


def introduce(identity: pb.Hello, cursor: Cursor, digest: StateDigest, *, buckets: bool = True) -> bytes:
    """The serialised WatchRequest that opens a stream; it names the state that the mirror has, if any.

    `buckets`: the digests of the buckets go with it, for a replica that may not know to ask for them.
    """
    hello = pb.Hello()
    hello.CopyFrom(identity)
    hello.protocol_min = hello.protocol_max = PROTOCOL
    del hello.encodings[:]
    hello.encodings.extend((pb.ENCODING_IDENTITY, pb.ENCODING_ZLIB))
    if cursor.epoch:
        resume = hello.resume
        resume.epoch, resume.applied_rev = cursor.epoch, cursor.rev
        resume.state_digest = digest.value
        if buckets:
            resume.bucket_digests.extend(digest.buckets)
        for kind, version in sorted(cursor.versions.items()):
            resume.versions.add(kind=objects_pb2.Kind.ValueType(kind), version=version)
    return pb.WatchRequest(hello=hello).SerializeToString()
