"""DeepSpeed's configurations, for models of a few thousand parameters."""

import json
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / "training" / "deepspeed"


def write_config(stage: int, directory: Path) -> str:
    """`zero<stage>.json` as it is, but that ZeRO-3 shards small tensors too: it would keep nearly
    all of so small a model whole on every rank."""
    config = json.loads((CONFIGS / f"zero{stage}.json").read_text())
    config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    path = directory / f"zero{stage}.json"
    path.write_text(json.dumps(config))
    return str(path)
