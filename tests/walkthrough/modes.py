"""The stories of modes that this machine's kernel can play: W2, W12, W13, W14. W10 and W11 need IPVS: `guest`."""

from __future__ import annotations

from tests.walkthrough.story import Place, Step, Story

DOWN = "kubectl -n deltaplane-system "
LOOP = (
    "kubectl exec client-node-1 -- sh -c 'for i in $(seq 400); do curl -s -m 3 -o /dev/null "
    '-w "%{http_code}\\n" my-service/hostname; sleep 0.05; done | sort | uniq -c\''
)


def applied(overlay: str, says: str, beside: str = "") -> Step:
    """Another overlay on the cluster, to the end of its rollout; `beside` goes on meanwhile, and its output is last."""
    apply = f"kubectl apply --server-side --force-conflicts -k tests/cluster/overlays/{overlay} >/dev/null"
    ready = DOWN + "rollout status daemonset/deltaplane-agent --timeout=180s | tail -n 1"
    command = f"{apply} && {ready}"
    sees = ["successfully rolled out"]
    if beside:
        command = f"({beside}) & {command}; wait"
        sees.append(r"^ +400 200$")
    return Step(says, command, sees, within=240, asks=False)


STORIES = (
    Story(
        13,
        "another mode: the new rules are in before the old ones go, and nothing of the old stays",
        [
            applied("iptables", "iptables mode, node by node, while a Pod goes on asking 400 times.", LOOP),
            Step(
                "No table of nftables mode is left.", "nft list tables | grep -c deltaplane", ["^0$"], at=Place.NODE_1
            ),
        ],
    ),
    Story(
        2,
        "iptables mode: the chains that everybody knows from kube-proxy",
        [
            Step(
                "Three endpoints.",
                "kubectl patch deployment nginx -p "
                '\'{"spec":{"replicas":3,"template":{"spec":{"nodeName":null}}}}\' '
                "&& kubectl rollout status deployment nginx && deltaplane wait svc/my-service --timeout=20s",
                ["successfully rolled out"],
                asks=False,
            ),
            Step(
                "The Service's chain, with chances of a third, a half, and the rest.",
                "iptables-save -t nat | grep -E '^-A KUBE-(SERVICES|SVC).*default/my-service'",
                [
                    r"-A KUBE-SERVICES .*my-service cluster IP.* -j KUBE-SVC-\w{16}$",
                    r"probability 0\.333\d+ -j KUBE-SEP-\w{16}$",
                    r"probability 0\.50* -j KUBE-SEP-\w{16}$",
                ],
                at=Place.NODE_1,
            ),
            Step(
                "An endpoint's chain.",
                "iptables-save -t nat | grep -E '^-A KUBE-SEP.*default/my-service.*DNAT'",
                [r"(DNAT --to-destination 10\.180\.\S+:8080$\n?.*){3}"],
                at=Place.NODE_1,
            ),
        ],
    ),
    Story(
        12,
        "ipvs mode on nodes whose kernel lacks it: said in one line and an Event, and another mode serves",
        [
            applied("ipvs", "The kernel of these nodes has no IPVS."),
            Step(
                "The log says what is lacking, and what serves instead.",
                DOWN + "logs daemonset/deltaplane-agent -c agent | grep -iE 'cannot work|mode='",
                ["proxy mode ipvs cannot work here: mode nftables is in use"],
            ),
            Step(
                "The nodes have Events.",
                "kubectl get events --field-selector reason=ProxyModeFallback | cut -c1-150",
                ["ProxyModeFallback +node/node-1"],
            ),
            Step("Which mode is in use?", "deltaplane nodes", ["iptables|nftables"]),
        ],
    ),
    Story(
        14,
        "userspace mode: the agent carries the data itself",
        [
            applied("userspace", "userspace mode, node by node."),
            Step("The agent listens.", "ss -Hltn | grep 169.254.86.1", [r"169\.254\.86\.1:\d+"], at=Place.NODE_1),
            Step(
                "Sixty requests.",
                "kubectl exec client-node-1 -- sh -c "
                "'for i in $(seq 60); do curl -s -m 3 my-service/hostname; echo; done | sort | uniq -c'",
                [r"(^ +20 nginx-\S+$\n?){3}"],
            ),
            applied("nftables", "Back to nftables mode."),
            Step(
                "No address of it is left.",
                "ip -o address show dev lo | grep -c 169.254.86.1",
                ["^0$"],
                at=Place.NODE_1,
            ),
        ],
    ),
)
