"""Cut the small image set that the package carries out of the published Fashion-MNIST files.

    python examples/make_embedded_set.py FOLDER [TARGET]

FOLDER holds the four published files (train-images-idx3-ubyte.gz and so on). The first 10,000 training and the first 2,000 test images are
written as idx files, gzipped at level 9 without a time stamp, so that the same input gives the same bytes (for one version of zlib).
"""

import gzip
import io
import sys
from pathlib import Path

COUNTS = {"train": 10_000, "t10k": 2_000}
PACKAGE_FOLDER = Path(__file__).parents[1] / "efcn_kernels" / "study" / "data" / "embedded"


def cut(content: bytes, count: int) -> bytes:
    """The first `count` items of an idx file of unsigned bytes, with their own header."""
    rank = content[3]
    extents = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    item = 1
    for extent in extents[1:]:
        item *= extent
    start = 4 + 4 * rank
    return content[:4] + count.to_bytes(4, "big") + content[8:start] + content[start : start + count * item]


def zipped(content: bytes) -> bytes:
    """Deterministic gzip: no name, no time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def main(source: Path, target: Path) -> None:
    """Write the four files into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    for stem, count in COUNTS.items():
        for kind in ("images-idx3", "labels-idx1"):
            name = f"{stem}-{kind}-ubyte.gz"
            (target / name).write_bytes(zipped(cut(gzip.decompress((source / name).read_bytes()), count)))


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else PACKAGE_FOLDER)
