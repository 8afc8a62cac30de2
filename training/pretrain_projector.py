"""Stage 3: assemble a LLaVA from tower and language model, and let its projector learn to speak.

    deepspeed training/pretrain_projector.py training/recipes/pretrain_projector.yaml
    python training/pretrain_projector.py training/recipes/miniature/pretrain_projector.yaml

Defaults are LLaVA-1.5's (8 GPUs): learning rate 1e-3 with cosine decay and 3 % warm-up, no weight
decay, 256 conversations a step, one epoch. `output_dir` becomes a LLaVA directory; its language
model is untouched, so it does not chat yet.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import LlavaForConditionalGeneration

from training.llava import llava_trainer, save_llava
from training.llava_arguments import LlavaArguments
from training.llava_model import assemble_once, keep_in_eval, open_llava
from training.recipe import read_recipe
from training.stage import is_finished, one_message, run_stage, start_logging

logger = logging.getLogger("training")


@dataclass
class PretrainProjector(LlavaArguments):
    vision_tower: str = field(
        default="", metadata={"help": "Tower directory, or a CLIP or SigLIP model."}
    )
    language_model: str = field(default="", metadata={"help": "Directory or hub id of the LLM."})
    system: str | None = field(
        default=None,
        metadata={"help": "Sentence that opens each conversation; default: the LLM's own, if any."},
    )

    learning_rate: float = field(default=1e-3, metadata={"help": "Of the projector."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Times 8 GPUs: 256."})

    def __post_init__(self) -> None:
        self.require("vision_tower", "language_model", "conversations")
        super().__post_init__()

    @property
    def language_model_learns(self) -> bool:
        return False


def main(argv: Sequence[str] | None = None) -> None:
    args = read_recipe(PretrainProjector, argv)
    start_logging(args)
    if is_finished(args):
        return

    logger.info("Assembling %s and %s.", args.vision_tower, args.language_model)
    directory = assemble_once(args, args.vision_tower, args.language_model, args.system)
    model, processor = open_llava(directory, args)

    let_projector_learn(args, model)

    logger.info("Reading the conversations.")
    trainer = llava_trainer(args, model, processor, learning_rates=[])
    run_stage(trainer, save_llava(model, processor))


def let_projector_learn(args: PretrainProjector, model: LlavaForConditionalGeneration) -> None:
    """And hold it in fp32, where DeepSpeed does not keep a copy of it that is."""
    logger.info("Only the projector learns.")
    model.requires_grad_(False)
    projector = model.model.multi_modal_projector.requires_grad_(True)
    if not args.deepspeed:
        projector.float()
    keep_in_eval(model.model.vision_tower)


if __name__ == "__main__":
    with one_message():
        main()
