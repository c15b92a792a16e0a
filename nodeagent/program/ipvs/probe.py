"""Whether this machine can do ipvs mode at all: really tried, with nothing left behind."""

from __future__ import annotations

import os

from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.program.ipvs import names, rules, sets
from nodeagent.program.ipvs import wire as codec
from nodeagent.program.ipvs.courier import Courier, Order, reason
from nodeagent.program.ipvs.kernel import Channel, Kernel, NetlinkKernel
from nodeagent.program.ipvs.objects import TCP, Manner, VirtualKey
from nodeagent.program.ipvs.settings import Settings
from nodeagent.program.nftables import wire

DEVICE, CHAIN = "dp-probe", "DELTAPLANE-PROBE"
SERVER = VirtualKey(4, TCP, bytes((198, 51, 100, 0)), 20000)  # an address for documentation, as kube-proxy does it
_SET = "KUBE-IPVS-PROBE"


def probe(settings: Settings | None = None, kernel: Kernel | None = None) -> None:
    """Makes and removes a virtual server with the scheduler, a dummy link, a set of every type and a chain of rules.

    Raises DataplaneUnavailable with one line.
    """
    used = kernel or NetlinkKernel()
    try:
        _try(Courier(used), settings or Settings())
    except KernelUnavailable as error:
        raise DataplaneUnavailable(str(error).removesuffix("; it is retried")) from error
    finally:
        if kernel is None:
            used.close()


def _try(courier: Courier, settings: Settings) -> None:
    manner = Manner(settings.how, settings.flags, 0)
    _once(
        courier, Channel.IPVS, f"a virtual server with the scheduler {settings.how}: load ip_vs_{settings.how}",
        Order(codec.NEW_SERVICE, codec.service(SERVER, manner)), Order(codec.DEL_SERVICE, codec.service(SERVER)),
    )  # fmt: skip
    made = Order(codec.NEW_LINK, codec.link(DEVICE, "dummy"), wire.CREATE | wire.EXCLUSIVE)
    _once(courier, Channel.ROUTE, "a dummy link: load dummy", made, Order(codec.DEL_LINK, codec.link(DEVICE)))
    _try_sets(courier)
    _try_rules(courier.kernel)


def _once(courier: Courier, channel: Channel, what: str, make: Order, unmake: Order) -> None:
    """Makes something and takes it away. What a probe that was killed has left is taken away first."""
    courier.send(channel, [unmake])
    for code in courier.send(channel, [make]).values():
        raise DataplaneUnavailable(f"ipvs: the kernel refuses {what} ({reason(code)}), or choose another proxy mode")
    courier.send(channel, [unmake])


def _try_sets(courier: Courier) -> None:
    """The types are tried, not only asked for: a type's module is loaded when it is asked for, its options are not."""
    for name in {kind: name for name, kind in names.TYPES.items()}.values():
        kind = names.TYPES[name]
        try:
            answer = next(courier.ask(Channel.SETS, Order(sets.TYPE, sets.revision(kind)), listing=False))
        except OSError as error:
            why = reason(error.errno or 0)
            raise DataplaneUnavailable(
                f"ipvs: no sets of type {kind} ({why}): load ip_set or choose another mode"
            ) from error
        revision = sets.read_revision(answer)
        body = sets.create(4, name, revision, called=_SET)
        _once(
            courier,
            Channel.SETS,
            f"a set of type {kind}",
            Order(sets.CREATE, body),
            Order(sets.DESTROY, sets.about(_SET)),
        )


def _try_rules(kernel: Kernel) -> None:
    """A chain that no packet meets, with one rule of each kind that needs no set of ours."""
    chain = [
        "-m conntrack --ctstate NEW -m addrtype --src-type LOCAL -m mark --mark 0x1/0x1 -j RETURN",
        "-j MARK --set-xmark 0x0/0xffffffff",
    ]
    body = "\n".join([f":{CHAIN} - [0:0]", *(f"-A {CHAIN} {rule}" for rule in chain)])
    try:
        kernel.save(4)
        for table in rules.CHAINS:
            kernel.restore(4, f"*{table}\n{body}\nCOMMIT\n*{table}\n:{CHAIN} - [0:0]\n-X {CHAIN}\nCOMMIT\n")
    except OSError as error:
        why = error.strerror or os.strerror(error.errno or 0)
        raise DataplaneUnavailable(f"ipvs: the rules cannot be made: {why}") from error
