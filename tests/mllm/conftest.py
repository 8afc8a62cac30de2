import pytest

from mllm.assemble import assemble
from tests.tiny_llava import write_language_model, write_tower


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """A CLIP tower, a SigLIP tower and a Llama: (clip, siglip, language model) directories."""
    root = tmp_path_factory.mktemp("parts")
    return (
        write_tower(root / "clip"),
        write_tower(root / "siglip", "siglip"),
        write_language_model(root / "llm"),
    )


@pytest.fixture(scope="session")
def llava(parts, tmp_path_factory):
    """A LLaVA directory around the CLIP tower."""
    directory = tmp_path_factory.mktemp("llava") / "mllm"
    assemble(str(parts[0]), str(parts[2]), directory, system="be brief")
    return directory


@pytest.fixture(scope="session")
def siglip_llava(parts, tmp_path_factory):
    directory = tmp_path_factory.mktemp("llava") / "siglip"
    assemble(str(parts[1]), str(parts[2]), directory, system="")
    return directory
