"""Rewrite run records in the newest schema. Reading migrates them anyway; this is for those that a repository keeps.

python scripts/migrate_records.py docs/results/records
"""

from __future__ import annotations

import sys
from pathlib import Path

from enginegate.storage.runs import RECORD_NAME, load_record, save_record


def main(folders: list[str]) -> int:
    """Rewrite every record below the folders; the exit code."""
    if not folders:
        print(__doc__)
        return 2
    for folder in folders:
        for path in sorted(Path(folder).glob(f"*/{RECORD_NAME}")):
            record, before = load_record(path), path.read_text(encoding="utf-8")
            if path.parent.name != record.id:
                print(f"{path}: left alone, it is of run {record.id}")
                continue
            save_record(record, path.parents[1])
            print(f"{path}: {'rewritten' if path.read_text(encoding='utf-8') != before else 'as it was'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
