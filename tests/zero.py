"""DeepSpeed's configurations, for models of a few thousand parameters."""

import json
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / "training" / "deepspeed"


def write_config(name: int | str, directory: Path) -> str:
    """`zero<name>.json` as it is, but that ZeRO-3 shards small tensors too: it would keep nearly
    all of so small a model whole on every rank."""
    config = json.loads((CONFIGS / f"zero{name}.json").read_text())
    config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    path = directory / f"zero{name}.json"
    path.write_text(json.dumps(config))
    return str(path)
