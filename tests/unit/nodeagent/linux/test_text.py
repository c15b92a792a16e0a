"""What is let through as text for another program, what is refused, and how what those programs print is read."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest

from nodeagent.errors import KernelUnavailable
from nodeagent.linux import text
from nodeagent.linux.iptables import saved as iptables
from nodeagent.linux.text import UnsafeText

CONTROLS = ["\0", "\t", "\n", "\r", "\x0b", "\x0c", "\x1b", "\x1f", "\x7f"]
NO_ASCII = ["\x80", "\x85", "\xa0", "é", "\u2028", "\u2029", "\u202e", "\ud800", "\N{PILE OF POO}"]
SYNTAX = ['"', "'", "\\", "`", "$", "#", "!", "{", "}", "=", "*", "&", "|", "%", "@"]


@pytest.mark.parametrize("fine", ["", "web", "default/web:http cluster IP", "[2001:db8::1]:80 -> (a), b; c+d_e.f"])
def test_a_word_is_given_back_unchanged(fine: str) -> None:
    assert text.word(fine) == fine


@pytest.mark.parametrize("bad", CONTROLS + NO_ASCII + SYNTAX, ids=ascii)
@pytest.mark.parametrize("around", ["{}", "a{}", "{}a", "a{}a"])
def test_a_word_has_no_character_that_could_end_it(bad: str, around: str) -> None:
    with pytest.raises(UnsafeText, match="has characters that a rule cannot have"):
        text.word(around.format(bad))


def test_a_comment_of_255_characters_is_the_longest() -> None:
    assert text.word("x" * 255) == "x" * 255
    with pytest.raises(UnsafeText, match="has 256 characters, and a comment 255 at most"):
        text.word("x" * 256)


@pytest.mark.parametrize("fine", ["e", "eth0.100", "br-lan_1", "wlan@if3", "eth0:1", "x" * 15, "cali+", "veth*"])
def test_the_name_of_an_interface_or_its_beginning_is_given_back_unchanged(fine: str) -> None:
    assert text.interface(fine) == fine


@pytest.mark.parametrize(
    "bad", ["", "+", "*", "x" * 16, "a+b", "a++", "a b", "a/b", "-a\n", *CONTROLS, *NO_ASCII], ids=ascii
)
def test_what_is_no_name_of_an_interface_is_refused(bad: str) -> None:
    with pytest.raises(UnsafeText, match="is no name of a network interface"):
        text.interface(bad)
    with pytest.raises(UnsafeText, match="is no name of a network interface"):
        text.arriving(bad)


@pytest.mark.parametrize("bad", CONTROLS + NO_ASCII + [" ", '"', "\\", "!", "/"], ids=ascii)
def test_an_interface_has_no_such_character_even_at_its_end(bad: str) -> None:
    for name in (f"eth{bad}", f"{bad}eth", f"eth{bad}*"):
        with pytest.raises(UnsafeText):
            text.interface(name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("eth0", "eth0"),
        ("x" * 15, "x" * 15),
        ("cali*", "cali+"),
        ("cali+", "cali+"),
        ("x" * 14 + "*", "x" * 14 + "+"),
    ],
)
def test_iptables_says_the_beginning_of_an_interface_by_a_plus(given: str, said: str) -> None:
    assert text.arriving(given) == said


def test_a_beginning_of_15_characters_is_the_whole_name_for_iptables() -> None:
    assert text.arriving("x" * 15 + "*") == "x" * 15


@pytest.mark.parametrize(
    ("given", "network"),
    [
        ("10.1.2.3/8", IPv4Network("10.0.0.0/8")),
        (" 192.0.2.0/24 ", IPv4Network("192.0.2.0/24")),
        ("2001:db8::5/64", IPv6Network("2001:db8::/64")),
        ("::/0", IPv6Network("::/0")),
    ],
)
def test_a_network_may_have_host_bits_and_space_around_it(given: str, network: object) -> None:
    assert text.network(given) == network


@pytest.mark.parametrize("zone", ["fe80::%eth0/64", "fe80::%eth0\nX/64", "fe80::% -j ACCEPT/64", "fe80::1%/128", "%"])
def test_a_network_has_no_zone(zone: str) -> None:
    with pytest.raises(UnsafeText, match="has a zone"):
        text.network(zone)


@pytest.mark.parametrize(
    "bad", ["", "10.0.0.0/33", "10.0.0.0/8\n-A X", "10.0.0.0/8 -j X", "10.0.0.0/\0", "web", "::/129"]
)
def test_what_is_no_network_is_refused(bad: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own words
        text.network(bad)


@pytest.mark.parametrize("fine", ["", "deltaplane", "a b\n", "é"])
def test_a_netlink_name_may_be_anything_without_a_nul(fine: str) -> None:
    assert text.name(fine) == fine


@pytest.mark.parametrize("bad", ["\0", "a\0", "\0a", "deltaplane\0kube-proxy"], ids=ascii)
def test_a_netlink_name_has_no_nul(bad: str) -> None:
    with pytest.raises(UnsafeText, match="has a NUL"):
        text.name(bad)


RULES = [
    "",
    "-j KUBE-MARK-MASQ",
    '-m comment --comment "it\'s \\"mine\\" \\\\" -j RETURN',
    "-m comment --comment \u2028\x85é -j RETURN",
    "-m comment --comment \udcff -j RETURN",  # a byte that is no UTF-8
]


@pytest.mark.parametrize("fine", RULES, ids=ascii)
def test_a_rule_of_one_line_is_given_back_unchanged(fine: str) -> None:
    assert text.printable(fine) == fine
    assert iptables.deletion("X", fine) == f"-D X {fine}"


@pytest.mark.parametrize("bad", CONTROLS, ids=ascii)
def test_a_rule_with_a_control_character_is_not_given_back_and_a_person_hears_how_to_delete_it(bad: str) -> None:
    rule = f'-m comment --comment "a{bad}b" -j RETURN'
    with pytest.raises(UnsafeText, match="has control characters"):
        text.printable(rule)
    with pytest.raises(
        KernelUnavailable, match="has control characters: delete it with iptables -D; it is retried"
    ) as said:
        iptables.deletion("X", rule)
    assert bad not in str(said.value)


@pytest.mark.parametrize(
    ("rule", "target"),
    [
        ("", ""),
        ("-s 10.0.0.0/8", ""),
        ("-j ACCEPT", "ACCEPT"),
        ("-g KUBE-SERVICES", "KUBE-SERVICES"),
        ("-p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ", "KUBE-MARK-MASQ"),
        ('-j LOG --log-prefix "-j KUBE-MARK-MASQ "', "LOG"),
        ('-m comment --comment " -j KUBE-MARK-MASQ " -j RETURN', "RETURN"),
        ('-m comment --comment " -j KUBE-MARK-MASQ "', ""),
        ('-m comment --comment "a \\" -j KUBE-MARK-MASQ \\" b" -j DROP', "DROP"),
        ('-m comment --comment "a \\\\" -j DROP', "DROP"),
        ('-m comment --comment "a\n -j KUBE-MARK-MASQ" -j DROP', "DROP"),
        ("-m comment --comment x-j KUBE", ""),
        ("--jump-j ACCEPT", ""),
    ],
)
def test_the_target_of_a_rule_is_never_what_stands_in_quotes(rule: str, target: str) -> None:
    assert iptables.target(rule) == target


@pytest.mark.parametrize(
    "comment",
    ["a\nb", "a\n-A INPUT -j ACCEPT\nb", "a\nCOMMIT\n*filter", 'a\\"\nb', '\\"\n\\"', "\n", "a\\\\\n", "\n\n\n"],
    ids=ascii,
)
def test_a_line_end_in_quotes_ends_no_line(comment: str) -> None:
    rule = f'-A X -m comment --comment "{comment}" -j Y'
    saved = ["*nat", ":X - [0:0]", rule, "-A X -j Z", rule, "COMMIT"]
    assert list(iptables.lines("\n".join(saved))) == saved


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\r", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"], ids=ascii)
def test_only_a_line_feed_ends_a_line(end: str) -> None:
    saved = [f"-A X -m comment --comment a{end}b -j Y", f'-A X -m comment --comment "a {end}b" -j Y', "COMMIT"]
    assert list(iptables.lines("\n".join(saved))) == saved


def test_quotes_that_are_escaped_begin_and_end_nothing() -> None:
    saved = [
        '-A X -m comment --comment "a \\" b" -j Y',
        '-A X -m comment --comment "a \\\\" -j Y',
        '-A X --comment \\"',
        "-A Z",
    ]
    assert list(iptables.lines("\n".join(saved))) == saved


def test_quotes_without_an_end_hide_no_line_after_them() -> None:
    saved = ["*nat", '-A X -m comment --comment "a', "-A X -j Y", "COMMIT"]
    assert list(iptables.lines("\n".join(saved))) == saved


def test_no_text_is_one_empty_line_and_a_line_end_at_the_end_another() -> None:
    assert list(iptables.lines("")) == [""]
    assert list(iptables.lines("COMMIT\n")) == ["COMMIT", ""]
