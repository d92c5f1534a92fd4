"""What `make mutants` found, a line for each file: how many changes to the code the tests see."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from mutmut.stats import status_by_exit_code

COLUMNS = ("killed", "timeout", "survived", "no tests", "not checked")
_DID_NOT_RUN = 255
"""What a worker ends with whose tests could not be started: it has checked nothing."""


def main(folder: Path = Path("mutants")) -> None:
    """Prints the counts of every mutated file and of all together; a mutant that never ends is seen, too."""
    found = {
        str(path.relative_to(folder).with_suffix("")): Counter(
            "not checked" if code == _DID_NOT_RUN else status_by_exit_code[code]
            for code in json.loads(path.read_text("utf-8"))["exit_code_by_key"].values()
        )
        for path in sorted(folder.rglob("*.py.meta"))
    }
    counted = {name: counts for name, counts in found.items() if counts}
    counted["all"] = sum(counted.values(), Counter())
    print(f"{'':32}{'score':>8}" + "".join(f"{column:>13}" for column in COLUMNS))
    for name, counts in counted.items():
        checked = sum(counts[column] for column in COLUMNS) - counts["not checked"]
        score = f"{(counts['killed'] + counts['timeout']) / checked:.1%}" if checked else "-"
        print(f"{name:32}{score:>8}" + "".join(f"{counts[column]:>13}" for column in COLUMNS))


if __name__ == "__main__":
    main()
