import hashlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import huggingface_hub.constants
import pytest
from pydantic import TypeAdapter

from scripts.benchmark_sources import HubPart
from scripts.downloading import download, take_from_hub, unpack

ROOT = Path(__file__).parents[2]
CONTENT = random.Random(0).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SLEEP = time.sleep


@pytest.fixture
def url(server):
    server.files["/a/x.bin"] = CONTENT
    return server.url("/a/x.bin")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_alone(server, url, tmp_path):
    assert download(url, tmp_path / "new" / "x.bin", SHA256, 200_000) == SHA256
    assert (tmp_path / "new" / "x.bin").read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["x.bin"]
    assert server.gets == [("/a/x.bin", None)]


def test_a_cut_connection_goes_on_where_it_was_cut(server, url, tmp_path):
    server.cut = 100_000
    download(url, tmp_path / "x.bin", SHA256, None)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert server.gets == [("/a/x.bin", None), ("/a/x.bin", "bytes=100000-")]


def test_a_server_without_ranges_is_asked_for_all_of_it(server, url, tmp_path):
    server.ranges, server.cut = False, 100_000
    download(url, tmp_path / "x.bin", SHA256, None)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert len(server.gets) == 2


def test_a_server_without_head_is_asked_for_the_file(server, url, tmp_path):
    server.heads = False
    download(url, tmp_path / "x.bin", SHA256, None)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_killed_run_goes_on(server, url, tmp_path):
    """Killed as by the machine, so that nothing in it can tidy up."""
    server.cut = 100_000
    server.stuck.set()
    code = (
        "import sys, huggingface_hub.constants as c; c.DOWNLOAD_CHUNK_SIZE = 1000\n"
        "from pathlib import Path; from scripts.downloading import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), None, None)"
    )
    settings = os.environ | {"HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, "-c", code, url, tmp_path / "x.bin"], env=settings)
    deadline = time.monotonic() + 60
    # Of the last piece, what is smaller than the file's buffer was not written.
    while sum(path.stat().st_size for path in tmp_path.iterdir()) < 90_000:
        assert run.poll() is None
        assert time.monotonic() < deadline
        SLEEP(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    [part] = tmp_path.iterdir()
    assert part.suffix == ".part"
    begun = part.stat().st_size
    assert 90_000 <= begun <= 100_000

    server.stuck.clear()
    download(url, tmp_path / "x.bin", SHA256, None)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["x.bin"]
    assert server.gets[-1] == ("/a/x.bin", f"bytes={begun}-")


def interrupted(server, url, target, monkeypatch):
    """A run that dies after half of the file, which is left under a name of its own."""

    def die(*_, **__):
        raise KeyboardInterrupt

    server.cut = 100_000
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", die)
        with pytest.raises(KeyboardInterrupt):
            download(url, target, None, None)
    assert not target.exists()


@pytest.mark.parametrize("heads", [True, False])
def test_a_run_killed_at_the_very_end_takes_nothing_again(
    server, url, tmp_path, monkeypatch, heads
):
    server.heads = heads
    interrupted(server, url, tmp_path / "x.bin", monkeypatch)
    [part] = tmp_path.iterdir()
    part.write_bytes(CONTENT)
    server.asked.clear()
    download(url, tmp_path / "x.bin", SHA256, None)
    assert server.gets == []
    assert names(tmp_path) == ["x.bin"]


def test_a_server_without_head_goes_on_too_where_the_hash_is_known(
    server, url, tmp_path, monkeypatch
):
    server.heads = False
    interrupted(server, url, tmp_path / "x.bin", monkeypatch)
    [part] = tmp_path.iterdir()
    begun = part.stat().st_size
    download(url, tmp_path / "x.bin", SHA256, None)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert server.gets[-1] == ("/a/x.bin", f"bytes={begun}-")


def test_two_versions_are_never_joined(server, url, tmp_path, monkeypatch):
    interrupted(server, url, tmp_path / "x.bin", monkeypatch)
    server.version = "2"
    server.files["/a/x.bin"] = CONTENT[::-1]
    download(url, tmp_path / "x.bin", None, None)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT[::-1]
    assert names(tmp_path) == ["x.bin"]


@pytest.mark.parametrize(("sha256", "size"), [("0" * 64, None), (SHA256, 199_999)])
def test_wrong_bytes_get_no_name_and_are_deleted(url, tmp_path, sha256, size):
    with pytest.raises(ValueError, match=rf"200000 bytes of sha256 {SHA256} came, expected"):
        download(url, tmp_path / "x.bin", sha256, size)
    assert names(tmp_path) == []


def test_a_file_that_is_not_there_is_said(server, url, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"/a/y.bin: not there \(HTTP 404\)"):
        download(server.url("/a/y.bin"), tmp_path / "x.bin", None, None)
    assert names(tmp_path) == []


def test_a_refusal_is_said(server, url, tmp_path):
    server.statuses["/a/x.bin"] = 403
    with pytest.raises(OSError, match="403"):
        download(url, tmp_path / "x.bin", None, None)


def test_a_server_that_fails_for_a_moment_is_asked_again(server, url, tmp_path, monkeypatch):
    server.statuses["/a/x.bin"] = 503
    waited = []

    def recover(seconds):
        waited.append(seconds)
        server.statuses.clear()

    monkeypatch.setattr("time.sleep", recover)
    download(url, tmp_path / "x.bin", SHA256, None)
    assert len(waited) == 1


def test_a_moved_file_is_followed(server, url, tmp_path):
    server.moved["/old"] = url
    download(server.url("/old"), tmp_path / "x.bin", SHA256, None)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_full_disk_is_said_before(url, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(OSError, match=r"needs 200 kB, and .* has 5 B free; make room"):
        download(url, tmp_path / "x.bin", None, None)


def test_offline_is_said(url, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE"):
        download(url, tmp_path / "x.bin", None, None)


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return path


def test_an_archive_gives_what_is_asked_of_it(tmp_path):
    members = {"a/1.jpg": "one", "a/2.txt": "two", "__MACOSX/a/1.jpg": "mac", "b/": ""}
    unpack(archive(tmp_path / "x.zip", **members), tmp_path / "out", ["*.jpg"])
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert found == [tmp_path / "out" / "a" / "1.jpg"]
    assert found[0].read_text() == "one"
    assert names(tmp_path / "out") == ["a"]


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "a\\..\\..\\x", "C:x", "a/.."], ids=lambda name: repr(name)
)
def test_a_name_that_leads_out_stops_all_of_it(tmp_path, name):
    with pytest.raises(ValueError, match="leads out of the folder"):
        unpack(archive(tmp_path / "x.zip", **{"good": "1", name: "2"}), tmp_path / "out", ["*"])
    assert names(tmp_path) == ["out", "x.zip"]
    assert names(tmp_path / "out") == []


def test_a_link_in_an_archive_stops_all_of_it(tmp_path):
    link = zipfile.ZipInfo("a")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive(tmp_path / "x.zip", good="1")
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as file:
        file.writestr(link, "/etc")
    with pytest.raises(ValueError, match="or is a link"):
        unpack(tmp_path / "x.zip", tmp_path / "out", ["*"])


def test_a_broken_archive_leaves_nothing(tmp_path):
    file = archive(tmp_path / "x.zip", a="1" * 500, b="2" * 500)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"2" * 500, b"3" * 500))  # a wrong checksum of b
    with pytest.raises(ValueError, match=r"x.zip: broken \(Bad CRC-32"):
        unpack(file, tmp_path / "out", ["*"])
    assert names(tmp_path / "out") == []


def test_a_disk_too_small_for_what_is_inside_is_said(tmp_path, monkeypatch):
    file = archive(tmp_path / "x.zip", a="1" * 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(OSError, match="needs 5 kB"):
        unpack(file, tmp_path / "out", ["*"])


COMMIT = "c" * 40


@pytest.fixture
def hub(server, monkeypatch):
    """What the hub's library asks of a hub, answered for one data set of three files."""
    files = {"Q.csv": b"question", "pictures/a b/1.jpg": b"one", "pictures/2.jpg": b"two"}
    listed = [
        {"type": "file", "path": name, "size": len(text), "oid": "0" * 40}
        for name, text in files.items()
    ]
    api, base = "/api/datasets/who/what", "/datasets/who/what/resolve"
    for at in ("", "/revision/main"):
        server.files[api + at] = json.dumps({"id": "who/what", "sha": COMMIT}).encode()
    server.files[f"{api}/tree/{COMMIT}"] = json.dumps(listed).encode()
    for name, text in files.items():
        server.files[f"{base}/{COMMIT}/{name.replace(' ', '%20')}"] = text
    server.extra["X-Repo-Commit"] = COMMIT
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    return server


def hub_part(**changes):
    told = {"path": "*", "format": "", "hub": "who/what", "revision": None, "sha256": None}
    return HubPart(**(told | {"files": "pictures/*.jpg", "count": 2} | changes))


def take(part, folder, commit=None):
    """In a process of its own: the library reads HF_ENDPOINT when it is imported."""
    code = (
        "import sys; from pathlib import Path; from pydantic import TypeAdapter\n"
        "from scripts.downloading import take_from_hub; from scripts.benchmark_sources import *\n"
        "part = TypeAdapter(HubPart).validate_json(sys.argv[1])\n"
        "print(take_from_hub(part, Path(sys.argv[2]), sys.argv[3] or None))"
    )
    told = TypeAdapter(HubPart).dump_json(part)
    settings = os.environ | {"HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
    settings["HF_HOME"] = str(folder.parent / "home")
    return subprocess.run(
        [sys.executable, "-c", code, told, folder, commit or ""],
        env=settings,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_files_of_a_data_set_come_from_the_hub_that_is_set(hub, tmp_path):
    done = take(hub_part(strip="pictures", into="images"), tmp_path / "out")
    assert done.stdout.strip() == COMMIT, done.stderr
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.jpg")}
    assert found == {"images/a b/1.jpg", "images/2.jpg"}
    assert names(tmp_path / "out") == ["images"]
    assert not [path for path, _ in hub.gets if "Q.csv" in path]


def test_a_data_set_that_has_fewer_files_is_refused(hub, tmp_path):
    done = take(hub_part(count=3), tmp_path / "out", COMMIT)
    assert "2 files pictures/*.jpg, expected 3" in done.stderr
    assert not list((tmp_path / "out").rglob("images"))


def test_a_hub_that_cannot_be_reached_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE"):
        take_from_hub(hub_part(revision=COMMIT), tmp_path, None)
