"""A small NaturalBench in a parquet file, as released."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image


def picture_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (30, 30, 200)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def naturalbench_root(tmp_path: Path) -> Path:
    """Two groups as released, pictures inside: a yes-or-no one and one of two options."""
    root = tmp_path / "naturalbench"
    rows = [
        ("yes_no", ("Is it a cat?", "Is it a dog?"), ("Yes", "No", "No", "Yes")),
        (
            "multiple_choice",
            ("Which hat?\nOption: A:Knit cap; B:Helmet;", "How many?\nOption: A:One; B:Two;"),
            ("A", "B", "B", "A"),
        ),
    ]
    table = [
        {
            "Index": number,
            "Image_0": {"bytes": picture_bytes(), "path": "0.png"},
            "Image_1": {"bytes": picture_bytes(), "path": "1.png"},
            "Question_0": questions[0],
            "Image_0_Question_0": labels[0],
            "Image_1_Question_0": labels[1],
            "Question_1": questions[1],
            "Image_0_Question_1": labels[2],
            "Image_1_Question_1": labels[3],
            "Question_Type": form,
        }
        for number, (form, questions, labels) in enumerate(rows)
    ]
    (root / "data").mkdir(parents=True)
    path = root / "data" / "train-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)
    return root
