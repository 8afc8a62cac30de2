"""Speed and memory of this project beside its peers', measured side by side in one run."""
