"""Let `import torchvision` work beside a CPU build of torch, in this virtual environment only.

Some package indexes offer a CPU build of torch but only the CUDA build of torchvision. Its compiled
half then cannot load, and `import torchvision` dies ("operator torchvision::nms does not exist"),
taking open_clip, timm and transformers' image processors with it. All that those need is the
Python half. When (and only when) the import fails that way, this script puts a small import hook
into site-packages that declares the two missing operators just before torchvision is imported.
`torchvision.ops.nms` itself stays unavailable and says so when called.

    python scripts/repair_torchvision.py
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

HOOK_NAME = "torchvision_without_cuda"
HOOK = '''"""Import hook: declare torchvision's operators when its compiled half cannot load."""

import sys

_library = None  # keeps the declarations alive


class _DeclareOperators:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            _declare()
        return None


def _declare():
    global _library
    import importlib.util
    from pathlib import Path

    import torch

    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return
    for compiled in Path(package.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(compiled))
            return
        except OSError:
            continue
    _library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        _library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, _DeclareOperators())
'''
SYMPTOM = "operator torchvision::nms does not exist"


def import_error() -> str:
    """What `import torchvision` prints on failure in a fresh interpreter; empty when it works."""
    result = subprocess.run(
        [sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False
    )
    return "" if result.returncode == 0 else result.stderr.strip()


def main() -> None:
    error = import_error()
    if not error:
        return
    if SYMPTOM not in error:
        sys.exit(f"torchvision cannot be imported, for a reason this script cannot mend:\n{error}")
    if sys.prefix == sys.base_prefix:
        sys.exit("Run this inside a virtual environment: it writes into site-packages.")
    site_packages = Path(sysconfig.get_path("purelib"))
    (site_packages / f"{HOOK_NAME}.py").write_text(HOOK)
    (site_packages / f"{HOOK_NAME}.pth").write_text(f"import {HOOK_NAME}\n")
    if error := import_error():
        sys.exit(f"torchvision still cannot be imported:\n{error}")
    print("torchvision is a CUDA build beside a CPU torch: its Python half now imports.")


if __name__ == "__main__":
    main()
