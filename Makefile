# make lab      open the lessons in JupyterLab (LESSONS=zh: in Chinese)
# make test     lint, check the collected modules, run the tests and every lesson
#               (SLOW=1: the slow ones, too; PYTEST_ARGS="-k setup": passed to pytest)
# make doctor   check the installation and say how to fix it
# make setup    create .venv, and no more (PYTHON=/path/to/python3.12: with that Python;
#               CPU=1: without CUDA libraries, which saves 3 GB on Linux without a GPU)
# make bench    run the benchmarks
# make cifar10  download CIFAR-10 (170 MB) into data/ (URL=...: from a mirror)
# make answers  save your answers to the exercises (RESTORE=1: restore them)
# make update   get the newest lessons, and restore your answers into them
# make student  copy the lessons without solutions to student/
# make notebooks  collect the lessons' helpers, then execute and store the lessons
# make translations  bring the Chinese edition up to date, and list what it lacks
# make book     build a site of all stored lessons: build/book/index.html
# make lock     compile requirements.lock (UPGRADE=1: with the newest releases)

PY := .venv/bin/python
SETUP := PYTHON='$(PYTHON)' CPU='$(CPU)' sh tools/setup.sh
# How long threads spin before they sleep (see d2lext/__init__.py), if torch comes first.
export GOMP_SPINCOUNT ?= 3000
# Lets `!pip`, terminals and subprocesses find this environment's programs.
RUN := PATH="$$PWD/.venv/bin:$$PATH" $(PY)

.PHONY: setup lab test bench doctor cifar10 answers update student notebooks \
	translations book lock FORCE
.DEFAULT_GOAL := lab

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml tools/setup.sh \
		$(if $(shell $(SETUP) --stale),FORCE)
	@$(SETUP)

lab: .venv/.ready
	@$(RUN) -m d2lext lab $(if $(filter zh,$(LESSONS)),--zh) $(LAB_ARGS)

# loadfile keeps the cells of a lesson, which share a kernel, on one worker.
test: .venv/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m tools.collect --check
	D2LEXT_CIFAR10=sample D2LEXT_RUNS= SLOW='$(SLOW)' $(RUN) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

bench: .venv/.ready
	@for script in tools/bench/*.py; do \
		[ -e "$$script" ] || continue; \
		echo "== $$script"; $(RUN) "$$script" || exit 1; \
	done

doctor: .venv/.ready
	@$(RUN) -m d2lext doctor

cifar10: .venv/.ready
	@$(RUN) -m d2lext cifar10 $(if $(URL),--url '$(URL)')

answers: .venv/.ready
	@$(RUN) -m d2lext answers $(if $(RESTORE),restore,save)

update student: .venv/.ready
	@$(RUN) -m d2lext answers $@

notebooks: .venv/.ready
	$(RUN) -m tools.address
	$(RUN) -m tools.collect
	$(RUN) -m tools.execute
	$(RUN) -m tools.translate

translations: .venv/.ready
	$(RUN) -m tools.translate

# Warnings are errors: a broken link, a missing image.
book: .venv/.ready
	$(RUN) -m sphinx -q -W --keep-going -c tools/site . build/book
	$(RUN) -m sphinx -q -W --keep-going -c tools/site -t zh . build/book/zh
	@echo "open build/book/index.html"

# Needs only uv, so that a lock that no longer installs can still be compiled.
lock:
	@[ -x .venv/bin/uv ] || $(SETUP)
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras \
		--no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
		pyproject.toml -o requirements.lock
