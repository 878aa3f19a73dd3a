# `make demo` shows a model forget; `make test` runs the tests, `make lint` the linter and the type checker; `make docs`
# builds the documentation. All install into .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: install demo lint test test-slow docs bench leaderboard picture clean

install: $(VENV)/installed

$(VENV)/installed: setup.cfg constraints.txt
	@$(PYTHON) -c "import sys; sys.exit('mubench needs Python 3.10 or newer, this is ' + sys.version.split()[0] + ': make PYTHON=python3.11 …' if sys.version_info < (3, 10) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

demo: install
	$(BIN)/mubench run fashion original,retrain,finetune,neggrad,neggrad_plus,rand_label,bad_t,scrub,salun --ratio 5 --out results/demo

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@rm -rf build/types && mkdir -p build/types/mubench  # the rooms under one name, as the type checker must see them
	@ln -s "$(CURDIR)"/mubench/* "$(CURDIR)"/tasks "$(CURDIR)"/methods "$(CURDIR)"/leaderboard build/types/mubench/
	$(BIN)/mypy

test: install
	$(BIN)/mubench fetch movie_snippets drug_interactions
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: install
	$(BIN)/mubench fetch movie_snippets drug_interactions
	$(BIN)/python -m pytest -m slow
	MUBENCH_FUZZ=1 $(BIN)/python -m pytest tests/leaderboard/test_hostile.py

docs: install
	$(BIN)/mkdocs build --strict

bench: install
	for file in tests/benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

leaderboard: install
	$(BIN)/mubench board leaderboard/results $(wildcard leaderboard/submissions) --out leaderboard --site build/site
	$(BIN)/python docs/_findings.py

picture: leaderboard  # the README's: of the site's first page, in 128 colours; needs Chromium
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,1450 --screenshot=docs/leaderboard.png build/site/index.html
	$(BIN)/python -c "from PIL import Image; p = 'docs/leaderboard.png'; Image.open(p).convert('RGB').quantize(128).save(p, optimize=True)"

clean:
	rm -rf $(VENV) *.egg-info build .pytest_cache
