"""Do weights know the patients they were trained on better than others?

Makes scans of patients in the training set, drawn as `synthesize --bank` draws those of held-out
ones: contents, disease and appearance that training never showed. Predict and score both alike;
the difference is what the network learned of single patients.
"""

import argparse
import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.data import held_out
from app.data.splits import Split, split_anatomies


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    split = split_anatomies(options.manifest)
    turned = Split(train=split.held_out, held_out=split.train)
    with mock.patch.object(held_out, "split_anatomies", return_value=turned):
        for path in held_out.write_held_out(
            options.bank, options.manifest, options.output, limit=options.count, seed=options.seed
        ):
            print(path, flush=True)


if __name__ == "__main__":
    main()
