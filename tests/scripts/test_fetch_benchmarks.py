import errno
import hashlib
import io
import json
import zipfile

import pytest
from filelock import FileLock

from scripts import benchmark_fetcher, fetch_benchmarks
from scripts.benchmark_records import LOCK
from scripts.benchmark_sources import read_sources
from scripts.fetch_benchmarks import main


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


PICTURES = zipped(**{"val/1.jpg": "one", "val/2.jpg": "two", "val/notes.txt": "none"})
QUESTIONS = b'{"question": 1}\n'


@pytest.fixture
def root(server, tmp_path, monkeypatch):
    """A data root, and a table: quiz has questions of a known and of an unknown hash, and pictures
    that album holds."""
    server.files |= {"/q.json": QUESTIONS, "/extra.json": b"extra", "/val.zip": PICTURES}
    told = {"what": "a quiz", "licence": "MIT", "home": "https://quiz.org/it", "format": "JSON"}
    form = {"format": told.pop("format")}
    quiz = [
        form
        | {"path": "q.json", "url": server.url("/q.json")}
        | {"sha256": hashlib.sha256(QUESTIONS).hexdigest(), "size": len(QUESTIONS)},
        form | {"path": "sub/extra.json", "url": server.url("/extra.json"), "sha256": None},
        form
        | {"path": "val/*.jpg", "link": "../album/val", "needs": "album"}
        | {"count": 2, "images": True},
    ]
    album = [
        form
        | {"path": "val/*.jpg", "zip": server.url("/val.zip"), "members": ["*.jpg"]}
        | {"sha256": hashlib.sha256(PICTURES).hexdigest(), "count": 2}
    ]
    gallery = [form | {"path": "*.png", "hand": "Ask for it.", "images": True, "count": 3}]
    table = {"quiz": quiz, "album": album, "gallery": gallery}

    path = tmp_path / "sources.yaml"
    path.write_text(json.dumps({name: told | {"parts": parts} for name, parts in table.items()}))
    monkeypatch.setattr(fetch_benchmarks, "read_sources", lambda: read_sources(path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "data"


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def rows(out):
    """Cells of a printed table, without its frame."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]


def files(root):
    hidden = {".fetching", LOCK}
    found = (p for p in root.rglob("*") if p.is_file() and p.name not in hidden)
    return {path.relative_to(root).as_posix() for path in found}


def test_questions_come_without_pictures(root, server, capsys):
    assert run(capsys, "quiz", "--data-root", root)[0] == 0
    assert files(root) == {"quiz/q.json", "quiz/sub/extra.json"}
    lock = json.loads((root / LOCK).read_text())
    assert lock["quiz/sub/extra.json"]["files"] == {
        "sub/extra.json": hashlib.sha256(b"extra").hexdigest()
    }
    assert lock["quiz/q.json"]["source"] == server.url("/q.json")


def test_pictures_come_once_for_all(root, server, capsys):
    assert run(capsys, "quiz", "album", "--data-root", root, "--images")[0] == 0
    assert files(root) - {"quiz/val/1.jpg", "quiz/val/2.jpg"} == {
        *("quiz/q.json", "quiz/sub/extra.json", "album/val/1.jpg", "album/val/2.jpg")
    }
    assert (root / "quiz" / "val").readlink().as_posix() == "../album/val"
    assert (root / "quiz" / "val" / "2.jpg").read_text() == "two"
    assert [path for path, _ in server.gets].count("/val.zip") == 1
    moved = root.rename(root.with_name("moved"))  # the link is relative
    assert (moved / "quiz" / "val" / "2.jpg").exists()


def test_a_second_run_asks_for_nothing(root, server, capsys):
    run(capsys, "quiz", "--data-root", root, "--images")
    before = (root / LOCK).read_bytes()
    server.asked.clear()
    assert run(capsys, "quiz", "album", "--data-root", root, "--images")[0] == 0
    assert server.asked == []
    assert (root / LOCK).read_bytes() == before


def test_a_run_killed_while_unpacking_goes_on(root, server, capsys, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(benchmark_fetcher, "unpack", die)
        with pytest.raises(KeyboardInterrupt):
            main(["album", "--data-root", str(root)])
    assert files(root) == {"album/val.zip"}
    assert run(capsys, "album", "--data-root", root)[0] == 0
    assert files(root) == {"album/val/1.jpg", "album/val/2.jpg"}
    assert len(server.gets) == 1


def test_an_archive_that_lies_there_is_used(root, server, capsys):
    (root / "album").mkdir(parents=True)
    (root / "album" / "val.zip").write_bytes(b"another")
    status, _, said = run(capsys, "album", "--data-root", root)
    assert status == 1
    assert "move it away" in said
    (root / "album" / "val.zip").write_bytes(PICTURES)
    assert run(capsys, "album", "--data-root", root)[0] == 0
    assert server.asked == []


def test_what_is_taken_again_is_of_the_commit_it_was(root, capsys, monkeypatch):
    part = {"path": "*.txt", "format": "", "hub": "a/b", "revision": None, "files": "*"}
    told = {"what": "w", "licence": "l", "home": "https://a/b", "parts": [part | {"sha256": None}]}
    (root.parent / "sources.yaml").write_text(json.dumps({"set": told}))
    asked = []

    def take(_, folder, commit):
        asked.append(commit)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.txt").write_text("text")
        return "c" * 40

    monkeypatch.setattr(benchmark_fetcher, "take_from_hub", take)
    for _ in range(2):
        assert run(capsys, "set", "--data-root", root)[0] == 0
    (root / "set" / "a.txt").write_text("spoilt")
    assert run(capsys, "set", "--data-root", root)[0] == 0
    assert (root / "set" / "a.txt").read_text() == "text"
    assert asked == [None, "c" * 40]


def test_one_failure_stops_no_other(root, server, capsys):
    server.files["/q.json"] = b"something else"
    del server.files["/val.zip"]
    status, _, said = run(capsys, "quiz", "--data-root", root, "--images")
    assert status == 1
    assert files(root) == {"quiz/sub/extra.json"}
    assert "error: quiz, q.json: " in said
    assert "14 bytes of sha256" in said
    assert "error: quiz, val/*.jpg: album, val/*.jpg: " in said
    assert "/val.zip: not there (HTTP 404)" in said


def test_a_disk_that_fills_up_is_said(root, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("scripts.downloading.http_get", full)
    status, _, said = run(capsys, "quiz", "--data-root", root)
    assert status == 1
    assert "No space left on device; make room, and run this again: it goes on" in said


def test_a_server_that_is_away_is_said(root, server, capsys):
    server.shutdown()
    server.server_close()
    status, _, said = run(capsys, "quiz", "--data-root", root)
    assert status == 1
    assert "error: quiz, q.json: " in said


def test_what_a_person_put_there_is_kept(root, server, capsys):
    (root / "quiz" / "sub").mkdir(parents=True)
    (root / "quiz" / "sub" / "extra.json").write_text("my own")
    (root / "quiz" / "q.json").write_text("my own")
    status, _, said = run(capsys, "quiz", "--data-root", root)
    assert status == 1
    assert "q.json is not" in said
    assert "It was not fetched by this script: move it away." in said
    assert (root / "quiz" / "q.json").read_text() == "my own"
    assert (root / "quiz" / "sub" / "extra.json").read_text() == "my own"
    assert server.asked == []
    # Its hash is recorded, and compared from then on.
    (root / "quiz" / "sub" / "extra.json").write_text("my new")
    assert "wrong hash" in run(capsys, "--verify", "quiz", "--data-root", root)[1]


def test_what_was_fetched_and_spoilt_is_taken_again(root, server, capsys):
    run(capsys, "quiz", "album", "--data-root", root)
    (root / "quiz" / "q.json").write_bytes(b"x" * len(QUESTIONS))
    (root / "album" / "val" / "1.jpg").unlink()
    assert run(capsys, "--verify", "quiz", "album", "--data-root", root)[0] == 1
    server.asked.clear()
    assert run(capsys, "quiz", "album", "--data-root", root)[0] == 0
    assert [path for path, _ in server.gets] == ["/q.json", "/val.zip"]
    assert run(capsys, "--verify", "quiz", "album", "--data-root", root)[0] == 0


def test_a_source_that_changed_is_noticed(root, server, capsys):
    """The hash of the first download is what a later one must have."""
    run(capsys, "quiz", "--data-root", root)
    (root / "quiz" / "sub" / "extra.json").unlink()
    server.files["/extra.json"] = b"EXTRA"
    status, _, said = run(capsys, "quiz", "--data-root", root)
    assert status == 1
    assert "5 bytes of sha256" in said
    assert not (root / "quiz" / "sub" / "extra.json").exists()


def test_a_folder_of_pictures_of_ones_own_is_not_replaced(root, capsys):
    (root / "quiz" / "val").mkdir(parents=True)
    (root / "quiz" / "val" / "1.jpg").touch()
    status, _, said = run(capsys, "quiz", "--data-root", root, "--images")
    assert status == 1
    assert "is there with 1 of 2 files; move it away" in said


def test_what_only_a_person_can_get_is_explained(root, server, capsys):
    assert run(capsys, "gallery", "--data-root", root)[0] == 0
    status, _, said = run(capsys, "gallery", "--data-root", root, "--images")
    assert status == 1
    assert f"Ask for it. Here: {root / 'gallery'}." in said
    assert server.asked == []


def test_two_runs_do_not_meet(root, capsys):
    root.mkdir()
    with FileLock(root / ".fetching"):
        status, _, said = run(capsys, "quiz", "--data-root", root)
    assert status == 1
    assert "another run is fetching into it" in said


def test_verify_tells_every_state(root, capsys):
    run(capsys, "quiz", "album", "--data-root", root)
    (root / "quiz" / "q.json").write_bytes(b"x" * len(QUESTIONS))
    (root / "gallery").mkdir()
    for number in range(3):
        (root / "gallery" / f"{number}.png").touch()
    status, out, said = run(capsys, "--verify", "--data-root", root)
    assert status == 1
    assert "1 parts are missing or wrong" in said
    told = {(row[0], row[1]): row[2] for row in rows(out) if len(row) == 4}
    assert told == {
        ("quiz", "q.json"): "wrong hash",
        ("quiz", "sub/extra.json"): "ok",
        ("quiz", "val/*.jpg"): "not asked for",
        ("album", "val/*.jpg"): "ok",
        ("gallery", "*.png"): "not checkable",
    }
    status, out, _ = run(capsys, "--verify", "quiz", "--data-root", root, "--images")
    assert ["quiz", "val/*.jpg", "missing", "0 of 2"] in rows(out)
    run(capsys, "quiz", "--data-root", root, "--images")
    assert run(capsys, "--verify", "quiz", "album", "--data-root", root, "--images")[0] == 0


def test_verify_of_no_name_is_of_what_was_fetched(root, capsys):
    run(capsys, "quiz", "--data-root", root)
    status, out, _ = run(capsys, "--verify", "--data-root", root)
    assert status == 0
    assert "Not fetched, not verified: album, gallery" in out
    assert {row[0] for row in rows(out) if len(row) == 4} == {"quiz"}
    # What was fetched once and is gone is wrong; what is named is verified, there or not.
    for file in (root / "quiz").rglob("*.json"):
        file.unlink()
    assert run(capsys, "--verify", "--data-root", root)[0] == 1
    assert run(capsys, "--verify", "gallery", "--data-root", root, "--images")[0] == 1


def test_verify_reaches_for_no_network(root, server, capsys):
    run(capsys, "quiz", "--data-root", root)
    server.asked.clear()
    run(capsys, "--verify", "--data-root", root)
    run(capsys, "--list", "--data-root", root)
    assert server.asked == []


def test_list_tells_what_there_is_and_what_is_here(root, capsys):
    run(capsys, "quiz", "--data-root", root)
    status, out, _ = run(capsys, "--list", "--data-root", root)
    assert status == 0
    told = [row for row in rows(out) if row]
    quiz = next(place for place, row in enumerate(told) if row[0] == "quiz")
    assert told[quiz] == ["quiz", "a quiz", "pictures missing: --images"]
    assert [row[1].split(", --images")[0] for row in told[quiz + 1 : quiz + 4]] == [
        *("MIT", "more than 16 B", "https://quiz.org/it")
    ]
    assert [row[2] for row in told if row[0] == "album"] == ["not fetched"]
    assert "--images: as album" in out


def test_list_of_a_benchmark_tells_every_file(root, server, capsys):
    status, out, _ = run(capsys, "--list", "quiz")
    assert status == 0
    for text in ("quiz/q.json", server.url("/q.json"), hashlib.sha256(QUESTIONS).hexdigest()):
        assert any(text in line for line in out.splitlines()), "not whole, not to be copied"
    assert "not known: recorded at the first download" in out
    assert "gallery" not in out


def test_the_real_table_is_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = run(capsys, "--list")
    assert status == 0
    for name in read_sources():
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quiz"], "--data-root is needed"),
        (["--verify"], "--data-root is needed"),
        (["--data-root", "x"], "name the benchmarks to fetch, or give --list"),
        (["--list", "--verify"], "not allowed with"),
    ],
)
def test_a_command_that_lacks_something_is_refused(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_names_and_folders_that_are_not_there_are_said(root, capsys):
    status, _, said = run(capsys, "quizz", "--data-root", root)
    assert status == 1
    assert "'quizz' is none of quiz, album, gallery." in said
    for names in ([], ["quiz"]):
        status, _, said = run(capsys, "--verify", *names, "--data-root", root)
        assert status == 1
        assert "no such folder; check --data-root" in said
