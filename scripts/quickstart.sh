#!/usr/bin/env bash
# The whole road on the miniature: four stages for two arms, benchmarks, and a report of the gain.
#
#   bash scripts/quickstart.sh             one seed: about 22 minutes on two cores
#   bash scripts/quickstart.sh --seeds 3   three seeds, pooled; the report shows each one's difference
#
# Interrupted, it goes on where it was: a finished step is recognised by its result.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=1
while (($#)); do
  case "$1" in
    --seeds) seeds="${2:?--seeds needs a number}"; shift 2 ;;
    *) echo "unknown argument $1: only --seeds N is understood" >&2; exit 2 ;;
  esac
done

source scripts/environment.sh
out=out/miniature data=out/miniature/data recipes=training/recipes/miniature
base=scripts/miniature/models/clip

say() { printf '\n\033[1m[%(%H:%M:%S)T] %s\033[0m\n' -1 "$*"; }

# Both arms: the same language model, data, steps and seed; only the tower differs.
multimodal() { # arm, tower, run directory, seed
  say "$1 arm, stage 3 of 4: the projector learns to speak to the language model. About 1 minute."
  python training/pretrain_projector.py $recipes/pretrain_projector.yaml --seed "$4" \
    --vision_tower "$2" --output_dir "$3/projector"
  say "$1 arm, stage 4 of 4: projector and language model learn from conversations. About 2 minutes."
  python training/finetune.py $recipes/finetune.yaml --seed "$4" \
    --model "$3/projector" --output_dir "$3/mllm"
  say "$1 arm: benchmarks of the tower and of the multimodal model. About 1 minute."
  [[ -f $3/eval/retrieval.json ]] || python eval/run.py --tower "$2" --data-root $data \
    --benchmark mmvp_vlm edits retrieval --output "$3/eval"
  [[ -f $3/eval/chair.json ]] || python eval/run.py --model "$3/mllm" --data-root $data \
    --benchmark pope mmvp chair --output "$3/eval"
}

say "Writing the miniature's pictures, captions, conversations and benchmarks. About 1 minute."
python scripts/miniature/write_data.py $data

baselines=() candidates=()
for ((seed = 42; seed < 42 + seeds; seed++)); do # 42 is what the stages take by themselves
  run=$out/seed-$seed
  say "Seed $seed, CLIP-IN arm, stage 1 of 4: the text encoder gets rotary positions. About 1 minute."
  python training/adapt_text_encoder.py $recipes/adapt_text_encoder.yaml --seed $seed \
    --tower $base --output_dir $run/clip-in/text-encoder
  say "Seed $seed, CLIP-IN arm, stage 2 of 4: both encoders learn detail. About 13 minutes."
  python training/train_vision_tower.py $recipes/train_vision_tower.yaml --seed $seed \
    --tower $run/clip-in/text-encoder --output_dir $run/clip-in/tower
  multimodal "Seed $seed, CLIP-IN" $run/clip-in/tower $run/clip-in $seed
  multimodal "Seed $seed, base" $base $run/base $seed
  baselines+=("$run/base/eval") candidates+=("$run/clip-in/eval")
done

ln -sfn seed-42/clip-in/mllm $out/mllm
say "Comparing the two arms."
python eval/compare.py --baseline "${baselines[@]}" --candidate "${candidates[@]}" \
  --baseline-name "base tower" --candidate-name "CLIP-IN tower" \
  --title "What CLIP-IN gains on the miniature" --output $out/report
say "Done. Open $out/report/report.html; talk to the model: python scripts/demo.py $out/mllm"
