import shutil

import pytest

from mllm.chat import Chat, open_answerer


@pytest.mark.parametrize("opened", [Chat, open_answerer])
def test_weights_cut_short_are_told_by_name(opened, llava, tmp_path):
    shutil.copytree(llava, tmp_path / "mllm")
    weights = tmp_path / "mllm/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(
        ValueError, match=r"mllm/model\.safetensors cannot be read.*copy it again from"
    ):
        opened(tmp_path / "mllm", "cpu")
