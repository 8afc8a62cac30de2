"""The one registry of benchmarks: a name, and what it stands for.

Where the field scores one set of questions by several rules, each rule has a name of its own.
"""

from __future__ import annotations

import difflib

from eval.benchmark import LanguageBenchmark, TowerBenchmark
from eval.benchmarks.amber import Amber
from eval.benchmarks.amber_captions import OfficialWords
from eval.benchmarks.chair import Chair
from eval.benchmarks.hallusionbench import HallusionBench, VlmEvalKitHallusionBench
from eval.benchmarks.hallusionbench_files import contains_yes
from eval.benchmarks.llava_bench import LlavaBench
from eval.benchmarks.mmbench import MMBENCH_CN, MmBench
from eval.benchmarks.mme import Mme
from eval.benchmarks.mmhal import MmHal
from eval.benchmarks.mmvp import Mmvp
from eval.benchmarks.naturalbench import NaturalBench
from eval.benchmarks.nltk_words import lemmas
from eval.benchmarks.objhal import ObjHal
from eval.benchmarks.pope import Pope
from eval.tower.edits import Edits
from eval.tower.mmvp_vlm import MmvpVlm
from eval.tower.retrieval import Retrieval

LANGUAGE: tuple[LanguageBenchmark, ...] = (
    Pope(),
    Pope(name="pope_aokvqa", title="POPE, A-OKVQA", prefix="aokvqa_pope_seem"),
    Pope(
        name="pope_gqa",
        title="POPE, GQA",
        prefix="gqa_pope_seem",
        pictures=("gqa/images", "images"),
    ),
    Mmvp(),
    Mmvp(name="mmvp_corrected", title="MMVP, corrected labels", corrected=True),
    Chair(),
    Chair(
        name="chair_opera", title="CHAIR, OPERA's lemmas", parser="chair-opera-1", words_of=lemmas
    ),
    Chair(64, "chair_64", "CHAIR at 64 tokens", parser="chair-original-1, 500 drawn", drawn=500),
    Chair(512, "chair_512", "CHAIR at 512 tokens", parser="chair-original-1, 500 drawn", drawn=500),
    Amber(),
    Amber(name="amber_official", title="AMBER", words=OfficialWords()),
    HallusionBench(),
    VlmEvalKitHallusionBench(),
    HallusionBench(
        name="hallusionbench_lmms_eval",
        title="HallusionBench, lmms-eval",
        pictured=True,
        said=contains_yes,
        parser="hallusionbench-lmms-eval-1",
    ),
    Mme(),
    NaturalBench(),
    MmBench(),
    MMBENCH_CN,
    MmHal(),
    ObjHal(),
    LlavaBench(),
)
TOWER: tuple[TowerBenchmark, ...] = (MmvpVlm(), Edits(), Retrieval())

BENCHMARKS: dict[str, LanguageBenchmark | TowerBenchmark] = {
    benchmark.name: benchmark for benchmark in (*LANGUAGE, *TOWER)
}


def find_benchmark(name: str) -> LanguageBenchmark | TowerBenchmark:
    """The benchmark of that name.

    Raises:
        ValueError: there is none; suggests the nearest name.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    near = difflib.get_close_matches(name, BENCHMARKS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown benchmark {name!r}: {hint}There are {', '.join(BENCHMARKS)}.")
