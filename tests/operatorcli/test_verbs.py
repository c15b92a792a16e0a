"""What the verbs say of a shop of three nodes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import stat
import struct
import subprocess
import sys
import tarfile
import termios
import threading
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGSTOP

import pytest

from operatorcli.exits import Exit
from tests.operatorcli.world import COMMAND, NODES, Command, Shop, meanwhile, web
from tools.lab.client import until


def test_status_is_yes_where_every_node_has_everything(deltaplane: Command, shop: Shop) -> None:
    shop.settled()  # what other tests have changed is acknowledged

    said = deltaplane("status")

    assert (said.code, said.err) == (0, "")
    assert "3 nodes: 3 live" in said.out
    assert "2 Services, 1 EndpointSlice, 3 Nodes" in said.out
    assert "Every node has the newest revision in its kernel." in said.out


def test_nodes_are_a_line_each(deltaplane: Command) -> None:
    said = deltaplane("nodes")

    assert said.code == 0
    assert [line.split()[:3] for line in said.out.splitlines()[1:]] == [[name, "live", "nftables"] for name in NODES]


def test_names_are_what_other_verbs_take(deltaplane: Command) -> None:
    assert deltaplane("nodes", "-o", "name").out.splitlines() == [f"node/{name}" for name in NODES]


def test_commits_are_told_as_they_come(deltaplane: Command, shop: Shop) -> None:
    change = threading.Timer(1.0, lambda: shop.write("web", *web(replicas=2)))
    with meanwhile(change):
        said = deltaplane("watch", "--commits", "--count=3", "--timeout=30s", "-o", "json")

    commits = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 0
    assert sorted(commit["node_name"] for commit in commits) == list(NODES)
    assert {cause["object"]["name"] for commit in commits for cause in commit["causes"]} == {"web-v4"}


def test_a_watch_in_vain_is_a_no(deltaplane: Command, shop: Shop) -> None:
    shop.settled()

    said = deltaplane("watch", "--count=1", "--timeout=200ms", "--node=node-a")

    assert (said.code, said.out) == (1, "")


def test_top_counts_changes_and_shows_nodes(deltaplane: Command, shop: Shop) -> None:
    head = shop.settled()

    said = deltaplane("top", "--interval=200ms", "--rows=2")

    assert said.code == 0
    assert f"revision         {head}, 0.0 changes/s" in said.out
    assert "and 1 more nodes, no slower" in said.out


def test_changes_are_told_as_they_are_sent(deltaplane: Command, shop: Shop) -> None:
    shop.write("web", *web(address=41))
    until(lambda: "10.244.1.41" in deltaplane("get", "endpoints", "web", "-n", "shop", "-o", "json").out, 60)
    head = shop.settled()
    shop.write("web", *web(replicas=1, address=41))
    shop.changed(head)

    said = deltaplane("watch", "svc/shop/web", f"--since={head}", "--timeout=2s")
    slices = deltaplane("watch", "endpointslice/shop/web-v4", f"--since={head}", "--count=1", "--timeout=30s")

    assert (said.code, said.err) == (0, "")
    assert slices.code == 0
    assert f"rev {head + 1}  modified  endpointslice/shop/web-v4" in slices.out


def test_a_wait_names_the_nodes_whose_kernels_do_not_answer_and_is_a_yes_when_they_do(
    deltaplane: Command, shop: Shop
) -> None:
    before = shop.settled()
    shop.agents.signal(SIGSTOP)
    try:
        shop.write("web", *web(replicas=3, address=9))
        shop.changed(before)
        said = deltaplane("wait", "endpointslice/shop/web-v4", "--timeout=1s")
        names = deltaplane("wait", "endpointslice/shop/web-v4", "--timeout=1s", "-o", "name")
    finally:
        shop.agents.signal(SIGCONT)

    assert said.code == 1
    assert "not on 3 of 3 nodes after 1" in said.out
    assert [line.split()[:2] for line in said.out.splitlines()[2:]] == [[name, "behind"] for name in NODES]
    assert names.out.split() == [f"node/{name}" for name in NODES]
    assert deltaplane("wait", "endpointslice/shop/web-v4", "--timeout=30s").code == 0


def test_a_wrong_port_names_the_service_that_is_near(deltaplane: Command) -> None:
    said = deltaplane("explain", "10.244.1.7", "10.96.0.10:81", "--node=node-a")

    assert said.code == 1
    assert "10.244.1.7 to 10.96.0.10:81/TCP is refused at once." in said.out
    assert "svc/shop/web  10.96.0.10:80/TCP" in said.out


@pytest.mark.parametrize(
    "words",
    ["get svc webb -n shop", "get node node-x", "wait svc/shop/webb", "diff node-a node-x",
     "explain 10.0.0.1 10.96.0.10:80 --node=node-x"],
)  # fmt: skip
def test_what_is_not_there_is_a_no_that_names_what_is(words: str, deltaplane: Command) -> None:
    said = deltaplane(*words.split())

    assert (said.code, said.out) == (1, "")
    assert "near: " in said.err
    assert "`deltaplane get svc -A`" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("wait web", "svc/NAME"),
        ("wait svc/web --for=gone", "removed=POD"),
        ("wait svc/web --for=removed=web-1", "--for=removed=ADDRESS"),
        ("wait svc/web --timeout=11m", "10m"),
        ("explain 10.0.0.1 web:80 --node=node-a", "Names are not looked up"),
        ("explain 10.0.0.1 10.96.0.10:80", "--node=NODE"),
        ("get pods", "Kinds are svc, endpoints and node"),
        ("get svc -l app=web", "deltaplane get $(kubectl get svc"),
        ("get pods", "deltaplane get endpoints NAME"),
        ("get events -A", "deltaplane watch"),
        ("get svc web -w", "deltaplane watch svc/NAME"),
        ("describe svc web", "deltaplane get svc NAME"),
        ("get svc web -A", "-n instead of -A"),
        pytest.param("release-brake", "--all", id="release-brake alone"),
        ("nodes --server=nowhere", "HOST:PORT"),
        ("nodes --no-such-flag", "--no-such-flag"),
        ("nodes -o csv", "json"),
    ],
)
def test_wrong_usage_says_what_is_right(words: str, said: str, deltaplane: Command) -> None:
    found = deltaplane(*words.split())

    assert (found.code, found.out) == (2, "")
    assert said in found.err


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("-n shop get svc web", ["shop/web"]),
        ("get svc shop/web shop/db", ["shop/web", "shop/db"]),
        ("--insecure=true get svc/shop/db", ["shop/db"]),
    ],
)
def test_services_are_named_as_kubectl_users_write_them(words: str, shown: list[str], deltaplane: Command) -> None:
    said = deltaplane(*words.split())

    assert said.code == 0, said.err
    assert [line.split()[1] for line in said.out.splitlines() if line.startswith("service ")] == shown


def test_of_several_the_one_that_is_not_there_is_named_and_the_others_are_shown(deltaplane: Command) -> None:
    said = deltaplane("get", "svc", "web", "none", "-n", "shop")

    assert (said.code, "shop/web" in said.out) == (1, True)
    assert "there is no Service shop/none" in said.err


def test_no_service_in_the_namespace_is_said_as_kubectl_says_it(deltaplane: Command) -> None:
    said = deltaplane("get", "services")

    assert said.code == 0
    assert said.out.splitlines()[0] == "No resources found in default namespace."
    assert "shop: -A" in said.out


def test_a_service_is_a_target_by_its_name(deltaplane: Command, shop: Shop) -> None:
    shop.settled()

    said = deltaplane("explain", "10.244.1.7", "svc/web", "-n", "shop", "--node=node-a")
    port = deltaplane("explain", "10.244.1.7", "svc/shop/web:81", "--node=node-a")

    assert said.code == 0, said.err
    assert "10.244.1.7 to 10.96.0.10:80/TCP reaches svc/shop/web." in said.out
    assert (port.code, "It has 80/TCP (http)" in port.err) == (2, True)


def test_what_a_node_has_that_does_not_answer_is_what_it_acknowledged_and_a_no(deltaplane: Command, shop: Shop) -> None:
    shop.write("web", *web(address=51))
    until(lambda: "10.244.1.51" in deltaplane("get", "endpoints", "web", "-n", "shop", "-o", "json").out, 60)
    before = shop.settled()
    shop.agents.signal(SIGSTOP)
    try:
        shop.write("web", *web(address=52))
        shop.changed(before)
        said = deltaplane("get", "svc/shop/web", "--node=node-b")
        explained = deltaplane("explain", "10.244.1.7", "svc/shop/web", "--node=node-b")
    finally:
        shop.agents.signal(SIGCONT)

    assert (said.code, explained.code) == (1, 1)
    for each in (said, explained):
        assert each.out.startswith("node-b does not have the newest of this: ")
        assert "endpointslice/shop/web-v4 changed" in " ".join(each.out.split())
        assert ("10.244.1.51:8080" in each.out, "10.244.1.52:8080" in each.out) == (True, False)


def test_what_changed_is_shown_from_a_time_on_and_not_of_commits(deltaplane: Command, shop: Shop) -> None:
    shop.write("web", *web(address=61))
    until(lambda: "10.244.1.61" in deltaplane("get", "endpoints", "web", "-n", "shop", "-o", "json").out, 60)

    said = deltaplane("watch", "svc/shop/web", "--since=10m", "--count=1", "--timeout=30s", "-o", "name")
    commits = deltaplane("watch", "--commits", "--since=10m")

    assert (said.code, said.out) == (0, "endpointslice/shop/web-v4\n")
    assert (commits.code, "Commits are not kept" in commits.err) == (2, True)


def test_an_address_where_nothing_listens_is_said(deltaplane: Command) -> None:
    said = deltaplane("nodes", "--server=127.0.0.1:9")

    assert (said.code, said.out) == (3, "")
    assert "no replica answers at 127.0.0.1:9" in said.err
    assert "--server" in said.err


def test_a_bundle_is_whole_of_this_user_alone_and_overwrites_nothing(
    deltaplane: Command, shop: Shop, tmp_path: Path
) -> None:
    shop.settled()
    (tmp_path / "token").write_text("a-secret-that-nobody-may-see")
    path = tmp_path / "bundle.tar.gz"

    said = deltaplane("dump", str(path), f"--token-file={tmp_path / 'token'}")
    again = deltaplane("dump", str(path))

    assert said.code == 0, said.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        files = {Path(each.name).name: archive.extractfile(each) for each in archive.getmembers()}
        texts = {name: file.read().decode() for name, file in files.items() if file is not None}
    assert '"whole": true' in texts["about.json"]
    assert [json.loads(line)["status"]["node_name"] for line in texts["nodes.jsonl"].splitlines()] == list(NODES)
    assert "10.96.0.10" in texts["objects.jsonl"]
    assert not any("a-secret" in text for text in texts.values())
    assert again.code == 2
    assert "is there already" in again.err


def test_a_unix_socket_is_asked_without_any_other_flag(deltaplane: Command, tmp_path: Path) -> None:
    said = deltaplane("nodes", f"--server=unix://{tmp_path}/none.sock")

    assert said.code == 3
    assert f"unix://{tmp_path}/none.sock" in said.err


def test_an_interrupt_ends_it_without_a_word(shop: Shop) -> None:
    heeding = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {COMMAND}"
    command = [sys.executable, "-c", heeding, "watch", f"--server={shop.address}", "--insecure", "-o", "name"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        stop = threading.Event()
        changing = threading.Thread(target=change, args=(shop, stop))
        with meanwhile(changing):
            assert process.stdout.readline() == "endpointslice/shop/web-v4\n"
            stop.set()
        process.send_signal(SIGINT)
        assert process.wait(30) == Exit.INTERRUPTED
        assert process.stderr.read() == ""


def change(shop: Shop, stop: threading.Event) -> None:
    """Changes a slice until it is told to stop."""
    for number in range(20, 200):
        shop.write("web", *web(address=number))
        if stop.wait(0.5):
            return


def test_of_several_addresses_the_first_that_answers_is_asked(deltaplane: Command, shop: Shop) -> None:
    said = deltaplane("status", f"--server=127.0.0.1:9,{shop.address}")

    assert said.code == 0, said.err
    assert f"at {shop.address}" in said.out


@pytest.mark.parametrize("words", ["nodes", "top --count=1 --interval=100ms"])
def test_on_a_terminal_there_is_colour_within_a_hundred_columns(words: str, shop: Shop) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 180, 0, 0))
    command = [sys.executable, "-c", COMMAND, *words.split(), f"--server={shop.address}", "--insecure"]
    environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "NO_COLOR"}}
    with subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.PIPE, env=environment | {"TERM": "xterm-256color"}
    ) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # EIO: the other side has ended
            while chunk := os.read(ours, 65536):
                said += chunk
        assert process.stderr is not None
        assert process.stderr.read() == b""
    os.close(ours)

    text = said.decode()
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()
    assert process.returncode == 0
    assert "\x1b[32mlive" in text
    assert any("node-a" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_trace_chooses_no_endpoint_and_says_what_to_do_instead(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Command({}, capsys, monkeypatch)("trace", "10.244.1.7", "svc/web", "--endpoint=10.244.2.9:8080")

    assert said.code == 2
    assert "the kernel draws the endpoint" in said.err
    assert "--count=12 follows" in said.err
    assert "10.244.2.9:8080 in place of svc/web follows the way to that one" in said.err
