"""Whether this machine can do ipvs mode at all: really tried, with nothing left behind."""

from __future__ import annotations

import contextlib

from deltaplane.model import Protocol
from nodeagent.dataplane.ipvs import names, sets
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.inventory import newest_revision
from nodeagent.dataplane.ipvs.kernel import Channel, Kernel, NetlinkKernel
from nodeagent.dataplane.ipvs.netlink_batch import NetlinkBatch, Order, reason
from nodeagent.dataplane.ipvs.objects import Manner, VirtualKey
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.iptables.trial import trial
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire

DEVICE = "dp-probe"
# An address for documentation, as kube-proxy does it.
SERVER = VirtualKey(4, Protocol.TCP, bytes((198, 51, 100, 0)), 20000)
_SET = "KUBE-IPVS-PROBE"


def probe(settings: Settings | None = None, kernel: Kernel | None = None) -> None:
    """Makes and removes a virtual server with the scheduler, a dummy link, a set of every type and a chain of rules.

    Raises DataplaneUnavailable with one line.
    """
    used = kernel or NetlinkKernel()
    try:
        _try(NetlinkBatch(used), settings or Settings())
    except KernelUnavailable as error:
        raise DataplaneUnavailable(str(error).removesuffix("; it is retried")) from error
    finally:
        if kernel is None:
            used.close()


def _try(batch: NetlinkBatch, settings: Settings) -> None:
    manner = Manner(settings.how, settings.flags, 0)
    _once(
        batch, Channel.IPVS, f"a virtual server with the scheduler {settings.how}: load ip_vs_{settings.how}",
        Order(codec.NEW_SERVICE, codec.service(SERVER, manner)), Order(codec.DEL_SERVICE, codec.service(SERVER)),
    )  # fmt: skip
    made = Order(rt.NEW_LINK, rt.link(DEVICE, "dummy"), wire.CREATE | wire.EXCLUSIVE)
    _once(batch, Channel.ROUTE, "a dummy link: load dummy", made, Order(rt.DEL_LINK, rt.link(DEVICE)))
    _try_sets(batch)
    try_rules(batch.kernel, 4)


def _once(batch: NetlinkBatch, channel: Channel, what: str, make: Order, unmake: Order) -> None:
    """Makes something and takes it away. What a probe that was killed has left is taken away first."""
    batch.send(channel, [unmake])
    for code in batch.send(channel, [make]).values():
        raise DataplaneUnavailable(f"ipvs: the kernel refuses {what} ({reason(code)}), or choose another proxy mode")
    batch.send(channel, [unmake])


def _try_sets(batch: NetlinkBatch) -> None:
    """The types are tried, not only asked for: a type's module is loaded when it is asked for, its options are not."""
    for name in {kind: name for name, kind in names.TYPES.items()}.values():
        kind = names.TYPES[name]
        body = sets.create(4, name, newest_revision(batch, kind), called=_SET)
        _once(
            batch,
            Channel.SETS,
            f"a set of type {kind}",
            Order(sets.CREATE, body),
            Order(sets.DESTROY, sets.about(_SET)),
        )


def kinds(family: int) -> dict[str, list[str]]:
    """By table, one rule of each kind that `rules` writes there; a test holds the two together."""
    member = f"-m set --match-set {_SET} dst,dst"
    refusal = "icmp-port-unreachable" if family == 4 else "icmp6-port-unreachable"
    both = [f'-m comment --comment "a probe" {member} -j DROP', f"-m conntrack --ctstate NEW {member} -j RETURN"]
    return {
        "mangle": [
            *both,
            f"-m addrtype ! --src-type LOCAL {member} -j SET --map-set {_SET} dst,dst --map-mark",
            "-m mark --mark 0x1/0x1 -j MARK --set-xmark 0x0/0xffffffff",
        ],
        "nat": [
            f'-m comment --comment "a probe" {member} -j RETURN',
            f"-m addrtype --src-type LOCAL {member} -j ACCEPT",
            "-m mark ! --mark 0x1/0x1 -j MARK --set-xmark 0x1/0x1",
            f"{member} -j MASQUERADE",
            "-j MASQUERADE --random-fully",
        ],
        "filter": [
            *both,
            "-m mark --mark 0x1/0x1 -j ACCEPT",
            f"-j REJECT --reject-with {refusal}",
            *(["-p tcp -j REJECT --reject-with tcp-reset"] if family == 6 else []),
        ],
    }


def try_rules(kernel: Kernel, family: int) -> None:
    """A chain that no packet meets, with one rule of each kind, over a set of its own. Raises DataplaneUnavailable."""
    batch = NetlinkBatch(kernel)
    unmake = Order(sets.DESTROY, sets.about(_SET))
    try:
        body = sets.create(family, names.CLUSTER_IP, newest_revision(batch, names.HASH_IP_PORT), called=_SET)
        batch.send(Channel.SETS, [unmake])
        batch.send(Channel.SETS, [Order(sets.CREATE, body)])
        kernel.save(family)
        for table, rules in kinds(family).items():
            kernel.restore(family, trial((table, rule) for rule in rules))
    except (OSError, KernelUnavailable) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataplaneUnavailable(f"ipvs: the rules of IPv{family} cannot be made: {why}") from error
    finally:
        with contextlib.suppress(KernelUnavailable):
            batch.send(Channel.SETS, [unmake])
