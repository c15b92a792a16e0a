"""The stories of Services: W1, W3 to W9. They are played one after the other, on the same application."""

from __future__ import annotations

from tests.walkthrough.story import Place, Step, Story
from tools.lab.cluster.images import AGNHOST

FROM_POD = "kubectl exec client-node-1 -- "
SPREAD = FROM_POD + "sh -c 'for i in $(seq 60); do curl -s -m 3 my-service/hostname; echo; done | sort | uniq -c'"
POD = r"^ +\d+ nginx-[0-9a-z-]+$"
NODES = ("192.168.0.2", "192.168.0.3")
BALANCER = "198.18.9.1"


def _ask(node: str, port: int, path: str = "clientip") -> str:
    return f"curl -sS -m 3 http://{node}:{port}/{path}"


def _patched(spec: str, says: str) -> Step:
    return Step(says, f"kubectl patch service my-service -p '{{\"spec\":{spec}}}'", [r"^service/my-service patched$"])


def _scaled(count: int) -> list[Step]:
    return [
        Step(
            f"Scale it to {count}.",
            f"kubectl scale deployment nginx --replicas={count} && kubectl rollout status deployment nginx",
            ["successfully rolled out"],
            asks=False,
        ),
        Step(
            "Wait until the change is in the kernel of every node.",
            "deltaplane wait svc/my-service --timeout=20s",
            ["on all 2 nodes"],
        ),
    ]


STORIES = (
    Story(
        1,
        "three Pods and a Service that selects them: every request is answered, by each of them in turn",
        [
            Step(
                "An application of three Pods.",
                f"kubectl create deployment nginx --image={AGNHOST} --port=8080 --replicas=3 -- /agnhost netexec "
                "--http-port=8080 && kubectl rollout status deployment nginx",
                ["deployment.apps/nginx created", "successfully rolled out"],
                asks=False,
            ),
            Step(
                "A Service in front of it; its type is left out.",
                "kubectl expose deployment nginx --name=my-service --port=80 --target-port=8080",
                ["service/my-service exposed"],
                asks=False,
            ),
            Step(
                "It has an address, and three endpoints.",
                "kubectl get service my-service && kubectl get endpointslices -l kubernetes.io/service-name=my-service "
                "-o jsonpath='{range .items[*].endpoints[*]}{.addresses[0]} {.conditions.ready}{\"\\n\"}{end}'",
                [r"^my-service +ClusterIP +172\.", r"(^10\.180\.\S+ true$\n?){3}"],
            ),
            Step("Is it live?", "deltaplane wait svc/my-service --timeout=20s", ["on all 2 nodes"]),
            Step("Sixty requests from a Pod, by name: who answered?", SPREAD, [rf"({POD}\n?){{3}}"]),
            Step(
                "The Pods are deleted; others come, with other addresses.",
                "kubectl delete pod -l app=nginx --wait=false && kubectl rollout status deployment nginx",
                ["successfully rolled out"],
                asks=False,
            ),
            Step("Requests go on.", SPREAD, [rf"({POD}\n?){{3}}"]),
        ],
    ),
    Story(
        3,
        "a Service whose selector matches nothing: the connection is refused at once, and does not time out",
        [
            Step(
                "A Service for Pods that do not exist.",
                "kubectl create service clusterip empty --tcp=80:8080",
                ["service/empty created"],
                asks=False,
            ),
            Step(
                "It has no endpoints.", "kubectl describe service empty | grep Endpoints", [r"Endpoints: *(<none>)?$"]
            ),
            Step(
                "Whoever asks is refused.",
                FROM_POD + "curl -sS -m 5 -w '%{time_total} s\\n' http://empty/ 2>&1 | grep -v terminated",
                ["[Rr]efused|[Cc]ould(n't| not) connect", r"^0\.\d+ s$"],
            ),
        ],
    ),
    Story(
        4,
        "the application is scaled from one to three: the new Pods get requests",
        [
            *_scaled(1),
            Step("One answers.", SPREAD, [r"^ +60 nginx-"]),
            *_scaled(3),
            Step("Three answer.", SPREAD, [rf"({POD}\n?){{3}}"]),
        ],
    ),
    Story(
        5,
        "type NodePort: every node answers, also one without a Pod, and the Pods see the node that was asked",
        [
            _patched(
                '{"type":"NodePort","ports":[{"port":80,"targetPort":8080,"nodePort":32223}]}',
                "The Service gets a port on every node.",
            ),
            Step(
                "One Pod is left, on node-1.",
                "kubectl patch deployment nginx -p "
                '\'{"spec":{"replicas":1,"template":{"spec":{"nodeName":"node-1"}}}}\' '
                "&& kubectl rollout status deployment nginx",
                ["successfully rolled out"],
                asks=False,
            ),
            Step("node-1 answers.", _ask(NODES[0], 32223, "hostname"), ["^nginx-"], at=Place.OUTSIDE),
            Step(
                "node-2, which has no Pod, answers too.",
                _ask(NODES[1], 32223, "hostname"),
                ["^nginx-"],
                at=Place.OUTSIDE,
            ),
            Step("The Pod saw node-2.", _ask(NODES[1], 32223), [r"^192\.168\.0\.3:"], at=Place.OUTSIDE),
        ],
    ),
    Story(
        6,
        "externalTrafficPolicy Local: only nodes with a Pod answer, and the Pod sees the client",
        [
            _patched('{"externalTrafficPolicy":"Local"}', "The policy changes; nothing is made anew."),
            Step("The Pod sees the client itself.", _ask(NODES[0], 32223), [r"^203\.0\.113\."], at=Place.OUTSIDE),
            Step(
                "node-2 has no Pod, and does not answer.",
                _ask(NODES[1], 32223) + " 2>&1",
                ["[Tt]imed out|timeout"],
                at=Place.OUTSIDE,
            ),
            Step(
                "Its load balancers know that: port 10256 of the agents, and the Service's health check port.",
                f"curl -s -m 3 http://{NODES[1]}:10256/healthz",
                ["lastUpdated"],
                at=Place.OUTSIDE,
            ),
            _patched('{"externalTrafficPolicy":"Cluster"}', "And back."),
            Step("node-2 answers again.", _ask(NODES[1], 32223), [r"^192\.168\.0\.3:"], at=Place.OUTSIDE),
        ],
    ),
    Story(
        7,
        "type LoadBalancer without a cloud: the node port works; an address is served once there is one",
        [
            _patched('{"type":"LoadBalancer"}', "No cloud gives it an address."),
            Step("It waits for one.", "kubectl get service my-service", ["LoadBalancer .*<pending>"]),
            Step("The node port works.", _ask(NODES[1], 32223), [r"^192\.168\.0\.3:"], at=Place.OUTSIDE),
            Step(
                "Somebody gives it an address (the laboratory's router leads it to node-1).",
                "kubectl patch service my-service --subresource=status -p "
                f'\'{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{BALANCER}"}}]}}}}}}\'',
                ["patched"],
            ),
            Step("It is served.", _ask(BALANCER, 80, "hostname"), ["^nginx-"], at=Place.OUTSIDE),
            _patched('{"loadBalancerSourceRanges":["198.51.100.0/24"]}', "It is meant for another network."),
            Step("This client is shut out.", _ask(BALANCER, 80) + " 2>&1", ["[Tt]imed out|timeout"], at=Place.OUTSIDE),
            _patched('{"loadBalancerSourceRanges":null}', "It is for everybody again."),
            Step("And in again.", _ask(BALANCER, 80, "hostname"), ["^nginx-"], at=Place.OUTSIDE),
        ],
    ),
    Story(
        8,
        "an external IP that is a node's address: served there, refused elsewhere",
        [
            _patched(f'{{"type":"ClusterIP","externalIPs":["{NODES[1]}"]}}', "The Service gets node-2's address."),
            Step("node-2 answers on port 80.", _ask(NODES[1], 80, "hostname"), ["^nginx-"], at=Place.OUTSIDE),
            Step(
                "node-1 does not.",
                _ask(NODES[0], 80) + " 2>&1",
                ["[Rr]efused|[Cc]ould(n't| not) connect"],
                at=Place.OUTSIDE,
            ),
        ],
    ),
    Story(
        9,
        "type ExternalName: nothing is programmed on any node",
        [
            Step(
                "A name for another name.",
                "kubectl create service externalname elsewhere --external-name=example.com",
                ["created"],
                asks=False,
            ),
            Step("Every node has it...", "deltaplane wait svc/elsewhere --timeout=20s", ["on all 2 nodes"]),
            Step(
                "...and no rule of it.",
                "nft list ruleset | grep -c elsewhere",
                ["^0$"],
                at=Place.NODE_1,
            ),
        ],
    ),
)
