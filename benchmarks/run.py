"""``tox run -e bench -- NAME [options]``: run one benchmark of this folder."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
NOT_BENCHMARKS = {"run", "evaluation", "measuring", "modelopt_quantize"}


def main() -> int:
    """Run ``NAME.py`` as a program; without a name that exists, list them."""
    names = sorted(p.stem for p in HERE.glob("*.py") if '__name__ == "__main__"' in p.read_text(encoding="utf-8"))
    names = [name for name in names if name not in NOT_BENCHMARKS]
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(f"usage: tox run -e bench -- NAME; NAME is one of {', '.join(names)}", file=sys.stderr)
        return 2
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    del sys.argv[0]
    runpy.run_path(str(HERE / f"{sys.argv[0]}.py"), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
