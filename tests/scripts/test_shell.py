"""The shell scripts, with stand-ins for the programs they start."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELL = sorted((ROOT / "scripts").glob("*.s*h"))
RECIPE = "training/recipes/finetune.yaml"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs that print their name and arguments, one a line, and do nothing."""
    for name in ("python", "deepspeed", "pytest"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        program.chmod(0o755)
    return tmp_path


def run(programs: Path, script: str, *arguments: str, **settings: str) -> list[str]:
    """Lines of output; the scripts find the stand-ins first and an environment entered."""
    path = f"{programs}:{os.environ['PATH']}"
    environment = {"PATH": path, "VIRTUAL_ENV": str(programs), "HOME": str(programs), **settings}
    result = subprocess.run(
        ["bash", ROOT / "scripts" / script, *arguments],
        env=environment,
        cwd=programs,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.splitlines()


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_syntax(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)


def test_test_sh_hands_its_arguments_to_pytest(programs: Path) -> None:
    assert run(programs, "test.sh", "-k", "pope") == ["python", "-m", "pytest", "-k", "pope"]


def test_finetune_on_one_device_needs_no_deepspeed(programs: Path) -> None:
    told, *command = run(programs, "finetune.sh", DEVICES="1")
    assert RECIPE in told
    # The recipe is for eight GPUs and names a DeepSpeed file: on one device it is taken back.
    assert command == ["python", "training/finetune.py", RECIPE, "--deepspeed", ""]


def test_finetune_on_several_devices(programs: Path) -> None:
    command = run(programs, "finetune.sh", DEVICES="8")[1:]
    assert command == ["deepspeed", "--num_gpus", "8", "training/finetune.py", RECIPE]


@pytest.mark.parametrize(
    ("machines", "devices"), [("one slots=8\ntwo slots=8\n", 16), ("far slots=1\n", 1)]
)
def test_finetune_on_the_machines_of_a_hostfile(
    machines: str, devices: int, programs: Path
) -> None:
    """A lone one too: it may be another than this."""
    hosts = programs / "hosts"
    hosts.write_text(machines)
    told, *command = run(programs, "finetune.sh", HOSTFILE=str(hosts))
    assert f"on {devices} devices" in told
    launcher = ["deepspeed", "--hostfile", str(hosts), "--force_multi"]
    assert command == [*launcher, "training/finetune.py", RECIPE]


def test_slurm_gives_every_task_its_ranks(programs: Path) -> None:
    """With stand-ins: scontrol names the machines, srun starts two tasks."""
    stand_ins = {
        "scontrol": 'printf "node7\\nnode8\\n"',
        "srun": 'shift; for n in 0 1; do SLURM_PROCID=$n SLURM_LOCALID=$n "$@"; done',
        "python": 'echo "$MASTER_ADDR $MASTER_PORT $WORLD_SIZE $RANK $LOCAL_RANK $*"',
    }
    for name, body in stand_ins.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    flags = ("training/finetune.py", RECIPE, "--lora", "{rank: 4}")
    slurm = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NTASKS": "2"}
    told = run(programs, "slurm.sbatch", *flags, **slurm)
    assert told == [f"node7 29500 2 {rank} {rank} {' '.join(flags)}" for rank in (0, 1)]


def test_finetune_shards_by_zero2_where_the_recipe_says_nothing(programs: Path) -> None:
    recipe = "training/recipes/miniature/finetune.yaml"
    command = run(programs, "finetune.sh", recipe, DEVICES="2")[1:]
    assert command[3:] == [
        "training/finetune.py",
        recipe,
        "--deepspeed",
        "training/deepspeed/zero2.json",
    ]


def test_a_recipe_for_the_cpu_takes_one_process_whatever_devices_there_are(programs: Path) -> None:
    recipe = "training/recipes/miniature/finetune.yaml"
    command = run(programs, "finetune.sh", recipe)[1:]
    assert command == ["python", "training/finetune.py", recipe, "--deepspeed", ""]


def test_finetune_settings_then_flags(programs: Path) -> None:
    command = run(
        programs,
        "finetune.sh",
        "--learning_rate",
        "1e-5",
        DEVICES="1",
        MODEL="out/a model",
        EPOCHS="2",
        CONVERSATIONS="one.json two.json",
    )[1:]
    assert command[5:] == [
        *("--model", "out/a model", "--num_train_epochs", "2"),
        *("--conversations", "one.json", "two.json"),
        *("--learning_rate", "1e-5"),
    ]


def test_quickstart_says_what_it_does_not_understand(programs: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        run(programs, "quickstart.sh", "--seed", "3")
    assert error.value.returncode == 2
    assert "--seed" in error.value.stderr


def test_the_environment_is_made_once_and_with_the_interpreter_asked_for(tmp_path: Path) -> None:
    """In a copy of the repository's scripts, with a stand-in for python: nothing is installed."""
    (tmp_path / "scripts").mkdir()
    for name in ("environment.sh", "test.sh"):
        (tmp_path / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(
        """#!/bin/bash
mkdir -p .venv/bin
printf 'echo pip "$@" >>log\\n' >.venv/bin/pip
printf 'echo python "$@" >>log\\n' >.venv/bin/python
printf 'PATH="$PWD/.venv/bin:$PATH"\\n' >.venv/bin/activate
chmod +x .venv/bin/*
"""
    )
    interpreter.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "FOVEA_PYTHON": str(interpreter)}
    command = ["bash", tmp_path / "scripts" / "test.sh"]
    for _ in range(2):
        subprocess.run(command, env=environment, check=True, capture_output=True)
    log = (tmp_path / "log").read_text().splitlines()
    assert [line for line in log if "-m pytest" in line] == ["python -m pytest"] * 2
    assert len([line for line in log if line.startswith("pip install")]) == 2
    assert log.count("python scripts/repair_torchvision.py") == 1
