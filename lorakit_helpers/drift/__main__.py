"""``python -m lorakit_helpers.drift``: what the installed libraries no longer have; 1 when something is gone."""

import argparse
import json
import sys

from ..start import start
from .check import check


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lorakit_helpers.drift", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    start("cpu")  # quiet libraries
    report = check()
    if options.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        unread = [f"{path}: nothing says that **kwargs is read for {name}" for path, name in report.unread]
        print(*report.findings, *unread, report, sep="\n")
    return 1 if report.findings or report.unread else 0


if __name__ == "__main__":
    sys.exit(main())
