#!/bin/sh
# The command `pugd` of an installation: its own Python, nothing from the directory it is called in, and its settings.
if [ -z "${PUGD_CONFIG+given}" ] && [ -r @CONFDIR@/pugd.toml ]; then
    export PUGD_CONFIG=@CONFDIR@/pugd.toml
fi
PYTHONSAFEPATH=1 exec @PREFIX@/bin/python -m pugd "$@"
