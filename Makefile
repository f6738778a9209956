# `make chat` and `make test` are complete on a fresh machine with Python 3.11 or later and pip.
#
# The environment is .venv, made and filled once; again only when pyproject.toml or constraints.txt change.
#   an active virtual environment, or VENV=DIR    is filled instead; a torch in it stays as it is
#   PYTHON=/path/to/python                        is used as it is, nothing is installed
#   BASE_PYTHON=python3.12                        makes .venv
#   ARGS="..."                                    goes to the command, as in make test ARGS="-k signals"

.DEFAULT_GOAL := help
.PHONY: help chat web test check demo gallery world micro results
.NOTPARALLEL:

BASE_PYTHON ?= python3
VENV ?= $(or $(VIRTUAL_ENV),.venv)

ifeq ($(origin PYTHON),command line)
READY :=
export PYTHONPATH := $(CURDIR)/src
else
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.nextgpt-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
endif
PIP = $(PYTHON) -m pip --disable-pip-version-check

help:
	@echo "make chat    chat with the micro model in the terminal"
	@echo "make web     chat with it in the browser"
	@echo "make test    run the tests"
	@echo "make check   lint, format and types"
	@echo "make demo    use the Python API: demo/quickstart.py"
	@echo "make gallery draw what the micro model answers: docs/gallery.png"
	@echo "make world   build the micro world, the data to train on"
	@echo "make micro   train the micro model from nothing, about 8 hours on 2 cores; goes on where it was"
	@echo "make results measure the micro model and write the numbers into the documents"

chat: $(READY)
	@$(PYTHON) -m nextgpt.cli chat $(ARGS)

web: $(READY)
	@$(PYTHON) -m nextgpt.cli chat --web $(ARGS)

test: $(READY)
	@$(PYTHON) -m pytest $(ARGS)

check: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

demo: $(READY)
	@$(PYTHON) demo/quickstart.py $(ARGS)

gallery: $(READY)
	@$(PYTHON) demo/gallery.py $(ARGS)

world: $(READY)
	@$(PYTHON) -m nextgpt.cli world build $(ARGS)

# Every part, then every stage of the chain; what has ended is not done again while its folder in runs/ is there.
PARTS := image_text_encoder image_autoencoder image_autoencoder_decoder image encoder encoder_audio encoder_video video \
	audio_text_encoder audio_autoencoder vocoder audio
STAGES := encode_align decode_align instruct decode_refine encode_refine
FIT = $(PYTHON) -m nextgpt.cli fit
GO_ON = $(addprefix --ckpt_path ,$(wildcard $(@D)/last.ckpt))

micro: world $(PARTS:%=runs/parts/%/done) $(STAGES:%=runs/micro/%/done)

runs/parts/%/done: $(READY)
	$(FIT) -c configs/parts/$*.yaml $(GO_ON)
	@mkdir -p $(@D) && touch $@

runs/micro/encode_refine/done: TO = --model.init_args.output checkpoints/micro
runs/micro/%/done: $(READY)
	$(FIT) -c configs/micro.yaml --stage $* $(TO) $(GO_ON)
	@mkdir -p $(@D) && touch $@

results: $(READY)
	$(PYTHON) -m nextgpt.cli test -c configs/micro.yaml $(ARGS)
	$(PYTHON) .ci/tables.py results/results.md README.md checkpoints/micro/README.md

# The stamp is written last, so an interrupted installation is taken up again.
# imagebind and tinysoundfont come without their dependencies: those of a data module that is never imported, and of
# playback.
ifneq ($(READY),)
$(READY):
	@$(BASE_PYTHON) -c 'import sys; sys.exit("nextgpt needs Python 3.11 or later: make BASE_PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@test -x $(VENV)/bin/python && $(PIP) --version >/dev/null || $(BASE_PYTHON) -m venv $(VENV)
	@echo "installing nextgpt into $(VENV), once"
	@$(PYTHON) .ci/constraints.py > $(VENV)/nextgpt-constraints.txt
	@$(PIP) install -c $(VENV)/nextgpt-constraints.txt -e '.[world,demo,streaming,test]' einops ftfy iopath
	@$(PIP) install -c $(VENV)/nextgpt-constraints.txt --no-deps imagebind-unofficial tinysoundfont
	@rm -f $(VENV)/.nextgpt-*
	@touch $@
endif
