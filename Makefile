# pugd: `make run` starts it, `make test` tests it. Settings pass through the environment (PUGD_…, docs/settings.md).

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.run-installed
TESTED := $(VENV)/.test-installed
BUILT := native/build/.built
NATIVE := $(wildcard native/*.c native/*.h native/pugd.cdef native/build.py)
PIP := $(PY) -m pip --disable-pip-version-check --no-input

# make install
PREFIX ?= /opt/pugd
BINDIR ?= /usr/local/bin
UNITDIR ?= /etc/systemd/system
CONFDIR ?= /etc/pugd

.PHONY: help run demo test soak check native install settings lock clean
.DEFAULT_GOAL := help

help:  ## show this
	@echo 'pugd: one timeline per person. Targets:'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

run: $(BUILT)  ## install what is missing, then run pugd here; data in ./data
	@exec $(PY) -m pugd serve

demo: $(BUILT)  ## send one visitor's story to the running pugd and print the timeline
	@exec $(PY) -m pugd demo

test: $(TESTED) $(BUILT)  ## run every test against the real engines, a core each; ARGS=… goes to pytest
	@exec $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

soak: $(TESTED) $(BUILT)  ## for long: SEEDS=N runs of everything simulated, OPS=N operations of identity; alone, some of both
	@$(if $(OPS),:,PYTHONPATH=.:tests $(PY) -m simulation.soak $(or $(SEEDS),100) $(or $(FIRST),1))
	@$(if $(SEEDS),:,$(PY) tests/identity/soak.py --operations $(or $(OPS),100000) --hypothesis $(or $(EXAMPLES),200) \
		$(if $(SEED),--seed $(SEED)))

check: $(TESTED) $(BUILT)  ## format, lint and types
	@$(PY) -m ruff format --check . && $(PY) -m ruff check . && $(PY) -m mypy

native: $(BUILT)  ## build the native part into pugd/

settings: $(BUILT)  ## write the table of docs/settings.md anew
	@$(PY) -c 'from pugd import config; config.write_table("docs/settings.md")'

lock: $(TESTED)  ## write the exact versions that are installed here into .ci/
	@$(PY) .ci/lock.py

install:  ## install under /opt/pugd with its systemd units (as root; DESTDIR is honoured)
	@python=$$(sh .ci/require) || exit 1; \
	echo "Installing into $(DESTDIR)$(PREFIX): about 1 GB of engines."; \
	install -d "$(DESTDIR)$(PREFIX)" "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(CONFDIR)" && \
	"$$python" -m venv "$(DESTDIR)$(PREFIX)" && \
	"$(DESTDIR)$(PREFIX)/bin/python" -m pip --disable-pip-version-check --no-input install -r .ci/run.lock && \
	"$(DESTDIR)$(PREFIX)/bin/python" -m pip --disable-pip-version-check --no-input install \
		--no-deps --no-build-isolation --force-reinstall . && \
	sed 's|@PREFIX@|$(PREFIX)|g; s|@CONFDIR@|$(CONFDIR)|g' systemd/pugd.sh > "$(DESTDIR)$(BINDIR)/pugd" && \
	chmod 755 "$(DESTDIR)$(BINDIR)/pugd" && \
	for unit in pugd.service pugd.socket; do \
		sed 's|@PREFIX@|$(PREFIX)|g; s|@CONFDIR@|$(CONFDIR)|g' systemd/$$unit > "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	done && \
	{ [ -e "$(DESTDIR)$(CONFDIR)/pugd.toml" ] || install -m 640 systemd/pugd.toml "$(DESTDIR)$(CONFDIR)/pugd.toml"; } && \
	if [ -z "$(DESTDIR)" ]; then \
		getent passwd pugd >/dev/null || useradd --system --user-group --home-dir /var/lib/pugd --no-create-home \
			--shell /usr/sbin/nologin pugd || exit 1; \
		chgrp pugd "$(CONFDIR)/pugd.toml"; \
	fi && \
	echo "Installed. Next: systemctl daemon-reload && systemctl enable --now pugd.socket pugd.service"

clean:  ## remove what was built and installed here; data stays
	@rm -rf $(VENV) native/build build pugd.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@rm -f pugd/_native*.so pugd/_native*.c pugd/_native*.o
	@find pugd tests bench native .ci -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(PY):
	@python=$$(sh .ci/require) || exit 1; \
	echo "Making a virtual environment in $(VENV) with $$("$$python" --version)."; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(INSTALLED): .ci/run.lock | $(PY)
	@echo 'Installing pinned dependencies into $(VENV): about 1 GB, of which the engines (ClickHouse, Postgres) are most.'
	@$(PIP) install -r .ci/run.lock
	@touch $@

$(TESTED): .ci/test.lock $(INSTALLED)
	@echo 'Installing what the tests need.'
	@$(PIP) install -r .ci/test.lock
	@touch $@

$(BUILT): $(NATIVE) $(INSTALLED)
	@sh .ci/require >/dev/null
	@echo 'Building the native part.'
	@$(PY) native/build.py >/dev/null
	@touch $@
