# Sourced by the scripts beside it: makes .venv with everything in it if there is none, enters it.
# FOVEA_PYTHON names another interpreter to make it with; an environment already entered is used.
if [[ -z "${VIRTUAL_ENV:-}" ]]; then
  if [[ ! -f .venv/complete ]]; then
    "${FOVEA_PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
      echo "Fovea needs Python 3.11 or newer: name one, FOVEA_PYTHON=python3.11 bash ..." >&2
      exit 1
    }
    echo "Making the environment in .venv: about 2.5 GB, two to ten minutes, once."
    "${FOVEA_PYTHON:-python3}" -m venv .venv
    # The pair first: only then is nothing else free to ask for another torch.
    .venv/bin/pip install --quiet --disable-pip-version-check -r constraints.txt
    .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
    .venv/bin/python scripts/repair_torchvision.py
    touch .venv/complete
  fi
  source .venv/bin/activate
fi
# Everything runs without the network once it is installed; models are named by directory.
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}" GRADIO_ANALYTICS_ENABLED=False TOKENIZERS_PARALLELISM=false
