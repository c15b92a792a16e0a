"""The columns of the table: who is held against the corpus, and in which of the kernel's dialects it speaks."""

from __future__ import annotations

from typing import NamedTuple

KUBE_PROXY = "kube-proxy"


class Column(NamedTuple):
    """`mode` is a proxy mode, empty where no kernel is asked; `theirs`: kube-proxy, not the product."""

    name: str
    mode: str = ""
    theirs: bool = False
    flavour: str = ""  # of iptables

    @property
    def groups(self) -> tuple[str, ...]:
        """The names by which corpus and explanations speak of it, the narrowest first."""
        return (self.name, KUBE_PROXY, self.mode) if self.theirs else (self.name, self.mode)


ALL = (
    Column("model"),
    Column("interpreter"),
    Column("nftables", "nftables"),
    Column("iptables", "iptables", flavour="nft"),
    Column("iptables-legacy", "iptables", flavour="legacy"),
    Column("ipvs", "ipvs"),
    Column("userspace", "userspace"),
    Column("kube-proxy-nftables", "nftables", theirs=True),
    Column("kube-proxy-iptables", "iptables", theirs=True),
)
COLUMNS = tuple(column.name for column in ALL)
BY_NAME = {column.name: column for column in ALL}
GROUPS = frozenset(group for column in ALL for group in column.groups if group)
