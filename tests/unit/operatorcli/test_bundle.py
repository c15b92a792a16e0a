"""A support bundle has what the replica sent, says whether that is all, and has no secret."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import closing

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.bundle import Bundle
from tests.unit.operatorcli.long import node, service


def parts() -> list[pb.DumpResponse]:
    found = [pb.DumpResponse() for _ in range(4)]
    found[0].status.server_id = "r1"
    found[1].node.status.CopyFrom(node("node-a"))
    found[2].object.key.CopyFrom(service("web", "shop"))
    found[3].change.rev = 47
    return found


def packed(bundle: Bundle) -> dict[str, list[dict[str, object]]]:
    """Each file's lines; the one of `about` alone."""
    out = io.BytesIO()
    bundle.finish(out, "dump", {"asked": "here"})
    out.seek(0)
    found = {}
    with tarfile.open(fileobj=out, mode="r:gz") as archive:
        for entry in archive.getmembers():
            assert entry.mode == 0o600
            file = archive.extractfile(entry)
            assert file is not None
            text = file.read().decode()
            found[entry.name] = [json.loads(text)] if entry.name.endswith(".json") else [
                json.loads(line) for line in text.splitlines()
            ]  # fmt: skip
    return found


def test_each_part_is_in_a_file_of_its_kind() -> None:
    with closing(Bundle()) as bundle:
        for part in parts():
            bundle.take(part)
        bundle.take(pb.DumpResponse(end=pb.DumpEnd(parts=4)))
        files = packed(bundle)

    assert list(files) == [
        "dump/about.json",
        *(f"dump/{name}.jsonl" for name in ("replicas", "nodes", "objects", "changes")),
    ]
    assert files["dump/about.json"][0]["whole"] is True
    assert files["dump/about.json"][0]["asked"] == "here"
    assert [len(lines) for lines in files.values()] == [1, 1, 1, 1, 1]
    assert files["dump/replicas.jsonl"][0]["server_id"] == "r1"


def test_a_dump_that_was_cut_off_says_so() -> None:
    with closing(Bundle()) as bundle:
        bundle.take(parts()[0])
        assert not bundle.whole
        assert packed(bundle)["dump/about.json"][0]["whole"] is False


def test_a_dump_that_lost_a_part_says_so() -> None:
    with closing(Bundle()) as bundle:
        bundle.take(parts()[0])
        bundle.take(pb.DumpResponse(end=pb.DumpEnd(parts=2)))
        assert not bundle.whole
