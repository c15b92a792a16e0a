"""The stories of installing it and of seeing what it does: W19 first, then W15 to W18."""

from __future__ import annotations

from tests.walkthrough.modes import DOWN, LOOP, applied
from tests.walkthrough.story import Place, Step, Story
from tools.lab.cluster.images import AGNHOST

CAPABILITIES = DOWN + "exec daemonset/{} -c {} -- grep -E 'CapEff|NoNewPrivs' /proc/1/status"
GRPCURL = (
    'grpcurl -cacert ca.crt -H "authorization: Bearer $(kubectl -n deltaplane-system create token me '
    '--audience=deltaplane.dev/control-plane)" '
)
SERVER = "192.168.0.2:50051"
FOLDER = "manifests"
WRITTEN = "curl -s 127.0.0.1:10249/metrics | awk '/^deltaplane_kernel_elements_total/ {print int($2)}'"
DESK = "--server=127.0.0.1:50051 --insecure"


def _flag(flag: str) -> str:
    """One operation of a JSON patch."""
    return f'{{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"{flag}"}}'


INSTALLED = Story(
    19,
    "kubectl apply -k: replicas and agents come up with the least rights, and roll without dropping a connection",
    [
        applied("nftables", "Install it: an overlay of deploy/kustomize."),
        Step(
            "What runs.",
            DOWN + "get pods -o wide --no-headers | cut -c1-90",
            [r"(deltaplane-agent-\S+ +1/1 +Running.*\n?.*){2}"],
        ),
        Step(
            "The control plane may read Services, EndpointSlices, Nodes and ServiceCIDRs.",
            "kubectl auth can-i --list --as=system:serviceaccount:deltaplane-system:deltaplane-controlplane "
            "| grep -E 'services|slices|nodes|servicecidrs|secrets|pods'",
            [r"services +\[\] +\[\] +\[get list watch\]|services .*\[.*list.*watch.*\]"],
            [r"^services .*(create|update|patch|delete)"],
        ),
        Step(
            "An agent has NET_ADMIN and no more.",
            CAPABILITIES.format("deltaplane-agent", "agent"),
            [r"CapEff:\s+0000000000001000", r"NoNewPrivs:\s+1"],
        ),
        Step(
            "A replica has nothing.",
            CAPABILITIES.format("deltaplane-controlplane", "controlplane"),
            [r"CapEff:\s+0000000000000000"],
        ),
        Step(
            "A client on each node, for what follows.",
            "for node in node-1 node-2; do kubectl run client-$node --image=" + AGNHOST + ' --overrides="{\\"spec\\":'
            '{\\"nodeName\\":\\"$node\\"}}" -- pause; done; kubectl wait --for=condition=Ready pod/client-node-1 '
            "pod/client-node-2 --timeout=60s",
            ["client-node-2 condition met"],
            asks=False,
        ),
    ],
)  # fmt: skip

ROLLED = Story(
    19,
    "agents and replicas are restarted by rollout: no request fails",
    [
        Step(
            f"{what} is restarted, node by node, while a Pod goes on asking.",
            f"({LOOP}) & {DOWN}rollout restart daemonset/{what} && "
            f"{DOWN}rollout status daemonset/{what} | tail -n 1; wait",
            ["successfully rolled out", r"^ +400 200$"],
            asks=False,
        )
        for what in ("deltaplane-agent", "deltaplane-controlplane")
    ],
)

ENDPOINTS = Story(
    15,
    "without a cluster: the control plane makes the EndpointSlices of Services and Pods in a folder",
    [
        Step(
            "A Service and two Pods in a folder.",
            f"mkdir -p {FOLDER} && cp $HERE/folder/*.yaml {FOLDER}/ && ls {FOLDER}",
            ["pods.yaml", "service.yaml"],
        ),
        Step(
            "A control plane for it, on the desk.",
            f"deltaplane controlplane --source=manifests --manifests={FOLDER} --controllers=endpointslice "
            "--listen=127.0.0.1:50051 --insecure >desk.log 2>&1 & echo $! >desk.pid",
            asks=False,
        ),
        Step("It answers.", f"deltaplane status {DESK}", ["1 Service, 1 EndpointSlice"]),
        Step(
            "The endpoints of the Pods.", f"deltaplane get endpoints web {DESK}", [r"10\.244\.1\.10", r"10\.244\.2\.10"]
        ),
        Step(
            "One becomes unready.",
            f'sed -i \'s/status: "True" # second/status: "False" # second/\' {FOLDER}/pods.yaml',
        ),
        Step("It is not ready any more.", f"deltaplane get endpoints web {DESK}", [r"10\.244\.2\.10 .*(no|False|not)"]),
        Step("The Service goes.", f"rm {FOLDER}/service.yaml"),
        Step("Its endpoints go with it.", f"deltaplane get endpoints web {DESK} 2>&1 || true", ["is gone"]),
        Step("", "kill $(cat desk.pid)"),
    ],
)

CHANGE = Story(
    16,
    "with a thousand Services, one of them goes: only what concerns it is written",
    [
        Step(
            "A thousand Services.",
            "for i in $(seq 1000); do "
            "printf 'apiVersion: v1\\nkind: Service\\nmetadata: {name: many-%d}\\nspec: {selector: "
            "{app: nginx}, ports: [{port: 80, targetPort: 8080}]}\\n---\\n' $i; done | kubectl create -f - | tail -n 1",
            ["service/many-1000 created"],
            asks=False,
            within=300,
        ),
        Step(
            "Kubernetes' controllers make their EndpointSlices.",
            "kubectl get endpointslices --no-headers | grep -c '^many-.*10.180'",
            ["^1000$"],
            within=300,
        ),
        Step("Every node has all of that.", "deltaplane nodes", ["^node-1 ", "^node-2 "]),
        Step(
            "How many elements of sets and maps node-1's agent has written to the kernel so far.",
            f"sleep 5; {WRITTEN} | tee before.txt",
            [r"^[1-9]\d{3,}$"],
            at=Place.NODE_1,
            asks=False,
        ),
        Step("One Service is deleted.", "kubectl delete service many-500", ["deleted"], asks=False),
        Step("Since when?", "deltaplane get svc many-500 2>&1 || true", ["is gone since revision"]),
        Step(
            "How many were written for that.",
            f"echo $(($({WRITTEN}) - $(cat before.txt)))",
            [r"^[1-9]\d?$"],
            at=Place.NODE_1,
        ),
        Step(
            "The others go.",
            "kubectl delete service $(seq -f many-%.0f 1000) --ignore-not-found --wait=false | wc -l",
            ["^999$"],
            asks=False,
        ),
    ],
)

ASKED = Story(
    17,
    "grpcurl shows the services, and what each node was sent, has received and has in its kernel",
    [
        Step(
            "The CA, and an account that may ask.",
            "kubectl -n deltaplane-system get configmap deltaplane-ca -o jsonpath='{.data.ca\\.crt}' >ca.crt; "
            "kubectl -n deltaplane-system create serviceaccount me; kubectl create clusterrolebinding deltaplane-me "
            "--clusterrole=deltaplane-inspector --serviceaccount=deltaplane-system:me",
            ["deltaplane-me created"],
            asks=False,
        ),
        Step("The services.", GRPCURL + f"{SERVER} list", ["deltaplane.v1.InspectionService", "grpc.health.v1.Health"]),
        Step("The nodes.", GRPCURL + f"{SERVER} deltaplane.v1.InspectionService/ListNodes", ['"node-1"', "applied"]),
    ],
)

TRACED = Story(
    18,
    "one change is one trace, from the API event to the acknowledgement of each node",
    [
        Step(
            "Jaeger on the operator's host; every change is to be traced.",
            f"{DOWN}patch daemonset deltaplane-controlplane --type=json "
            f"-p '[{_flag('--otlp-endpoint=198.51.100.2:4317')},{_flag('--trace-sample-ratio=1')}]' && "
            f"{DOWN}rollout status daemonset/deltaplane-controlplane | tail -n 1",
            ["successfully rolled out"],
            asks=False,
        ),
        Step(
            "A change.",
            "kubectl create service clusterip traced --tcp=80:8080 && deltaplane wait svc/traced",
            ["created"],
            asks=False,
        ),
        Step(
            "Its trace: where the time went, in milliseconds.",
            "curl -s 'http://127.0.0.1:16686/api/traces?service=deltaplane&limit=50' "
            "| python3 $HERE/trace.py default/traced",
            [r"api event", r"kernel commit +node-1", r"ack +node-2"],
        ),
    ],
)  # fmt: skip

STORIES = (ENDPOINTS, CHANGE, ASKED, TRACED, ROLLED)
