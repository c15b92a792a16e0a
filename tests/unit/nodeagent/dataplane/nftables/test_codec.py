"""The codec against bytes that the stock tool (nft 1.0.6) wrote and the kernel gave back, and round trips."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.dataplane import nft_sets
from nodeagent.dataplane.nftables.program import Settings, program
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import elements
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft import statements as s
from nodeagent.linux.nft.objects import Table

PROGRAM = program(4, Settings(("10.0.0.0/8",)))
SIX = program(6, Settings(("fd00::/16",)))
SETS = {declared.name: declared for declared in PROGRAM.sets}
SIX_SETS = {declared.name: declared for declared in SIX.sets}


def test_an_endpoint_element_is_what_nft_writes() -> None:
    key = bytes.fromhex("0a000001060000000050" + "0000")
    ours = elements.endpoint(key, 1, bytes.fromhex("0a0101011f900000"))
    theirs = "2c00010018000100140001000a00000106000000005000000100000010000200" + "0c0001000a0101011f900000"
    assert ours.hex() == theirs


def test_an_ipv6_endpoint_element_is_what_nft_writes() -> None:
    key = bytes.fromhex("fd000000000000000000000000000001" + "0600000000500000")
    ours = elements.endpoint(key, 1, bytes.fromhex("fd000000000000000000000000000002" + "1f900000"))
    assert ours.hex() == (
        "440001002400010020000100fd00000000000000000000000000000106000000005000000100"
        "00001c00020018000100fd0000000000000000000000000000021f900000"
    )


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (s.mark(0x4000), ("meta", "bitwise", "meta")),
        (s.connection("state", "new"), ("ct", "bitwise", "cmp")),
        (s.from_this_node(), ("fib", "cmp")),
    ],
)
def test_statements_compile_to_the_expressions_nft_uses(statement: s.Statement, expected: tuple[str, ...]) -> None:
    assert tuple(expression.name for expression in statement.expressions) == expected


@pytest.mark.parametrize(
    ("expression", "theirs"),
    [
        (s.masquerade().expressions[0], "0800010000000010"),
        (s.reject(4).expressions[0], "08000100000000000500020003000000"),
        (s.reject(6).expressions[0], "08000100000000000500020004000000"),
        (s.from_this_node().expressions[0], "080001000000000108000200000000030800030000000001"),
        (
            s.jump("services").expressions[0],
            "0800010000000000200002001c00020008000100fffffffd0d000200736572766963657300000000",
        ),
        (
            s.mark(0x4000).expressions[1],
            (
                "08000100000000010800020000000001080003000000000408000600000000000c00040008000100ffbfffff"
                "0c0005000800010000400000"
            ),
        ),
        (
            x.load(x.random(2, 32768), 4, 3),
            "080001000000000b080002000000000208000300000000010800040000008000",
        ),
        (
            s.translate((x.destination(6),), 6, "endpoints").expressions[-1],
            (
                "0800010000000001080002000000000a08000300000000010800040000000001080005000000000208000600000000020800070000"
                "000003"
            ),
        ),
    ],
)
def test_expressions_are_what_the_kernel_gives_back_for_nfts(expression: x.Expression, theirs: str) -> None:
    assert expression.data.hex() == theirs


@pytest.mark.parametrize(
    ("declared", "family", "theirs"),
    [
        (
            SETS["service-ips"],
            4,
            (
                "000400000000010400000000034400040d000000013c0014000407000000010c00040c00000001040c000000010e0004090000000106"
                "0004100000000214000407000000010c00040b00000001040200000004080004010000000100060400000000"
            ),
        ),
        (
            SETS["nodeport-endpoints"],
            4,
            (
                "000400000000010400000000034a00040d0000000142000e00040900000001060004100000000114000407000000010c00040b000000"
                "010402000000021a0004170000000112000401000000010400000100020400000000043400040d000000012c0014000407000000010c"
                "00040c00000001040c0000000114000407000000010c00040b000000010402000000060400000000"
            ),
        ),
        (SETS["cluster-ips"], 4, "0004020000000314000407000000010c00040c00000001040c000000"),
        (SIX_SETS["cluster-ips"], 6, "0004020000000314000407000000010c00040d000000010409000000"),
    ],
)
def test_set_user_data_is_what_nft_stores(declared: object, family: int, theirs: str) -> None:
    body = declared.attributes("deltaplane", family, 1)  # type: ignore[attr-defined]
    assert wire.attributes(body)[13].hex() == theirs


def test_a_table_comment_is_where_nft_looks_for_it() -> None:
    assert wire.attributes(Table(4, "t", "digest=abc").attributes())[6] == b"\x00\x0bdigest=abc\x00"


@given(st.lists(st.tuples(st.binary(min_size=12, max_size=12), st.sampled_from(["drop", "reject", "cluster-8"]))))
def test_verdict_elements_come_back(found: list[tuple[bytes, str]]) -> None:
    listed = b"".join(nft_sets.dispatch(key, name) for key, name in found)
    assert [(key, nft_sets.verdict_name(data)) for key, data in elements.parse(listed)] == found


@given(st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.integers(0, 65535), st.binary(min_size=8, max_size=8))))
def test_endpoint_elements_come_back(found: list[tuple[bytes, int, bytes]]) -> None:
    listed = b"".join(elements.endpoint(*one) for one in found)
    expected = [(key + struct.pack("=I", slot), value) for key, slot, value in found]
    assert list(elements.parse(listed)) == expected


@given(st.integers(1, 60).flatmap(lambda size: st.binary(min_size=size, max_size=size)), st.integers(1, 99))
def test_attributes_come_back(payload: bytes, kind: int) -> None:
    packed = wire.attribute(kind, payload) + wire.number(100, 7)
    assert len(packed) % 4 == 0
    assert wire.attributes(packed) == {kind: payload, 100: b"\0\0\0\x07"}


def test_messages_come_back() -> None:
    data = wire.begin(5) + wire.request(12, wire.CREATE, 6, 2, wire.text(1, "t")) + wire.end(7)
    kinds = [(message.type, message.sequence, message.family) for message in wire.messages(data)]
    assert kinds == [(16, 5, 0), (10 << 8 | 12, 6, 2), (17, 7, 0)]


def test_an_extended_acknowledgement_names_the_offset() -> None:
    request = struct.pack("=IHHII", 400, 0xA0C, 1, 9, 0)
    body = struct.pack("=i", -22) + request + wire.attribute(wire.ERROR_OFFSET, struct.pack("=I", 88))
    received = wire.Message(wire.ERROR, wire.CAPPED | wire.ACK_TLVS, 9, 0, body)
    assert wire.reply(received) == wire.Reply(9, 22, 88)


def test_the_program_reads_as_nft_syntax_and_its_digest_follows_its_text() -> None:
    assert "ip saddr != 10.0.0.0/8 ip daddr @cluster-ips meta mark set meta mark | 0x00004000" in PROGRAM.text()
    assert program(4, Settings(("10.0.0.0/8",))) == PROGRAM
    assert program(4, Settings(("10.0.0.0/9",))).comment != PROGRAM.comment
    assert program(4, Settings()).comment != PROGRAM.comment


def test_a_shared_chain_tries_eight_times_then_where_every_slot_is_filled() -> None:
    (chain,) = PROGRAM.part("cluster-8").chains
    moduli = [rule.text.split("mod ")[1].split()[0] for rule in chain.rules]
    assert moduli == ["8"] * 8 + ["4"]


def test_a_key_is_read_back_without_what_pads_it() -> None:
    assert list(elements.parse(elements.member(b"\x06") + elements.member(b"\x11"))) == [(b"\x06", b""), (b"\x11", b"")]
