#!/bin/sh
# Entry point of the container, and the challenge's `sh predict.sh`.
#
#   (nothing), --option ...   segment the mounted scans; options go to `predict`
#   predict, preview or info ...   run that command
#   anything else             run it as it stands, such as /bin/bash -c "sh predict.sh"
#
# Scans are looked for in inputs/ beside this file (the challenge's convention), else in /inputs.

here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"

case ${1-} in
    "" | -*) ;;
    predict | preview | info) exec python3 -m app "$@" ;;
    *) exec "$@" ;;
esac

inputs=/inputs outputs=/outputs
if [ -d "$here/inputs" ]; then
    inputs=$here/inputs outputs=$here/outputs
fi
for folder in "$inputs" "$outputs"; do
    if [ ! -d "$folder" ]; then
        echo "No folder $folder. Mount one: docker run --rm -m 8g" \
            "-v \"\$PWD/inputs:/inputs:ro\" -v \"\$PWD/outputs:/outputs\" IMAGE" >&2
        exit 2
    fi
done
set -- python3 -m app predict --input "$inputs" --output "$outputs" "$@"

# Started as root, step down to the owner of the output folder, so that the results are theirs.
# Root stays root where that is the owner, where stepping down is not allowed, or where the owner
# may not read the scans; then `predict` hands every file over as it is written.
owner=$(stat -c %u "$outputs") group=$(stat -c %g "$outputs")
if [ "$(id -u)" != 0 ] || [ "$owner" = 0 ]; then
    exec "$@"
fi
step_down="setpriv --reuid $owner --regid $group --clear-groups --no-new-privs"
if [ -z "$($step_down find "$inputs" ! -readable -print -quit 2>&1)" ]; then
    exec $step_down "$@"
fi
exec "$@"
