#!/usr/bin/env bash
# Stage 4: fine-tune a LLaVA directory on conversations, with LLaVA-1.5's recipe unless told otherwise.
#
#   bash scripts/finetune.sh                                        training/recipes/finetune.yaml
#   bash scripts/finetune.sh training/recipes/miniature/finetune.yaml
#   bash scripts/finetune.sh --learning_rate 1e-5 --max_steps 100   any flag of training/finetune.py
#   MODEL=out/projector IMAGE_ROOT=/data/llava EPOCHS=2 bash scripts/finetune.sh
#
# Several GPUs: started by `deepspeed` on all of them. One GPU or none: plain python, no DeepSpeed.
# DEVICES=N overrules the count that is seen.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RECIPE=training/recipes/finetune.yaml
if [[ $# -gt 0 && $1 == *.y*ml ]]; then
  RECIPE=$1
  shift
fi

# Each of these overrules the recipe when it is set; flags on the command line overrule both.
SETTINGS=(
  "model ${MODEL:-}"
  "conversations ${CONVERSATIONS:-}"             # several files: separated by blanks
  "image_root ${IMAGE_ROOT:-}"
  "output_dir ${OUTPUT_DIR:-}"
  "max_length ${MAX_LENGTH:-}"
  "tune_vision_tower ${TUNE_VISION_TOWER:-}"
  "vision_tower_learning_rate ${VISION_TOWER_LEARNING_RATE:-}"
  "projector_learning_rate ${PROJECTOR_LEARNING_RATE:-}"
  "learning_rate ${LEARNING_RATE:-}"
  "warmup_steps ${WARMUP_STEPS:-}"
  "weight_decay ${WEIGHT_DECAY:-}"
  "num_train_epochs ${EPOCHS:-}"
  "max_steps ${MAX_STEPS:-}"
  "per_device_train_batch_size ${BATCH_SIZE:-}"
  "gradient_accumulation_steps ${ACCUMULATION:-}"
  "gradient_checkpointing ${GRADIENT_CHECKPOINTING:-}"
  "bf16 ${BF16:-}"
  "seed ${SEED:-}"
  "report_to ${REPORT_TO:-}"
)
FLAGS=()
for setting in "${SETTINGS[@]}"; do
  read -r -a words <<<"$setting"
  if [[ ${#words[@]} -gt 1 ]]; then
    FLAGS+=("--${words[0]}" "${words[@]:1}")
  fi
done

DEVICES=${DEVICES:-$(python -c 'import torch; print(torch.accelerator.device_count())')}
if [[ $DEVICES -gt 1 ]]; then
  ZERO=${DEEPSPEED:-training/deepspeed/zero3.json}
  echo "Fine-tuning by $RECIPE on $DEVICES devices with $ZERO."
  exec deepspeed --num_gpus "$DEVICES" training/finetune.py "$RECIPE" --deepspeed "$ZERO" \
    "${FLAGS[@]}" "$@"
fi
echo "Fine-tuning by $RECIPE on one device."
exec python training/finetune.py "$RECIPE" --deepspeed "" "${FLAGS[@]}" "$@"
