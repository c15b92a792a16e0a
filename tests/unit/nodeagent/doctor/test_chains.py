"""Chains of other programs: what a base chain may do, by itself or by where it leads; the proxy's own are left out."""

from __future__ import annotations

from nodeagent.doctor.chains import Chain, foreign, note_rule, note_verdict, of_legacy
from nodeagent.doctor.facts import Foreign
from nodeagent.linux.iptables import saved
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import expressions, statements


def packed(statement: statements.Statement) -> bytes:
    return b"".join(each.pack() for each in statement.expressions)


def test_what_a_chain_leads_to_counts_and_loops_end() -> None:
    chains = {
        "in": Chain("input", leads={"more", "KUBE-FIREWALL"}),
        "more": Chain(does={"rejects"}, leads={"in", "last", "not there"}),
        "last": Chain(does={"drops"}),
        "KUBE-FIREWALL": Chain(does={"redirects"}),
        "out": Chain("output", leads={"KUBE-FIREWALL"}),
        "alone": Chain(does={"drops"}),
    }

    assert list(foreign("inet fw", chains)) == [Foreign("inet fw", "in", "input", ("drops", "rejects"))]
    assert list(foreign("ip deltaplane", chains)) == []
    assert list(foreign("ip kube-proxy", chains)) == []


def test_rules_of_nftables_are_read_by_what_they_do() -> None:
    chain = Chain("forward")
    for statement in (statements.drop(), statements.reject(4), statements.jump("next"), statements.masquerade()):
        assert note_rule(chain, packed(statement)) == []

    assert (chain.does, chain.leads) == ({"drops", "rejects"}, {"next"})
    xt = wire.nest(1, wire.text(1, "target"), wire.nest(2, wire.text(1, "REDIRECT")))
    note_rule(chain, xt)
    assert "redirects" in chain.does


def test_a_verdict_map_is_named_and_its_elements_say_what_it_does() -> None:
    chain = Chain("forward")
    lookup = expressions.lookup("blocked", 0)
    assert note_rule(chain, lookup.pack()) == ["blocked"]
    assert note_rule(chain, expressions.lookup("names").pack()) == []

    note_verdict(chain, expressions.verdict(0))
    note_verdict(chain, expressions.verdict(expressions.GOTO, "there"))
    assert (chain.does, chain.leads) == ({"drops"}, {"there"})


def test_a_table_of_iptables_legacy_is_read_by_its_text() -> None:
    text = "*filter\n:FORWARD DROP [0:0]\n:INPUT ACCEPT [0:0]\n:guard - [0:0]\n-A INPUT -p tcp -j guard\n"
    text += '-A guard -m comment --comment "never -j ACCEPT" -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n'
    table = {name: tuple(rules) for name, rules in saved.listing(text).items()}
    assert saved.policies(text) == {"FORWARD": "DROP", "INPUT": "ACCEPT"}

    found = list(foreign("iptables-legacy filter", of_legacy(table, saved.policies(text))))
    assert [(each.chain, each.point, each.does) for each in found] == [
        ("FORWARD", "forward", ("drops by policy",)),
        ("INPUT", "input", ("rejects",)),
    ]
