"""The text of chains: kube-proxy's names, comments and chances."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import HealthCheck, ServiceForwarding
from nodeagent.dataplane.iptables import naming
from nodeagent.dataplane.iptables.render import check, render
from nodeagent.dataplane.iptables.rules import chance, comment
from nodeagent.linux.iptables.saved import Line
from nodeagent.linux.text import UnsafeText
from tests.unit.nodeagent.dataplane.iptables.tracing import SETTINGS
from tests.unit.nodeagent.dataplane.nftables.walks import (
    EXTERNAL,
    RANGES,
    VIP,
    cluster_ip,
    external,
    key,
    local_policy,
    node_port,
    service,
    sticky,
    targets,
)

MASQ = "-j KUBE-MARK-MASQ"
SVC, SVL, EXT, FW = (f"{prefix}446JGJO3FXDO7OFC" for prefix in (naming.SVC, naming.SVL, naming.EXT, naming.FW))
SEP = ["KUBE-SEP-GHBWQIDCINUF6GYH", "KUBE-SEP-DDH3Y5FFOI7FFDY5", "KUBE-SEP-SLD4OBXAW2UMWU4L"]


def test_names_are_the_ones_that_every_cluster_has() -> None:
    assert naming.chain(naming.SVC, "default/kubernetes:https", "tcp") == "KUBE-SVC-NPX46M4PTMTKRN6Y"
    assert naming.chain(naming.SVC, "kube-system/kube-dns:dns", "udp") == "KUBE-SVC-TCOU7JCQXEZGVUNU"
    assert naming.chain(naming.SVC, "kube-system/kube-dns:dns-tcp", "tcp") == "KUBE-SVC-ERIFXISQEP7F7OF4"


@pytest.mark.parametrize(
    ("left", "text"), [(2, "0.50000000000"), (3, "0.33333333349"), (4, "0.25000000000"), (7, "0.14285714272")]
)
def test_chances_are_one_in_what_is_left_as_the_kernel_keeps_them(left: int, text: str) -> None:
    assert chance(left) == f"-m statistic --mode random --probability {text} "


def test_a_single_word_is_not_quoted() -> None:
    assert (comment("web"), comment("default/web")) == (
        "-m comment --comment web ",
        '-m comment --comment "default/web" ',
    )


def test_three_endpoints() -> None:
    found = render(service("web", cluster_ip("172.30.0.1", targets(1, 2, 3))), 4, SETTINGS)
    first, second, third = SEP
    assert found.chains == {
        SVC: (
            (
                "! -s 10.180.0.0/16 -d 172.30.0.1/32 -p tcp -m comment --comment "
                f'"default/web:p cluster IP" -m tcp --dport 80 {MASQ}'
            ),
            (
                '-m comment --comment "default/web:p -> 10.180.1.1:8080" '
                f"-m statistic --mode random --probability 0.33333333349 -j {first}"
            ),
            (
                '-m comment --comment "default/web:p -> 10.180.1.2:8080" '
                f"-m statistic --mode random --probability 0.50000000000 -j {second}"
            ),
            f'-m comment --comment "default/web:p -> 10.180.1.3:8080" -j {third}',
        ),
        **{
            name: (
                f'-s 10.180.1.{i}/32 -m comment --comment "default/web:p" {MASQ}',
                f'-p tcp -m comment --comment "default/web:p" -m tcp -j DNAT --to-destination 10.180.1.{i}:8080',
            )
            for i, name in enumerate(SEP, 1)
        },
    }
    match = '-d 172.30.0.1/32 -p tcp -m comment --comment "default/web:p cluster IP" -m tcp --dport 80'
    assert [(line.chain, line.rule) for line in found.lines] == [(naming.SERVICES, f"{match} -j {SVC}")]


def test_endpoints_are_in_the_order_of_their_text() -> None:
    found = render(service("web", cluster_ip("172.30.0.1", targets(9, 10, 100))), 4, SETTINGS)
    order = [rule.partition("-> ")[2].partition('"')[0] for rule in found.chains[SVC][1:]]
    assert order == ["10.180.1.100:8080", "10.180.1.10:8080", "10.180.1.9:8080"]


def test_local_policies_and_source_ranges() -> None:
    inside = replace(cluster_ip("172.30.0.1", targets(1)), local_policy=True)
    web = service(
        "web", inside, local_policy(EXTERNAL, targets(1, 2), targets(1)), local_policy(VIP, targets(1, 2), (), RANGES)
    )
    found = render(web, 4, SETTINGS, pod_cidrs=("10.180.1.0/24",))
    assert list(found.chains) == [EXT, FW, SVC, SVL, *SEP[:2]]
    assert found.chains[EXT] == (
        f'-s 10.180.1.0/24 -m comment --comment "pod traffic for default/web:p external destinations" -j {SVC}',
        (
            '-m comment --comment "masquerade LOCAL traffic for default/web:p external destinations" '
            f"-m addrtype --src-type LOCAL {MASQ}"
        ),
        (
            '-m comment --comment "route LOCAL traffic for default/web:p external destinations" '
            f"-m addrtype --src-type LOCAL -j {SVC}"
        ),
        f"-j {SVL}",
    )
    assert found.chains[FW] == (
        f'-s 203.0.113.0/25 -m comment --comment "default/web:p loadbalancer IP" -j {EXT}',
        f'-s 10.0.0.0/8 -m comment --comment "default/web:p loadbalancer IP" -j {EXT}',
        '-m comment --comment "other traffic to default/web:p will be dropped by KUBE-PROXY-FIREWALL"',
    )
    assert found.chains[SVL][0].endswith(MASQ)
    assert len(found.chains[SVC]) == 2


def test_policy_local_with_nothing_here_sends_this_node_and_its_pods_alone() -> None:
    found = render(service("web", local_policy(EXTERNAL, targets(1), ())), 4, SETTINGS, pod_cidrs=("10.180.1.0/24",))
    where = "for default/web:p external destinations"
    assert found.chains[EXT] == (
        f'-s 10.180.1.0/24 -m comment --comment "pod traffic {where}" -j {SVC}',
        f'-m comment --comment "masquerade LOCAL traffic {where}" -m addrtype --src-type LOCAL {MASQ}',
        f'-m comment --comment "route LOCAL traffic {where}" -m addrtype --src-type LOCAL -j {SVC}',
    )


def test_affinity_asks_every_list_first() -> None:
    found = render(service("web", sticky(cluster_ip("172.30.0.1", targets(1, 2)), 60)), 4, SETTINGS)
    mask = "--mask 255.255.255.255 --rsource"
    assert [rule.partition('8080" ')[2] for rule in found.chains[SVC][1:3]] == [
        f"-m recent --rcheck --seconds 60 --reap --name {name} {mask} -j {name}" for name in SEP[:2]
    ]
    assert f"-m recent --set --name {SEP[0]} {mask} -m tcp -j DNAT" in found.chains[SEP[0]][1]


def test_a_port_without_a_name_and_an_endpoint_of_ipv6() -> None:
    entry = replace(cluster_ip("fd00:10:96::1", targets(1, family=6)), port_name="")
    found = render(service("web", entry), 6, SETTINGS)
    assert found.lines[0].rule.startswith('-d fd00:10:96::1/128 -p tcp -m comment --comment "default/web cluster IP" ')
    assert any("--to-destination [fd00:10:180:1::1]:8080" in rule for rules in found.chains.values() for rule in rules)


def test_many_endpoints_come_without_comments() -> None:
    web = service("web", node_port(30080, targets(1, 2)), cluster_ip("172.30.0.1", targets(1, 2)))
    found = render(web, 4, SETTINGS, comments=False)
    assert not any("comment" in rule for name in SEP[:2] for rule in found.chains[name])
    assert [("comment" in rule) for rule in found.chains[SVC]] == [True, False, False]
    assert all("comment" in line.rule for line in found.lines)


def test_a_health_check_port_is_let_in_once_for_each_port() -> None:
    entries = (
        local_policy(VIP, targets(1), ()),
        replace(local_policy(VIP._replace(port=81), targets(1), ()), port_name="q"),
    )
    web = replace(service("web", *entries), health_check=HealthCheck(32000, ()))
    rules = [line.rule for line in render(web, 4, SETTINGS).lines if line.chain == naming.NODE_PORTS]
    said = '-p tcp -m comment --comment "default/web:{} health check node port" -m tcp --dport 32000 -j ACCEPT'
    assert rules == [said.format(name) for name in "pq"]


def test_nothing_of_the_other_family_and_nothing_of_nothing() -> None:
    assert render(service("web", external(VIP, targets(1))), 6, SETTINGS).lines == ()
    assert render(ServiceForwarding(key("web")), 4, SETTINGS).chains == {}


def test_a_port_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="port 0 is none"):
        check(service("web", cluster_ip("172.30.0.1", targets(1), 0)), (4, 6))


def test_of_the_longest_name_that_passes_every_rule_can_be_written() -> None:
    """`check` asks for the longest comment of all; `render` then raises for none."""
    here, everywhere = targets(1), targets(1, 2)
    entries = (
        replace(local_policy(VIP, everywhere, here), source_ranges=RANGES),
        replace(local_policy(EXTERNAL, everywhere, ()), affinity_seconds=10),
        node_port(30080, ()),
        cluster_ip("172.30.0.1", here),
    )
    passed = 0
    for length in range(150, 256):
        name = "x" * (length - len("default/:p"))
        web = replace(service(name, *entries), health_check=HealthCheck(30090, ((4, 1),)))
        try:
            check(web, (4,))
        except UnsafeText:
            break
        passed = length
        render(web, 4, SETTINGS, loopback=True, pod_cidrs=("10.180.1.0/24",))
    assert 150 < passed < 255


def test_a_line_knows_its_chain() -> None:
    found = render(service("web", node_port(30080, ())), 4, SETTINGS)
    assert found.lines == (
        Line(
            "filter",
            naming.EXTERNAL_SERVICES,
            '-p tcp -m comment --comment "default/web:p has no endpoints" -m addrtype --dst-type LOCAL -m tcp '
            "--dport 30080 -j REJECT --reject-with icmp-port-unreachable",
        ),
    )
