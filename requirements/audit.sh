#!/bin/sh
# Ask the package index's advisory service about every pinned package.
# Fails where a package has a known vulnerability; says so where the service does not answer.
# Usage: requirements/audit.sh path/to/pip-audit
set -eu
folder=$(dirname "$0")
told=$("$1" --no-deps --disable-pip --progress-spinner off --requirement "$folder/run.txt" 2>&1) \
    && code=0 || code=$?
echo "$told"
case $told in
    *"could not be audited"*) echo "NOT AUDITED: what the list above skips" ; exit "$code" ;;
    *"known vulnerabilit"*) exit "$code" ;;
    *) echo "NOT AUDITED: the advisory service could not be asked" ;;
esac
