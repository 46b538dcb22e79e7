"""The short form of the soak; `make nightly` runs the long one."""
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).resolve().parent / "soak.py"
REQUESTS = 5000


def test_nothing_is_left_behind():
    done = subprocess.run([sys.executable, SOAK, "--requests", str(REQUESTS)], capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
