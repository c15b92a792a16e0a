"""What is asked of nf_tables to know what other programs do: their chains, and nothing that a proxy has made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodeagent.doctor.facts import Foreign, Hook
from nodeagent.doctor.nftables import read
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft import objects, statements

IP = next(family for family, name in x.FAMILY_NAMES.items() if name == "ip")
FORWARD = wire.nest(4, wire.number(1, 2), wire.number(2, 0))
DROPS = wire.number(5, 0)
Named = dict[tuple[str, str], list[bytes]]


class Tables:
    """Of the family ip. `chains`, `rules` and `maps` by table and name; `asked`: whose rules and elements were."""

    def __init__(self, *tables: str, chains: Named, rules: Named, maps: Named) -> None:
        self._tables, self._chains, self._maps = tables, chains, maps
        self._rules = rules
        self.asked: list[tuple[str, str]] = []
        self.listed = 0
        self.closed = False

    def ask(self, request: bytes) -> Iterator[wire.Message]:
        (asked,) = wire.messages(request)
        if asked.family == IP:
            yield from (wire.Message(0, 0, 0, IP, body) for body in self._answers(asked))

    def _answers(self, asked: wire.Message) -> Iterator[bytes]:
        operation = asked.type & 0xFF
        if operation == objects.GET_TABLE:
            yield from (wire.text(1, table) for table in self._tables)
        elif operation == objects.GET_CHAIN:
            self.listed += 1
            for (table, name), parts in self._chains.items():
                yield wire.text(1, table) + wire.text(3, name) + b"".join(parts)
        else:
            said = wire.attributes(asked.body)
            place = wire.as_text(said[1]), wire.as_text(said[2])
            self.asked.append(place)
            if operation == objects.GET_ELEMENT:
                yield wire.nest(3, *(wire.nest(1, each) for each in self._maps[place]))
            else:
                yield from (wire.nest(4, each) for each in self._rules.get(place, []))

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        raise AssertionError("nothing is changed")

    def has(self, family: int) -> bool:
        raise AssertionError(family)

    def close(self) -> None:
        self.closed = True


def rule(statement: statements.Statement) -> bytes:
    return b"".join(each.pack() for each in statement.expressions)


@pytest.fixture
def node() -> Tables:
    """iptables' nat with a proxy's chains, the tables of two proxies, and a firewall with a verdict map."""
    return Tables(
        "nat", "deltaplane", "kube-proxy", "edge",
        chains={
            ("nat", "PREROUTING"): [FORWARD], ("nat", "KUBE-SVC-A"): [], ("nat", "CNI-HOSTPORT-DNAT"): [],
            ("deltaplane", "filter"): [FORWARD, DROPS], ("kube-proxy", "filter"): [FORWARD, DROPS],
            ("edge", "judge"): [FORWARD, DROPS], ("edge", "blocked"): [], ("edge", "unused"): [],
        },
        rules={
            ("nat", "PREROUTING"): [rule(statements.jump("KUBE-SVC-A")), rule(statements.jump("CNI-HOSTPORT-DNAT"))],
            ("nat", "KUBE-SVC-A"): [rule(statements.drop())],
            ("edge", "judge"): [x.lookup("sources", 0).pack()],
            ("edge", "blocked"): [rule(statements.reject(4))],
            ("edge", "unused"): [rule(statements.drop())],
        },
        maps={("edge", "sources"): [wire.nest(2, x.verdict(x.JUMP, "blocked"))]},
    )  # fmt: skip


def test_no_rule_of_a_proxy_is_asked_for_and_a_strangers_map_is_followed(node: Tables) -> None:
    known = read(node)

    assert known.tables == {"ip nat", "ip deltaplane", "ip kube-proxy", "ip edge"}
    assert known.foreign == (Foreign("ip edge", "judge", "forward", ("drops by policy", "rejects")),)
    assert known.hooks == (Hook("ip", "edge", "judge", "forward"),)
    assert sorted(node.asked) == [("edge", "blocked"), ("edge", "judge"), ("edge", "sources"), ("nat", "PREROUTING")]
    assert node.closed


def test_where_only_proxies_have_tables_their_names_are_all_that_is_asked_for() -> None:
    node = Tables("deltaplane", "kube-proxy", chains={("deltaplane", "a"): [FORWARD, DROPS]}, rules={}, maps={})

    assert read(node).tables == {"ip deltaplane", "ip kube-proxy"}
    assert (node.listed, node.asked) == (0, [])


def test_what_takes_too_long_is_given_up_and_says_so(node: Tables) -> None:
    with pytest.raises(TimeoutError, match="more than can be read in"):
        read(node, most=-1)
    assert node.closed
