import hashlib
import json
import re
from pathlib import Path, PurePosixPath

import pytest
import yaml

from eval.registry import BENCHMARKS
from scripts.benchmark_sources import (
    SOURCES,
    FilePart,
    HandPart,
    HubPart,
    LinkPart,
    ZipPart,
    in_words,
    read_sources,
    size_of,
    source_of,
)

FOUND = read_sources()
PARTS = [(benchmark, part) for benchmark in FOUND.values() for part in benchmark.parts]
IDS = [f"{benchmark.folder}/{part.path}" for benchmark, part in PARTS]
EVERY = pytest.mark.parametrize(("benchmark", "part"), PARTS, ids=IDS)
ASKED = """pope pope_2023 pope_aokvqa pope_gqa mmvp hallusionbench amber chair mme naturalbench
    mmhal objhal mmbench_en mmbench_cn llava_bench mmvp_vlm"""
OFFICIAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchmarks"
# Where the official files lie, if not in a folder of the benchmark's name.
LIES_IN = {"pope_2023": "pope/llava15_version"}


def test_all_benchmarks_with_files_of_others_are_there():
    assert set(ASKED.split()) <= set(FOUND)
    # Captions and edit pairs are the user's own.
    read = {benchmark.folder for benchmark in BENCHMARKS.values()} - {"edits", "captions"}
    assert read <= {benchmark.folder for benchmark in FOUND.values()}


@EVERY
def test_a_part_says_where_it_is_from_and_what_it_is(benchmark, part):
    assert benchmark.licence.strip()
    assert benchmark.what.strip()
    assert part.format.strip()
    assert benchmark.home.startswith("https://")
    for address in re.findall(r"https?://\S+", source_of(part)):
        assert address.startswith("https://")
    if isinstance(part, HandPart):
        assert "https://" in part.hand


@EVERY
def test_a_part_stays_in_its_folder(benchmark, part):
    names = [part.path, benchmark.folder]
    names += [part.into] if isinstance(part, ZipPart | HubPart) else []
    for name in names:
        assert not PurePosixPath(name).is_absolute()
        assert ".." not in PurePosixPath(name).parts


@EVERY
def test_a_source_is_pinned_or_compared_with_its_first_download(benchmark, part):
    """A commit in the address, or a hash. Else it says `null`, which sources.lock then fills."""
    if isinstance(part, FilePart | ZipPart) and "githubusercontent" in source_of(part):
        assert re.search(r"githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/", source_of(part))
    told = yaml.safe_load(SOURCES.read_text(encoding="utf-8"))[benchmark.name]["parts"]
    [mine] = [one for one in told if one["path"] == part.path]
    if isinstance(part, HubPart):
        assert {"revision", "sha256"} <= set(mine)
    elif isinstance(part, FilePart | ZipPart):
        assert "sha256" in mine
        assert "/resolve/main/" not in source_of(part) or part.sha256


def test_no_two_benchmarks_tell_one_file_differently():
    for (a, part), (b, other) in ((x, y) for x in PARTS for y in PARTS):
        if (a.folder, part.path) == (b.folder, other.path):
            assert part == other


def test_a_link_leads_to_what_the_other_benchmark_has():
    for benchmark, part in PARTS:
        if isinstance(part, LinkPart):
            first, *rest = PurePosixPath(part.path).parts
            led = PurePosixPath(part.link).relative_to("..")
            target = FOUND[part.needs]
            assert led.parts[0] == target.folder
            inside = PurePosixPath(*led.parts[1:], *rest).as_posix()
            assert (inside, part.count) in {(one.path, one.count) for one in target.parts}
            assert "/" not in benchmark.folder
            assert first


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official files are not on this machine")
def test_hashes_and_sizes_are_those_of_the_official_files():
    compared = 0
    for benchmark, part in PARTS:
        path = OFFICIAL / LIES_IN.get(benchmark.folder, benchmark.folder) / part.path
        if isinstance(part, FilePart) and part.sha256 and path.is_file():
            content = path.read_bytes()
            assert hashlib.sha256(content).hexdigest() == part.sha256, path
            assert len(content) == part.size, path
            compared += 1
    assert compared == 9 + 3 + 7 + 3


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official files are not on this machine")
def test_as_many_pictures_are_expected_as_the_official_questions_name():
    def named(file, key):
        rows = json.loads((OFFICIAL / file).read_text(encoding="utf-8"))
        return {row[key] for row in rows} - {None}

    count = {f"{benchmark.folder}/{part.path}": part.count for benchmark, part in PARTS}
    expected = named("hallusionbench/HallusionBench.json", "filename")
    assert count["hallusionbench/hallusion_bench/*/*/*.png"] == len(expected)
    # Each is where the glob looks: two folders down, ./VD/map/1_0.png.
    assert all(re.fullmatch(r"\./V[DS]/[^/]+/[^/]+\.png", name) for name in expected)
    images = named("amber/query/query_all.json", "image")
    assert count["amber/image/AMBER_*.jpg"] == len(images)
    sources = named("mmhal/mmhal-bench_answer_template.json", "image_src")
    assert count["mmhal/images/*.jpg"] == len({source.rpartition("/")[2] for source in sources})
    assert count["pope/gqa/images/*.jpg"] == len(named("pope/gqa_pope_seem_random.json", "image"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": None}, "licence"),
        ({"home": "somewhere"}, "home"),
        ({"parts": []}, "parts"),
        ({"parts": [{"path": "a", "format": "b"}]}, "parts"),
        ({"parts": [{"path": "a", "format": "b", "url": "x", "sha256": None}]}, "url"),
        ({"parts": [{"path": "a", "format": "b", "url": "https://a/b", "sha256": "1"}]}, "sha256"),
        (
            {"parts": [{"path": "a", "format": "b", "link": "../x", "needs": "x"}]},
            "x needs x|needs",
        ),
        ({"color": "red"}, "color"),
    ],
)
def test_a_table_that_lacks_something_is_refused(tmp_path, change, message):
    whole = {"what": "w", "licence": "l", "home": "https://a/b", "parts": [{"path": "p"}]}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"one": whole | change}))
    with pytest.raises(ValueError, match=message):
        read_sources(tmp_path / "x.yaml")


def test_sizes_in_words():
    words = {0: "0 B", 57: "57 B", 5300: "5.3 kB", 999_999: "1 MB", 6_645_013_297: "6.65 GB"}
    assert {size: in_words(size) for size in words} == words
    known = {"path": "a", "format": "", "url": "https://a/b", "sha256": None}
    exact, rounded = FilePart(**known, size=1500), FilePart(**known, about=500)
    unknown = FilePart(**known)
    assert size_of([exact, exact]) == "3 kB"
    assert size_of([exact, rounded]) == "about 2 kB"
    assert size_of([exact, unknown]) == "more than 1.5 kB"
    assert size_of([unknown]) == "unknown"
    assert size_of([]) == ""
