"""The image as it is built from its Dockerfile: what is in it, and both programs running from its files alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.image.parts import files, parts, total
from tests.e2e.conftest import Cluster
from tests.e2e.test_identity import HEALTH, Place
from tools.lab.deltaplane import LEAVE_THE_MACHINE
from tools.lab.fabric import CLUSTER_CIDRS
from tools.lab.manifests import port, service
from tools.lab.process import Process
from tools.lab.rest import Rest
from tools.lab.rules import delete_tables, table
from tools.programs import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MOST = 150_000_000  # bytes above the base
PACKAGES = "opt/deltaplane/lib/python3.11/site-packages"
# The image's files alone, read-only, with what a container gets besides: /proc, /dev, and folders of the host.
ENTER = """
root=$1; shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$1" != -- ]; do mkdir -p "$root$1"; mount --bind "$1" "$root$1"; shift; done
shift
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --bounding-set "$CAPABILITIES" --inh-caps "$CAPABILITIES" --no-new-privs -- "$@"
"""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of the base, and those of the image."""
    if os.geteuid() != 0:
        pytest.skip("an image is built with root's rights")
    for program in ("buildah", "mmdebstrap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: run DELTAPLANE_IMAGE=yes tools/bootstrap")
    folder = tmp_path_factory.mktemp("image")
    base, image = folder / "base", folder / "root"
    where = ("--to", str(folder / "image.tar"), "--root", str(image), "--base-root", str(base))
    built = subprocess.run(
        [str(REPOSITORY / "tools/image"), *where], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert built.returncode == 0, built.stderr[-4000:]
    return base, image


def enter(root: Path, folders: tuple[Path, ...], capabilities: str, *command: str) -> list[str]:
    """A command inside. `capabilities` as setpriv has them."""
    places = (*map(str, folders), "--")
    inside = ["env", "-", f"CAPABILITIES={capabilities}", "PATH=/opt/deltaplane/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    inside += ["PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "unshare", "--mount", "sh", "-euc", ENTER, "enter"]
    return [*inside, str(root), *places, *command]


def test_the_image_is_small(roots: tuple[Path, Path]) -> None:
    base, image = roots
    found = parts(base, image)

    assert found.total() <= MOST, found.most_common(20)
    assert total(image) <= total(base) + MOST
    assert found["the rest"] < 2_000_000


def test_the_image_has_no_compiler_no_installer_and_no_leavings(roots: tuple[Path, Path]) -> None:
    base, image = roots
    added = [str(path) for path in files(image) if not (base / path).exists()]
    names = {Path(path).name for path in added}

    assert names & {"gcc", "cc", "ld", "as", "make", "pip", "pip3", "g++", "cpp"} == set()
    assert [path for path in added if path.endswith((".c", ".h", ".pyx", ".pxd", ".pyi", ".o", ".a", ".whl"))] == []
    assert [path for path in added if "/pip/" in path or "/setuptools/" in path or path.startswith("root/")] == []
    assert [path for path in added if "/tests/" in path or "/testing/" in path] == []
    assert [path for path in added if "/kubernetes/" in path and ("/api/" in path or "_api" in Path(path).stem)] == []
    assert len([path for path in added if "/kubernetes/" in path and "/models/" in path]) <= 2  # __init__ alone
    assert [path for path in added if path.startswith(("var/lib/apt/lists/", "var/cache/", "etc/pip"))] == []
    ours = {path.name for path in (image / PACKAGES).iterdir() if path.name in {"tests", "tools", "bench", "deploy"}}
    assert ours == set()


def test_every_module_has_bytecode_once(roots: tuple[Path, Path]) -> None:
    _, image = roots
    modules = sorted((image / "opt/deltaplane").rglob("*.py"))
    compiled = {
        path.parents[1] / f"{path.name.partition('.')[0]}.py" for path in image.glob("opt/**/__pycache__/*.pyc")
    }

    assert sorted(compiled) == modules
    assert len(list(image.glob("opt/**/*.pyc"))) == len(modules)


@pytest.mark.parametrize("program", ["agent", "controlplane"])
def test_both_programs_say_their_flags(roots: tuple[Path, Path], program: str) -> None:
    command = enter(roots[1], (), "-all", "deltaplane", program, "--help")
    said = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (said.returncode, said.stderr) == (0, "")
    assert "--health-listen" in said.stdout


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    made = Place(cluster, tmp_path)
    delete_tables([node.space for node in cluster.fabric.nodes])
    yield made
    delete_tables([node.space for node in cluster.fabric.nodes])
    for pod in made.pods:
        cluster.api.admin.delete(pod)


def test_both_programs_run_in_it_a_service_made_meanwhile_reaches_the_kernel_and_a_token_is_asked_about(
    roots: tuple[Path, Path], place: Place, objects: Rest
) -> None:
    node, folders = place.cluster.fabric.nodes[0], (place.folder, place.cluster.folder)
    token, state = place.folder / "token", place.folder / "state"
    token.write_text(place.token(node.name))
    state.mkdir()
    plane = (
        "deltaplane", "controlplane", f"--kubeconfig={place.cluster.kubeconfig}", f"--listen={place.address}",
        f"--health-listen=127.0.0.1:{HEALTH}", "--otlp-endpoint=127.0.0.1:1", *place.server.flags(),
    )  # fmt: skip
    agent = (
        "deltaplane", "agent", f"--server={place.address}", f"--server-ca-file={place.authority.certificate}",
        f"--token-file={token}", f"--hostname-override={node.name}", f"--cluster-cidr={','.join(CLUSTER_CIDRS)}",
        f"--state-dir={state}", "--proxy-mode=nftables", *LEAVE_THE_MACHINE,
    )  # fmt: skip
    serving = Process("plane", enter(roots[1], folders, "-all", *plane), place.folder / "plane.log", place.host.space)
    with serving:
        serving.wait_log("serving", 60)
        only = enter(roots[1], folders, "-all,+net_admin", *agent)
        with Process("agent", only, place.folder / "agent.log", node.space) as programming:
            first = objects.call("GET", "/api/v1/namespaces/default/services/kubernetes")["spec"]["clusterIP"]
            programming.wait_until(lambda: first in table(node.space), 60, f"writing {first}")
            later = objects.apply(service("inside", [port(80)]))["spec"]["clusterIP"]
            programming.wait_until(lambda: later in table(node.space), 60, f"writing {later}")
            assert _capabilities(programming.pid) == (1 << 12)
            assert _capabilities(serving.pid) == 0
            assert programming.stop() == 0
        assert serving.stop() == 0


def _capabilities(pid: int) -> int:
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("CapEff")]
    return int(line.split()[1], 16)
