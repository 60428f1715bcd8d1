#!/bin/sh
# Pin what pyproject.toml asks for, and all that it needs in turn: run.txt, train.txt, dev.txt.
# Each file holds the one before it. What ships, run.txt, is pinned by hash too; the others are
# not, as torch's wheel is another one on each index that keeps it.
# Usage: requirements/lock.sh path/to/pip-compile [--upgrade]
set -eu
compile="$1 --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links
    --no-emit-trusted-host --no-emit-options --strip-extras --allow-unsafe ${2-}"
folder=$(dirname "$0")
project=$folder/../pyproject.toml

$compile --generate-hashes --output-file "$folder/run.txt" "$project"
$compile --extra train --constraint "$folder/run.txt" --output-file "$folder/train.txt" "$project"
$compile --extra train --extra dev --constraint "$folder/train.txt" \
    --output-file "$folder/dev.txt" "$project"

# One pin for every build of torch: `2.13.0+cpu` exists only where CPU wheels are kept.
sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' "$folder"/*.txt
