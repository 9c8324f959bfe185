# make demo    sets up, pretrains a small streaming NEST on synthesised speech, streams from it, shows the result
#              (DEMO_OPTIONS="--steps 1600 --minutes 80" for more of it)
# make festvox fetches recorded speech with phone times, Debian's package festvox-ru (179 MB, on Debian and Ubuntu), and
#              makes festvox/corpus of it
# make test    sets up, runs the tests (TESTS=tests/collections for some of them)
# make quick   the tests that are not marked slow or documents: under 90 s on two cores
# make lint    format, lint and type hints
# make nemo-tests    runs NVIDIA's own tests with the patch off and on
# make patched-tests    writes our half into a copy of NeMo, and runs the tests on it with the overlay off
# make NEMO=2.7.3 test    the same on another NeMo, in a virtual environment of its own

PYTHON ?= python3
NEMO ?= 3.0.0
VENV ?= .venv$(if $(filter-out 3.0.0,$(NEMO)),-nemo-$(NEMO))
READY := $(VENV)/.ready

# Two processes of one thread each are faster than one of two; more than a few would all import NeMo.
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 --dist loadscope

# On a CPU that has other work, OpenMP's threads spin while they wait for each other: a step takes 9 to 31 times as long.
export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 0

# glibc gives large tensors back to the system at every step and fetches them anew; on a virtual machine that can take
# longer than the training itself.
export MALLOC_MMAP_THRESHOLD_ ?= 4294967296
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296

.PHONY: demo festvox test quick nemo-tests patched-tests lint clean

demo: $(READY)
	$(VENV)/bin/python examples/asr/speech_pretraining/demo.py --out demo $(DEMO_OPTIONS)

festvox: festvox/corpus/train_manifest.json

festvox/corpus/train_manifest.json: | $(READY)
	@command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || { \
		echo "make festvox needs apt-get and dpkg-deb. Elsewhere, unpack https://packages.debian.org/stable/festvox-ru"; \
		echo "into festvox/package (ar x, tar xf data.tar.xz), and run"; \
		echo "  $(VENV)/bin/python examples/asr/speech_pretraining/aligned_corpus.py festvox festvox/package festvox/corpus"; \
		exit 1; }
	mkdir -p festvox/package
	cd festvox && apt-get download festvox-ru && dpkg-deb -x festvox-ru_*.deb package && rm festvox-ru_*.deb
	$(VENV)/bin/python examples/asr/speech_pretraining/aligned_corpus.py festvox festvox/package festvox/corpus

test: $(READY)
	$(PYTEST) $(TESTS)

quick: $(READY)
	$(PYTEST) -m "not slow and not documents" $(TESTS)

nemo-tests: $(READY)
	$(VENV)/bin/python tests/tools/nemo_suite.py

patched-tests: $(READY)
	rm -rf build/patched
	mkdir -p build/patched
	cp -r $$($(VENV)/bin/python -c "import importlib.util as u; print(u.find_spec('nemo').submodule_search_locations[0])") build/patched/
	$(VENV)/bin/python -m nemo_overlay apply build/patched
	NEMO_OVERLAY=0 PYTHONPATH=$(CURDIR)/build/patched $(PYTEST) tests/collections tests/core tests/examples tests/utils \
		--ignore tests/collections/asr/parts/utils/test_stock_nemo.py

lint: $(READY)
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python tests/tools/type_check.py

$(READY): requirements.txt setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	sed 's/^nemo_toolkit.*/nemo_toolkit[asr]==$(NEMO)/' requirements.txt > $(VENV)/requirements.txt
	$(VENV)/bin/python -m pip install --requirement $(VENV)/requirements.txt
	$(VENV)/bin/python -m pip install --no-build-isolation --no-deps --editable .
	touch $(READY)

clean:
	rm -rf .venv .venv-nemo-* demo build dist *.egg-info
