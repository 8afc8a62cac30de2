#!/usr/bin/env bash
# Stage 4: fine-tune a LLaVA directory on conversations, with LLaVA-1.5's recipe unless told otherwise.
#
#   bash scripts/finetune.sh                                        training/recipes/finetune.yaml
#   bash scripts/finetune.sh training/recipes/miniature/finetune.yaml
#   bash scripts/finetune.sh --learning_rate 1e-5 --max_steps 100   any flag of training/finetune.py
#   MODEL=out/projector IMAGE_ROOT=/data/llava EPOCHS=2 bash scripts/finetune.sh
#
# Several GPUs: started by `deepspeed` on all of them. One GPU or none: plain python, no DeepSpeed.
# HOSTFILE=hosts ("<machine> slots=8" a line): on all GPUs of those machines, which share this folder.
# DEVICES=N overrules the count that is seen, DEEPSPEED=training/deepspeed/zero3.json the recipe's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RECIPE=training/recipes/finetune.yaml
if [[ $# -gt 0 && $1 == *.y*ml ]]; then
  RECIPE=$1
  shift
fi

# Each of these overrules the recipe when it is set; flags on the command line overrule both.
FLAGS=()
setting() {
  if [[ -n $2 ]]; then FLAGS+=("--$1" "$2"); fi
}
setting model "${MODEL:-}"
setting image_root "${IMAGE_ROOT:-}"
setting output_dir "${OUTPUT_DIR:-}"
setting max_length "${MAX_LENGTH:-}"
setting tune_vision_tower "${TUNE_VISION_TOWER:-}"
setting vision_tower_learning_rate "${VISION_TOWER_LEARNING_RATE:-}"
setting projector_learning_rate "${PROJECTOR_LEARNING_RATE:-}"
setting learning_rate "${LEARNING_RATE:-}"
setting lr_scheduler_type "${SCHEDULER:-}"
setting warmup_steps "${WARMUP_STEPS:-}"
setting weight_decay "${WEIGHT_DECAY:-}"
setting num_train_epochs "${EPOCHS:-}"
setting max_steps "${MAX_STEPS:-}"
setting per_device_train_batch_size "${BATCH_SIZE:-}"
setting batch_tokens "${BATCH_TOKENS:-}"
setting lora "${LORA:-}"
setting gradient_accumulation_steps "${ACCUMULATION:-}"
setting activation_checkpointing "${ACTIVATION_CHECKPOINTING:-}"
setting bf16 "${BF16:-}"
setting tf32 "${TF32:-}"
setting dataloader_num_workers "${WORKERS:-}"
setting save_steps "${SAVE_STEPS:-}"
setting seed "${SEED:-}"
setting report_to "${REPORT_TO:-}"
if [[ -n ${CONVERSATIONS:-} ]]; then
  read -r -a FILES <<<"$CONVERSATIONS" # several files, separated by blanks
  FLAGS+=(--conversations "${FILES[@]}")
fi

# Told a number, deepspeed takes the first devices, whatever CUDA_VISIBLE_DEVICES says.
LAUNCHER=(deepspeed)
if [[ -n ${HOSTFILE:-} ]]; then
  LAUNCHER+=(--hostfile "$HOSTFILE" --force_multi) # else a lone machine's would start on this one
  DEVICES=$(awk -F= '/slots=/ {sum += $2} END {print sum + 0}' "$HOSTFILE")
elif [[ -n ${DEVICES:-} ]]; then
  LAUNCHER+=(--num_gpus "$DEVICES")
fi
if grep -q '^use_cpu: true' "$RECIPE"; then DEVICES=${DEVICES:-1}; fi
DEVICES=${DEVICES:-$(python -c 'import torch; print(torch.accelerator.device_count())')}
if [[ $DEVICES -gt 1 || -n ${HOSTFILE:-} ]]; then
  if ! grep -q '^deepspeed:' "$RECIPE"; then DEEPSPEED=${DEEPSPEED:-training/deepspeed/zero2.json}; fi
  setting deepspeed "${DEEPSPEED:-}"
  echo "Fine-tuning by $RECIPE on $DEVICES devices."
  exec "${LAUNCHER[@]}" training/finetune.py "$RECIPE" "${FLAGS[@]}" "$@"
fi
setting deepspeed "${DEEPSPEED:-}"
echo "Fine-tuning by $RECIPE on one device."
exec python training/finetune.py "$RECIPE" --deepspeed "" "${FLAGS[@]}" "$@"
