#!/bin/sh
# Ask the package index's advisory service about every pinned package.
# Usage: requirements/audit.sh path/to/pip-audit
# Exit code: 0 every package was asked about and none has a known vulnerability, 1 some has,
# 3 not all could be asked about.
set -eu
folder=$(dirname "$0")
told=$("$1" --no-deps --disable-pip --progress-spinner off --requirement "$folder/run.txt" 2>&1) \
    && code=0 || code=$?
echo "$told"
case $code:$told in
    *:*"Found "*"known vulnerabilit"*) exit 1 ;;
    0:*"could not be audited"*) what="what the list above skips" ;;
    0:*"No known vulnerabilities found"*) exit 0 ;;
    *) what="the advisory service did not answer, so nothing is known of any package" ;;
esac
rule="**********************************************************************"
printf '%s\nNOT AUDITED: %s\n%s\n' "$rule" "$what" "$rule" >&2
exit 3
