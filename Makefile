# One command each: demo, test, test-quick, full, hostile, check, docs, bench. Each sets up what it needs first (see tools/setup).

PY := .venv/bin/python
# Python keeps what it compiles: the workers of a test run share it, and benchmarks measure starts as users meet them.
export PYTHONDONTWRITEBYTECODE :=
PYTEST_FLAGS ?=
# The same tests come at every commit, with the same examples, as they stand in their files. ORDER=word: in another order.
# `make full` has examples of its own each time: EXAMPLES=number repeats them.
EXAMPLES ?= 0
ORDER ?=
# Two workers for each CPU: many tests wait, for a limit of time or for another process to end.
WORKERS ?= $(shell echo $$((2 * $$(nproc) < 8 ? 2 * $$(nproc) : 8)))
QUICK = $(addprefix tests/,policies vfs oscalls controller boxes costs drivers exchange process wire seal/test_golden.py) \
	$(addprefix --ignore=tests/,vfs/test_commits_cut_off.py vfs/test_commit_journals.py oscalls/test_hostile.py)
# For the inner loop: what needs no box or few, and tests/smoke, which has one run of each kind.
INNER = $(QUICK) $(addprefix tests/,smoke terminal cli seal/test_bpf.py api/test_run.py kernel/test_sanitising.py \
	repl/test_start.py packaging teach) \
	$(addprefix --ignore=tests/,cli/test_boxed.py oscalls/test_memory_attacks.py vfs/test_commit_places.py) \
	$(patsubst %,--ignore=tests/packaging/test_%.py,archives build setup sizes snippets) \
	$(patsubst %,--ignore=tests/teach/test_%.py,asking cheating cluster commands exercise exercises grading \
	hostile_archives hostile_rules notebooks plugin)
SHUFFLE = $(if $(ORDER),--random-order-bucket=module --random-order-seed=$(ORDER))
HOSTILE_FLAGS ?=
SOAK_FLAGS ?=
FUZZ_FLAGS ?=

#: What the tests of agents' libraries, and those in browsers, need.
AGENTS = agents, inspect_ai, langchain_core, pydantic_ai, smolagents
BROWSERS = axe_playwright_python, playwright

.PHONY: help setup demo test test-quick full orders hostile check format docs bench soak fuzz extras agents browser sizes mutants clients man policies words calls twins dist clean

help:
	@echo 'make demo       set up, then run untrusted programs in boxes and show what happens'
	@echo 'make test       set up, then run the tests (PYTEST_FLAGS="-k word" for some of them; ORDER=word for another order)'
	@echo 'make test-quick those for the inner loop: two minutes at the most, with one run of each kind'
	@echo 'make full       before a release: all of each sweep, whole tables, every attack, the tests of the standard library'
	@echo 'make orders     some of them that need few boxes, in another order: ORDER=word'
	@echo 'make hostile    every attack with the layers on and off, as root and as another user; one table'
	@echo 'make check      linters, types and compiler warnings'
	@echo 'make format     format the Python sources'
	@echo 'make docs       the documents and the reference of the API as one site, in build/site'
	@echo 'make bench      measure'
	@echo 'make soak       2,000 boxes in one controller, and what it holds of the host'
	@echo 'make fuzz       fuzz for ten minutes (FUZZ_FLAGS="--seconds 3600" for an hour)'
	@echo 'make extras     install what some tests need besides: the libraries of agents, Playwright'
	@echo 'make agents     the same, and test our tools and executors for agents'
	@echo 'make browser    the same, and test the pages of the classroom in Chromium and Firefox, which must be here'
	@echo 'make clients    clients that generators make of the service'\''s description (npm): checked, and run'
	@echo 'make mutants    change the code in one place after the other, and count what no test notices (CONTRIBUTING.md)'
	@echo 'make sizes      tests and lines of each part of the suite, and what it may have'
	@echo 'make man        write the manual page and the tables of docs/cli.md and docs/grades.md anew'
	@echo 'make policies   write the tables of docs/policies.md anew, from what is declared of each field of a policy'
	@echo 'make words      bring the translations of the classroom up to date with its texts, and tell what lacks one'
	@echo 'make calls      write the table of OS calls anew, from their rows (docs/calls.md)'
	@echo 'make twins      write proxybox/remote/client.py anew, from what aclient.py has for event loops'
	@echo 'make dist       source distribution and wheel, in dist/'
	@echo 'make clean      remove what was built (.venv stays)'

setup:
	@tools/setup

demo: setup
	@$(PY) examples/demo.py

test: setup
	@$(PY) -m tests.gate -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(SHUFFLE) --hypothesis-seed=$(EXAMPLES) $(PYTEST_FLAGS)

test-quick: setup
	@$(PY) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(SHUFFLE) $(PYTEST_FLAGS) $(INNER)

# With the extras. What follows the tests are tables: each says what is not as it is to be, and all are made.
full: extras
	@status=0; \
	PROXYBOX_FULL=1 $(MAKE) --no-print-directory test EXAMPLES=$$(date +%s) PYTEST_FLAGS='--sizes $(PYTEST_FLAGS)' || status=1; \
	$(MAKE) --no-print-directory hostile || status=1; \
	for guest in pypy cpython; do $(PY) tests/stdlib/compare.py --guest $$guest || status=1; done; \
	$(MAKE) --no-print-directory clients || status=1; \
	exit $$status

# In the order of the commit, unless ORDER says another one: it looks for tests that depend on others.
orders: ORDER := $(or $(ORDER),$(shell git rev-parse --short=10 HEAD 2>/dev/null),release)
orders: setup
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(SHUFFLE) $(PYTEST_FLAGS) $(QUICK) || \
		{ status=$$?; echo 'this order again: make orders ORDER=$(ORDER)'; exit $$status; }

hostile: setup
	@$(PY) tests/hostile/table.py $(HOSTILE_FLAGS)

check: setup
	$(PY) -m ruff check --output-format concise .
	$(PY) -m ruff format --check --quiet --output-format concise .
	$(PY) -m mypy
	$(PY) proxybox/guest/build.py --check
	$(PY) tools/stublayers.py
	@tools/tidy
	@tools/javascript/check

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# Strict: a link that leads nowhere, or a public name without a description, is an error.
docs: setup
	@$(PY) -c 'import mkdocstrings_handlers.python' 2>/dev/null || { \
		echo 'docs: installing mkdocs and what it needs into .venv'; \
		$(PY) -m pip install --quiet --disable-pip-version-check -e '.[docs]'; }
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build  # with --quiet it would not see its own warnings
	@echo 'docs: the site is in build/site; to read it, with its search: python3 -m http.server -d build/site'

bench: setup
	@tools/peers
	@$(PY) -m benchmarks

soak: setup
	@nice $(PY) tests/soak/soak.py $(SOAK_FLAGS)

fuzz: setup
	@$(PY) -c 'import atheris' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@$(PY) tests/fuzz/run.py $(FUZZ_FLAGS)

# Some 400 MB of libraries, which proxybox itself does not need: `make test` leaves out what they are not there for.
# Playwright drives the browsers of this machine, and downloads none.
extras: setup
	@$(PY) -c 'import $(AGENTS), $(BROWSERS)' 2>/dev/null || { \
		echo 'extras: installing the libraries of agents, and Playwright, into .venv'; \
		$(PY) -m pip install --quiet --disable-pip-version-check -e '.[agents-tests,browser]'; }

agents: extras
	@$(PY) -m pytest -q -n auto --dist loadfile $(PYTEST_FLAGS) tests/agents

browser: extras
	@for each in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$each >/dev/null && exit 0; done; \
		echo 'browser: there is no Chromium here: apt install chromium, or the package of it that your system has'; exit 1
	@$(PY) -m pytest -q -n auto --dist loadfile $(PYTEST_FLAGS) tests/classroom/browser

# Generators and what they need come from PyPI and npm, into a folder that is removed afterwards.
clients: setup
	@nice $(PY) -m tests.clients.run

# In a copy of the sources. cosmic-ray and coverage come from PyPI, into build/.
mutants: setup
	@rm -rf build/mutants && mkdir -p build/mutants
	@test -d build/site || $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --target build/site cosmic-ray coverage parso
	@tar -c --exclude=./.venv --exclude=./.git --exclude=./build . | tar -x -C build/mutants
	@cd build/mutants && PYTHONPATH=../site nice ../../$(PY) -m tools.mutants --report ../mutants.jsonl $(MUTANTS)

man: setup
	@$(PY) -m tools.manpage

policies: setup
	@$(PY) -m tools.policytables

words: setup
	@$(PY) tools/words.py

calls: setup
	@$(PY) tools/calls.py

twins: setup
	@$(PY) tools/unasync.py

dist: setup
	$(PY) -m build

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f proxybox/guest/_launcher proxybox/guest/_*.so
