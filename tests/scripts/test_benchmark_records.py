import hashlib

import pytest

from scripts.benchmark_records import (
    LOCK,
    Record,
    State,
    read_records,
    record_of,
    verify,
    write_record,
)
from scripts.benchmark_sources import FilePart, HandPart, HubPart, LinkPart, ZipPart

URL = "https://a/b"
ONE = hashlib.sha256(b"one").hexdigest()


def file_part(sha256=None, **told):
    return FilePart(path="a.txt", format="", url=URL, sha256=sha256, **told)


def zip_part(**told):
    return ZipPart(path="p/*.jpg", format="", zip=URL, sha256=None, count=2, **told)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "a.txt").write_bytes(b"one")
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "p" / name).write_bytes(name.encode())
    return tmp_path


def recorded(part, folder, archive=""):
    return record_of(folder, part.found(folder), URL, archive)


def test_records_are_kept_beside_the_data(tmp_path):
    first, second = (Record(source=URL, count=n, bytes=1, files={"a": ONE}) for n in (1, 2))
    assert read_records(tmp_path) == {}
    write_record(tmp_path, "x/a", first)
    write_record(tmp_path, "x/b", second)
    write_record(tmp_path, "x/a", second)
    assert read_records(tmp_path) == {"x/a": second, "x/b": second}
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("text", ["", "[]", '{"a": {"source": "x"}}'])
def test_records_of_another_kind_are_refused(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(ValueError, match=r"sources\.lock: not readable"):
        read_records(tmp_path)


def test_a_record_has_hashes_but_for_archives(folder):
    assert recorded(file_part(), folder).files == {"a.txt": ONE}
    of_zip = recorded(zip_part(), folder, archive="f" * 64)
    assert (of_zip.count, of_zip.bytes, of_zip.files, of_zip.archive) == (2, 10, {}, "f" * 64)


def test_a_file_with_a_known_hash(folder):
    part = file_part(ONE)
    assert verify(part, folder, None, False).state is State.OK
    (folder / "a.txt").write_bytes(b"two")
    verdict = verify(part, folder, None, False)
    assert verdict.state is State.WRONG
    assert verdict.wrong
    (folder / "a.txt").unlink()
    verdict = verify(part, folder, None, False)
    assert (verdict.state, verdict.detail, verdict.wrong) == (State.MISSING, "0 of 1", True)


def test_a_file_whose_hash_nobody_knew(folder):
    part = file_part()
    verdict = verify(part, folder, None, False)
    assert (verdict.state, verdict.wrong) == (State.UNKNOWN, False)
    record = recorded(part, folder)
    assert verify(part, folder, record, False).state is State.OK
    (folder / "a.txt").write_bytes(b"two")  # as long as before
    assert verify(part, folder, record, False).state is State.WRONG


def test_a_known_hash_counts_more_than_a_record(folder):
    record = Record(source=URL, count=1, bytes=3, files={"a.txt": "0" * 64})
    assert verify(file_part(ONE), folder, record, False).state is State.OK


def test_what_an_archive_gave_is_counted(folder):
    part = zip_part()
    assert verify(part, folder, None, False).state is State.UNKNOWN
    record = recorded(part, folder, "f" * 64)
    assert verify(part, folder, record, False).state is State.OK
    (folder / "p" / "1.jpg").write_bytes(b"longer than before")
    assert "fetched were 2 of 10" in verify(part, folder, record, False).detail
    (folder / "p" / "1.jpg").unlink()
    assert verify(part, folder, record, False).detail == "1 of 2"


def test_each_file_of_a_data_set_is_compared(folder):
    part = HubPart(
        path="p/*.jpg", format="", hub="a/b", revision=None, files="*", sha256=None, count=2
    )
    record = recorded(part, folder)
    assert verify(part, folder, record, False).state is State.OK
    (folder / "p" / "2.jpg").write_bytes(b"3.jpg")
    verdict = verify(part, folder, record, False)
    assert (verdict.state, verdict.detail[:7]) == (State.WRONG, "p/2.jpg")


def test_optional_pictures_are_missing_only_if_they_are_asked_for(tmp_path, folder):
    part = zip_part(images=True)
    assert verify(part, tmp_path / "none", None, False).state is State.OPTIONAL
    assert verify(part, tmp_path / "none", None, True).state is State.MISSING
    (folder / "p" / "1.jpg").unlink()
    assert verify(part, folder, None, False).state is State.MISSING  # half of them is wrong


def test_links_and_what_came_by_hand(folder):
    link = LinkPart(path="p/*.jpg", format="", link="../b/p", needs="b", count=2)
    hand = HandPart(path="p/*.jpg", format="", hand="get it", count=2)
    assert verify(link, folder, None, False).state is State.OK
    assert verify(hand, folder, None, False).state is State.UNKNOWN
    assert verify(hand, folder / "p", None, False).state is State.MISSING
