import sys
import zipfile

import pytest

from scripts import doctor
from scripts.doctor import Package, main


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


def told(monkeypatch, capsys, *packages):
    monkeypatch.setattr(doctor, "PACKAGES", packages)
    main()
    return capsys.readouterr().out


def test_this_environment_has_all_that_is_needed(wide, capsys):
    main()
    out = capsys.readouterr().out
    for what in ("python", "processor", "torch", "deepspeed", "peft", "C++ compiler", "hub"):
        assert what in out
    assert "All that is needed is here." in out


def test_a_missing_option_is_no_fault_and_has_a_cure(wide, monkeypatch, capsys):
    missing = Package("nowhere", "nowhere_at_all", "nothing", "pip install nowhere")
    out = told(monkeypatch, capsys, missing)
    [line] = [line for line in out.splitlines() if "nowhere" in line]
    assert "missing" in line
    assert "pip install nowhere" in line


def test_what_is_needed_and_missing_sets_the_status(wide, monkeypatch, capsys):
    missing = Package("nowhere", "nowhere_at_all", "nothing", "pip install nowhere", needed=True)
    with pytest.raises(SystemExit, match="needed, and missing or broken: nowhere"):
        told(monkeypatch, capsys, missing)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('operator nms does not exist')", "RuntimeError: operator nms"),
        ("import another_that_is_not_there", "No module named 'another_that"),
    ],
)
def test_a_package_that_cannot_be_imported_is_broken(
    body, reason, wide, monkeypatch, capsys, tmp_path
):
    (tmp_path / "half_a_package.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    out = told(monkeypatch, capsys, Package("half", "half_a_package", "nothing", "mend it"))
    assert f"broken: {reason}" in out
    assert "mend it" in out


def test_a_lock_that_a_killed_compilation_left_is_found(wide, monkeypatch, capsys, tmp_path):
    (tmp_path / "py311_cpu/shm").mkdir(parents=True)
    (tmp_path / "py311_cpu/shm/lock").touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    out = told(monkeypatch, capsys)
    assert "compiler lock" in out
    assert "runs wait for it for ever" in out


def test_torch_itself_may_be_what_is_broken(wide, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match="needed, and missing or broken: torch"):
        told(monkeypatch, capsys)


def test_nltks_models_are_looked_for(wide, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    (tmp_path / "corpora").mkdir()
    with zipfile.ZipFile(tmp_path / "corpora/wordnet.zip", "w") as file:
        file.writestr("wordnet/data.noun", "")
    out = told(monkeypatch, capsys)
    mend = "python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng"
    [line] = [line for line in out.splitlines() if "NLTK's models" in line]
    assert mend in line
    assert f"{mend} wordnet" not in line
