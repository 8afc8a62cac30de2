# Thin on purpose: each target is what one would type. All use the environment of scripts/.
SHELL := bash
ENTER := source scripts/environment.sh
SMOKE := out/smoke
MINI := training/recipes/miniature
FEW := --max_steps 3 --warmup_steps 1 --report_to none

.PHONY: check test format smoke

check: ## style, types, layers and house rules
	$(ENTER) && ruff check . && ruff format --check . && pyright
	$(ENTER) && python -m pytest -q tests/test_layers.py tests/test_house_rules.py tests/test_readme.py

test: ## all tests
	bash scripts/test.sh

format:
	$(ENTER) && ruff check --fix . && ruff format .

smoke: ## the four stages on the miniature, three steps each: does the road hold?
	rm -rf $(SMOKE)
	$(ENTER) && python scripts/miniature/write_data.py out/miniature/data
	$(ENTER) && python training/adapt_text_encoder.py $(MINI)/adapt_text_encoder.yaml $(FEW) \
	  --output_dir $(SMOKE)/text-encoder
	$(ENTER) && python training/train_vision_tower.py $(MINI)/train_vision_tower.yaml $(FEW) \
	  --tower $(SMOKE)/text-encoder --output_dir $(SMOKE)/tower
	$(ENTER) && python training/pretrain_projector.py $(MINI)/pretrain_projector.yaml $(FEW) \
	  --vision_tower $(SMOKE)/tower --output_dir $(SMOKE)/projector
	$(ENTER) && python training/finetune.py $(MINI)/finetune.yaml $(FEW) \
	  --model $(SMOKE)/projector --output_dir $(SMOKE)/mllm
	$(ENTER) && python eval/run.py --tower $(SMOKE)/tower --benchmark edits \
	  --data-root out/miniature/data --output $(SMOKE)/eval
