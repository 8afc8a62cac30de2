"""Files by name, pattern and address."""

import datasets
import fsspec
import pytest

from tests.tiny_tower import write_edits
from vision_tower.edits import Edits
from vision_tower.tables import expand


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_names_and_patterns(tmp_path):
    for name in ("b.json", "a.json", "a[1].json"):
        (tmp_path / name).touch()
    assert [path.name for path in expand([tmp_path / "?.json"])] == ["a.json", "b.json"]
    assert expand([tmp_path / "a[1].json"]) == [tmp_path / "a[1].json"], "a name before a pattern"
    with pytest.raises(FileNotFoundError, match=r"no file '.*none\.json'"):
        expand([tmp_path / "none.json"])


def test_files_of_a_store_are_fetched_once_and_keep_their_names(tmp_path):
    """In memory here; fsspec opens hf://, s3://, gs:// and https:// alike."""
    store = fsspec.filesystem("memory")
    for folder in ("one", "two"):
        for number in range(2):
            file = write_edits(tmp_path / f"{folder}-{number}.parquet", 2 + number)
            store.pipe(f"/{folder}/part-{number}.parquet", file.read_bytes())
    edits = Edits(["memory://one/*.parquet"])
    assert len(edits) == 5
    assert edits.ids()[-1] == "part-1.parquet:2"
    assert edits[4].source_caption == Edits([tmp_path / "one-1.parquet"])[2].source_caption
    others = expand(["memory://two/part-0.parquet"])
    assert others[0].name == "part-0.parquet"
    assert others[0] != expand(["memory://one/part-0.parquet"])[0], "of one name, not the same"
    for folder in ("one", "two"):
        store.rm(f"/{folder}", recursive=True)
    assert expand(["memory://two/part-0.parquet"]) == others, "from the cache"


@pytest.mark.parametrize("address", ["memory://nothing/a.parquet", "nostore://x/a.parquet"])
def test_what_cannot_be_fetched_is_told(address):
    with pytest.raises(FileNotFoundError, match=rf"{address} cannot be fetched.*or give files"):
        expand([address])
