"""``python -m iarn_basicsr.benchmark``."""

from .run import main

if __name__ == '__main__':
    raise SystemExit(main())
