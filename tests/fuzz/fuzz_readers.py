"""Feed the readers files that were damaged on purpose, and count what becomes of them.

Every file must end in a volume that fits its header, and in the coarse input that
the first network sees of it, or in an error of ours that names the file. Anything
else is a finding: another exception, a process that dies, a read that takes too
long, memory beyond the cap, a file that appears. A scan whose header says that it
takes more than is allowed is not read, as in use.

    python tests/fuzz/fuzz_readers.py --runs 100000 --seed 1

A finding is printed with its number; ``--only NUMBER`` repeats it alone, and
``--keep FOLDER`` keeps the files of findings. Exit code 1 if there was any.
"""

import argparse
import collections
import contextlib
import gzip
import itertools
import logging
import multiprocessing
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SHAPE = (3, 33, 34)
SPACING_MM = (3.0, 2.0, 1.5)
MEMORY_BYTES = 1 << 30
PLAN_BYTES = 3 << 28  # what scans are planned for, so that a plan that is far too low shows
SECONDS = 60
BOMB_BYTES = 64 << 20
EMPTY_MEMBERS = 200_000
BATCH = 500

NUMBERS = [
    struct.pack(order + kind, value)
    for order in "<>"
    for kind, values in {
        "h": (0, 1, -1, 32767, -32768, 348, 540),
        "i": (0, 1, -1, 2**31 - 1, -(2**31), 65536),
        "q": (-1, 2**63 - 1, -(2**63), 2**40),
        "f": (0.0, -1.0, 1e-8, 1e-3, 1e38, -1e38, 1e-38, float("nan"), float("inf"), 352.5),
        "d": (1e300, float("nan"), float("-inf")),
    }.items()
    for value in values
]
WORDS = [
    b"/etc/passwd", b"../secret.raw", b"LIST", b"scan%03d.raw 1 9 1", b"-1", b"0", b"nan", b"inf",
    b"99999999999999999999", b"1e999", b"1e-8", b"none", b"", b" ", b"\xff\xfe", b"a" * 5000,
    b"True", b"4", b"2147483648 2147483648 2147483648", b"(1,0,0) (0,1,0) (0,0,1)", b"bzip2",
    b"raw", b"gzip",
]  # fmt: skip


def make_corpus(folder):
    """Write one good file of each kind; give (name, files) with the first file to be damaged."""
    import dicom_files
    from pydicom import uid

    hu = np.random.default_rng(2).integers(-1000, 900, SHAPE).astype(np.int16)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(SPACING_MM[::-1])
    kinds = {}
    for suffix, packed in itertools.product((".mha", ".mhd", ".nrrd", ".nhdr"), (False, True)):
        place = folder / f"{suffix[1:]}-{'packed' if packed else 'raw'}"
        place.mkdir()
        sitk.WriteImage(image, place / f"scan{suffix}", useCompression=packed)
        kinds[place.name] = sorted(place.iterdir(), key=lambda path: path.suffix != suffix)
    for kind, order, packed in itertools.product(
        (nib.Nifti1Image, nib.Nifti2Image), "<>", (False, True)
    ):
        header = kind.header_class(endianness=order)
        scan = kind(hu.T.astype(np.float32), np.diag([-1.5, -2, 3, 1]), header)
        if order == "<":
            scan.header.set_slope_inter(2.0, -1024.0)
            scan.set_data_dtype(np.uint16)
        place = folder / f"{kind.__name__.lower()}-{'big' if order == '>' else 'little'}"
        place = place.with_name(f"{place.name}-{'packed' if packed else 'raw'}")
        place.mkdir()
        path = place / f"scan.nii{'.gz' if packed else ''}"
        nib.save(scan, path)
        kinds[place.name] = [path]
    encodings = {"raw": None, "rle": uid.RLELossless, "jpegls": uid.JPEGLSLossless}
    encodings["jpeg2000"] = uid.JPEG2000Lossless
    for name, encoding in encodings.items():
        place = folder / f"dicom-{name}"
        kinds[place.name] = dicom_files.write_series(place, hu, SPACING_MM, compress=encoding)
    enhanced = dicom_files.enhanced_dataset(hu, SPACING_MM)
    kinds["dicom-enhanced"] = dicom_files.save(folder / "dicom-enhanced", [enhanced])
    return {
        name: [(path.name, path.read_bytes()) for path in paths] for name, paths in kinds.items()
    }


def choose_kind(rng, kinds):
    """Choose what to damage; compressed DICOM seldom, as each costs a process."""
    slow = [name for name in kinds if name.startswith(("dicom-rle", "dicom-jpeg"))]
    fast = [name for name in kinds if name not in slow]
    return str(rng.choice(slow if rng.random() < 0.002 else fast))


def damage(rng, content, others):
    """Give a file's bytes, damaged in one to four ways."""
    if content.startswith(b"\x1f\x8b") and rng.random() < 0.7:
        return repack(rng, damage(rng, gzip.decompress(content), others))
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        ways = (flip, overwrite, cut, grow, splice)
        if content[:200].isascii():
            ways += (change_line, repeat_line) * 3
        content = rng.choice(np.array(ways, object))(rng, content, others)
        if not content:
            break
    return bytes(content)


def place_in(rng, content):
    """Choose a byte, mostly in the header."""
    end = len(content) if rng.random() < 0.3 else min(len(content), 1000)
    return int(rng.integers(0, max(1, end)))


def flip(rng, content, _):
    for _ in range(rng.integers(1, 9)):
        content[place_in(rng, content) % len(content)] ^= 1 << int(rng.integers(0, 8))
    return content


def overwrite(rng, content, _):
    number = NUMBERS[rng.integers(len(NUMBERS))]
    start = place_in(rng, content) & ~1
    content[start : start + len(number)] = number
    return content


def cut(rng, content, _):
    start = place_in(rng, content)
    end = len(content) if rng.random() < 0.5 else start + int(rng.integers(1, 64))
    del content[start:end]
    return content


def grow(rng, content, _):
    start = place_in(rng, content)
    content[start:start] = rng.bytes(int(rng.integers(1, 64)))
    return content


def splice(rng, content, others):
    other = others[rng.integers(len(others))]
    start = place_in(rng, content)
    content[start : start + 64] = other[start : start + 64]
    return content


def header_lines(content):
    end = content.find(b"\n\n") if content.startswith(b"NRRD") else content.find(b"ElementDataFile")
    end = content.find(b"\n", max(end, 0)) if end >= 0 else min(len(content), 1000)
    return content[:end].split(b"\n"), content[end:]


def change_line(rng, content, _):
    lines, rest = header_lines(content)
    index = int(rng.integers(len(lines)))
    sign = b": " if content.startswith(b"NRRD") else b" = "
    key, found, value = bytes(lines[index]).partition(sign)
    words = value.split(b" ")
    words[rng.integers(len(words))] = WORDS[rng.integers(len(WORDS))]
    lines[index] = bytearray(key + found + b" ".join(words))
    return bytearray(b"\n".join(lines) + rest)


def repeat_line(rng, content, _):
    lines, rest = header_lines(content)
    index = int(rng.integers(len(lines)))
    if rng.random() < 0.5:
        lines.insert(index, lines[rng.integers(len(lines))])
    else:
        del lines[index]
    return bytearray(b"\n".join(lines) + rest)


def repack(rng, content):
    """Compress damaged content again, so that what is inside is reached; now and then as a bomb."""
    if rng.random() < 0.005:
        content += bytes(BOMB_BYTES)
    parts = [content]
    chance = rng.random()
    if chance < 0.1:
        middle = int(rng.integers(0, len(content) + 1))
        parts = [content[:middle], content[middle:]]
    elif chance < 0.15:
        size = int(rng.integers(20, 2000))
        parts = [content[start : start + size] for start in range(0, len(content), size)]
    elif chance < 0.155:  # empty ones before, between or behind
        parts.insert(int(rng.integers(0, 2)), b"")
        empty = b"".join(itertools.repeat(gzip.compress(b"", 1), EMPTY_MEMBERS))
        return b"".join(gzip.compress(part, 1) if part else empty for part in parts)
    return b"".join(gzip.compress(part, 1) for part in parts)


def try_once(number, seed, kinds, folder, keep):
    """Damage one file, read it, and give what became of it."""
    from app.cascade.memory import PROGRAM_BYTES, plan_memory
    from app.config import LOCATE, SEGMENT
    from app.errors import InputError, MemoryLimitError
    from app.imaging.io import peek, read_scan
    from app.imaging.preprocess import network_input

    rng = np.random.default_rng([seed, number])
    kind = choose_kind(rng, kinds)
    files = kinds[kind]
    others = [content for members in kinds.values() for _, content in members]
    for path in folder.iterdir():
        path.unlink()
    for index, (name, content) in enumerate(files):
        (folder / name).write_bytes(damage(rng, content, others) if index == 0 else content)
    expected = {name for name, _ in files}
    target = folder if kind.startswith("dicom") else folder / files[0][0]
    outcome = "volume"
    signal.alarm(SECONDS)
    try:
        header = peek(target)
        plan_memory(header, locate=LOCATE, segment=SEGMENT, limit_bytes=PROGRAM_BYTES + PLAN_BYTES)
        scan, _ = read_scan(target)
        coarse = network_input(scan, LOCATE)
        if coarse.dtype != np.float32 or not np.isfinite(coarse).all():
            outcome = "FINDING: the network's input is no image"
        if scan.array.dtype != np.int16 or scan.array.size != np.prod(header.geometry.shape):
            outcome = "FINDING: volume does not fit its header"
    except (InputError, MemoryLimitError) as error:
        outcome = type(error).__name__
        if str(folder) not in str(error):
            outcome = f"FINDING: names no file: {error}"
    except Exception as error:  # noqa: BLE001  what is looked for
        outcome = f"FINDING: {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    if {path.name for path in folder.iterdir()} != expected:
        outcome = "FINDING: files appeared or went"
    if keep is not None and outcome.startswith("FINDING"):
        shutil.copytree(folder, keep / str(number), dirs_exist_ok=True)
    return kind, outcome


def work(numbers, seed, kinds, folder, keep, begun, results):
    """Try many in a process of its own, under the memory cap."""

    def give_up(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    logging.disable()
    warnings.simplefilter("error")
    signal.signal(signal.SIGALRM, give_up)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES,) * 2)
    for number in numbers:
        begun.value = number
        results.send((number, *try_once(number, seed, kinds, folder, keep)))
    results.close()


def try_all(numbers, seed, kinds, folder, keep):
    """Try many; a process that dies is a finding, and another one goes on after it."""
    context = multiprocessing.get_context("fork")
    while numbers:
        begun = context.Value("q", numbers[0])
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=work, args=(numbers[:BATCH], seed, kinds, folder, keep, begun, sender)
        )
        process.start()
        sender.close()
        num_done = 0
        with contextlib.suppress(EOFError):
            while True:
                yield receiver.recv()
                num_done += 1
        process.join()
        sys.stderr.write(f"\r{begun.value} ")
        if process.exitcode:
            yield begun.value, "?", f"FINDING: process died with code {process.exitcode}"
            num_done += 1
        numbers = numbers[num_done:]


def fuzz(numbers, seed, keep=None):
    """Try many damaged files.

    Returns
    -------
    Counter
        How often each kind of file had each outcome.
    list of str
        What was found.
    """
    # Loaded once, and before memory is capped.
    import app.cascade.memory
    import app.imaging.dicom
    import app.imaging.preprocess  # noqa: F401

    tally, findings = collections.Counter(), []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "secret.raw").write_bytes(bytes(2 * int(np.prod(SHAPE))))
        corpus, folder = base / "corpus", base / "input"
        corpus.mkdir()
        folder.mkdir()
        kinds = make_corpus(corpus)
        # Ctrl-C ends a long run with what it has found so far.
        with contextlib.suppress(KeyboardInterrupt):
            for number, kind, outcome in try_all(list(numbers), seed, kinds, folder, keep):
                is_finding = outcome.startswith("FINDING")
                tally[kind, "finding" if is_finding else outcome] += 1
                if is_finding:
                    findings.append(f"{number} {kind}: {outcome}")
                    sys.stdout.write(findings[-1][:300] + "\n")
                    sys.stdout.flush()
        if {path.name for path in base.iterdir()} != {"secret.raw", "corpus", "input"}:
            findings.append("files appeared outside the folder")
    return tally, findings


def main():
    """Read the command line, fuzz, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="go on from this number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="NUMBER")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    numbers = range(arguments.first, arguments.runs)
    if arguments.only is not None:
        numbers = [arguments.only]
    started = time.perf_counter()
    tally, findings = fuzz(numbers, arguments.seed, arguments.keep)
    outcomes = sorted({outcome for _, outcome in tally})
    lines = ["kind".ljust(28) + "".join(outcome.rjust(24) for outcome in outcomes)]
    for kind in (*sorted({kind for kind, _ in tally}), "all"):
        counts = [
            sum(
                num
                for (one, what), num in tally.items()
                if what == outcome and kind in (one, "all")
            )
            for outcome in outcomes
        ]
        lines.append(kind.ljust(28) + "".join(str(count).rjust(24) for count in counts))
    lines.append(f"{tally.total()} files in {time.perf_counter() - started:.0f} s")
    lines.append(f"{len(findings)} finding(s)")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
