"""Do weights know the patients they were trained on better than others?

Makes scans of patients in the training set, drawn as `synthesize --bank` draws those of held-out
ones: contents, disease and appearance that training never showed. Predict and score both alike;
the difference is what the network learned of single patients.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.data.held_out import write_held_out
from app.data.splits import split_anatomies


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for path in write_held_out(
        options.bank,
        options.manifest,
        options.output,
        patients=split_anatomies(options.manifest).train,
        limit=options.count,
        seed=options.seed,
    ):
        print(path, flush=True)


if __name__ == "__main__":
    main()
